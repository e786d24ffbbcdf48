"""A level shift of the soft directions of S, which removes ghost states from inexact Hamiltonians.

Where S(k) has small eigenvalues s, an error δ of H moves a level by δ/s: a few meV make states tens
of eV below all bands. H′ = H + λ F − μ S raises the soft directions by about λ f(s)/s, with

    f(s) = [τ/(s + τ)]⁴,

analytic in k and in the positions of the atoms, so that velocities and ∂H′/∂u exist everywhere (the
sharp projector onto s < τ jumps where an eigenvalue crosses τ). F is f(S) *in real space*, the
Fourier transform of f(S(k)), times a window that fades from one to zero inside the range of the
overlaps: H′ then has the pattern of H and S, its Bloch sums, derivatives and inertia come as those
of any H, and every solver, dense or sparse, works on it as it is. F depends on the surroundings of
a pair alone, hence not on the cell that a crystal is described in. μ takes back what the levels
near the Fermi energy rise by on average; a multiple of S is a rigid shift.

What the shift does to exact H and S is its bias; ``first_order_levels`` removes its leading part,
E − c†(H′ − H)c. Level shifts of this kind are old (Saunders and Hillier, Int. J. Quantum Chem. 7,
699 (1973), doi:10.1002/qua.560070407); this one acts in the metric of the orbitals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, lay_out_blocks
from mlepi.physics.eigenstates.soft_tiles import filter_in_tiles
from mlepi.physics.eigenstates.sparse.pencil import RealSpaceBlocks

FULL_SHARE = 0.53
"""Share of the range of a pair up to which the window is one; it vanishes at the whole range."""

PERIOD = 29.0
"""Å, least period of the k-mesh that F is transformed on: its images are weaker than 1e-5."""

MANY_ELEMENTS = 1 << 22
"""Elements of S(k), over all k, that are filtered at once."""

TILE = 128
"""Side of the squares in which a triangle is copied."""

DENSE_ORBITALS = 6000
"""Larger cells are cut into tiles, which moves levels near E_F by less than 1e-4 eV."""

SINGLE_ORBITALS = 512
"""Larger matrices are filtered in single precision, which moves no level near E_F by 1e-6 eV."""


@dataclass(frozen=True)
class LevelShift:
    """Parameters of the shift of one basis.

    Attributes:
        threshold: τ, dimensionless; directions of S below it are soft.
        strength: λ, eV.
        offset: μ, eV, mean rise of the levels near the Fermi energy, which is taken back.
    """

    threshold: float
    strength: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse parameters without meaning."""
        values = (self.threshold, self.strength, self.offset)
        if not all(math.isfinite(v) for v in values) or not (
            0.0 < self.threshold < 1.0 and self.strength > 0.0
        ):
            raise PhysicsError(
                message(
                    "level shift",
                    f"threshold {self.threshold}, strength {self.strength} eV, offset "
                    f"{self.offset} eV",
                    "a threshold between 0 and 1 and a strength > 0",
                    "Use for example 0.01 and 1 eV, or level_shift=off.",
                )
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LevelShift:
        """Build it from plain data, as ``to_dict`` writes it; other keys are an error."""
        unknown = sorted(set(values) - {"threshold", "strength", "offset"})
        if unknown or not {"threshold", "strength"} <= set(values):
            raise PhysicsError(
                message(
                    "level shift",
                    f"keys {sorted(values)}",
                    "threshold, strength and perhaps offset",
                    "Give {threshold: 0.01, strength: 1.0}.",
                )
            )
        return cls(**{name: float(value) for name, value in values.items()})

    def to_dict(self) -> dict[str, float]:
        """Return plain data."""
        return asdict(self)


def soft_filter(overlaps: Tensor, threshold: float) -> Tensor:
    """Return f(S) = [τ(S + τ)⁻¹]⁴.

    Args:
        overlaps: (…, n, n) Hermitian positive definite.
        threshold: τ.

    Returns:
        (…, n, n) Hermitian, eigenvalues between 0 and 1.

    Raises:
        PhysicsError: S + τ is not positive definite.
    """
    diagonal = threshold * torch.eye(
        overlaps.shape[-1], dtype=overlaps.dtype, device=overlaps.device
    )
    lower, status = torch.linalg.cholesky_ex(overlaps + diagonal)
    if bool(status.any()):
        raise PhysicsError(
            message(
                "overlap matrix",
                f"an eigenvalue below −{threshold:g}",
                "a positive definite matrix",
                "Atoms are too close for this basis, or S is not accurate enough: check the "
                "structure and the overlap table.",
            )
        )
    return _square(_square(threshold * torch.cholesky_inverse(lower)))


def _square(matrices: Tensor) -> Tensor:
    """Return A² of Hermitian matrices, (…, n, n), exactly Hermitian.

    BLAS has a product for this on the CPU, which takes half the time of a general one.
    """
    if matrices.device.type != "cpu":
        products = matrices @ matrices
        return 0.5 * (products + products.mH)
    name = "herk" if matrices.is_complex() else "syrk"
    squares = []
    for matrix in matrices.reshape(-1, *matrices.shape[-2:]):
        array = matrix.contiguous().numpy().T  # column-major: the conjugate of A
        lower = scipy.linalg.get_blas_funcs(name, (array,))(1.0, array, lower=1)
        squares.append(_mirror_upper(torch.from_numpy(lower.T)))  # row-major, and A² again
    return torch.stack(squares).reshape(matrices.shape)


def _mirror_upper(matrix: Tensor) -> Tensor:
    """Fill the lower triangle of a Hermitian matrix from the upper one, tile by tile, in place."""
    for start in range(0, len(matrix), TILE):
        own, below = slice(start, start + TILE), slice(start + TILE, None)
        tile = matrix[own, own].triu()
        matrix[own, own] = tile + tile.triu(1).mH
        matrix[below, own] = matrix[own, below].mH
    return matrix


def pair_window(distances: NDArray[np.float64], ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the window of pairs: 1 up to ``FULL_SHARE`` of their range, a cosine to 0 at its end.

    Args:
        distances: (n_pairs,) Å.
        ranges: (n_pairs,) Å, where their overlaps end.
    """
    x = np.clip((distances / ranges - FULL_SHARE) / (1.0 - FULL_SHARE), 0.0, 1.0)
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * x)))


def shift_blocks(
    overlap: RealSpaceBlocks,
    shift: LevelShift,
    cell: NDArray[np.float64],
    positions: NDArray[np.float64],
    window: NDArray[np.float64],
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Return λ F − μ S on the pairs of S: what is to be added to H.

    Args:
        overlap: of the structure; on-site blocks and both directions of every pair.
        shift: its parameters.
        cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å, those that the cell shifts refer to.
        window: (n_edges,), of ``pair_window``.
        device: where S(k) is filtered.

    Returns:
        (n_edges, p, p), eV, the reverse of a pair exactly transposed up to ``DENSE_ORBITALS``.
    """
    blocks = np.asarray(overlap.blocks, dtype=np.float64)
    if overlap.offsets[-1] > DENSE_ORBITALS:
        soft = filter_in_tiles(overlap, shift.threshold, positions, cell)
    else:
        mesh = choose_mesh(overlap.edge_cell_shift, cell)
        soft = filter_blocks(overlap, shift.threshold, mesh, device)
    return np.asarray(shift.strength * window[:, None, None] * soft - shift.offset * blocks)


def choose_mesh(edge_cell_shift: NDArray[np.integer], cell: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the divisions of the k-mesh that F is transformed on.

    One along directions in which the structure is not repeated; a period of at least ``PERIOD``
    otherwise.

    Args:
        edge_cell_shift: (n_edges, 3) int.
        cell: (3, 3) rows, Å.
    """
    lengths = np.linalg.norm(cell, axis=1)
    repeated = np.any(np.asarray(edge_cell_shift) != 0, axis=0)
    return tuple(
        math.ceil(PERIOD / length) if there else 1
        for length, there in zip(lengths, repeated, strict=True)
    )


def filter_blocks(
    overlap: RealSpaceBlocks, threshold: float, mesh: tuple[int, ...], device: str = "cpu"
) -> NDArray[np.float64]:
    """Transform f(S(k)) to real space, on the pairs of S: (n_edges, p, p).

    Args:
        overlap: of the structure.
        threshold: τ.
        mesh: divisions along each reciprocal lattice vector.
        device: where S(k) is filtered.
    """
    offsets = np.asarray(overlap.offsets, dtype=np.int64)
    source, target = np.asarray(overlap.edge_index, dtype=np.int64)
    shifts = np.asarray(overlap.edge_cell_shift, dtype=np.float64)
    blocks = np.asarray(overlap.blocks, dtype=np.float64)
    layout = lay_out_blocks(blocks, overlap.edge_index, overlap.edge_cell_shift, offsets)
    place = np.arange(blocks.shape[-1])
    exists = place < np.diff(offsets)[:, None]
    rows = np.where(exists, offsets[:-1, None] + place, 0)
    there = exists[target][:, :, None] & exists[source][:, None, :]
    total = np.zeros_like(blocks)
    for kpoints, weights in _chunks(layout, mesh):
        filtered = _filter_at(layout, kpoints, threshold, device)
        for matrix, kpoint, weight in zip(filtered, kpoints, weights, strict=True):
            gathered = matrix[rows[target][:, :, None], rows[source][:, None, :]]
            phases = np.exp(-2j * np.pi * (shifts @ kpoint))[:, None, None]
            total += weight * np.real(phases * gathered)
    return np.where(there, total, 0.0)


def _chunks(
    layout: DenseBlocks, mesh: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield k-points of the mesh, one of k and −k, and their weights; real ones one by one."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in mesh], indexing="ij"), axis=-1)
    numbers = grid.reshape(-1, 3)
    reverse = np.mod(-numbers, mesh)
    flat, flat_reverse = (np.ravel_multi_index(tuple(x.T), mesh) for x in (numbers, reverse))
    weights = np.where(flat == flat_reverse, 1.0, 2.0) / len(numbers)
    kpoints = numbers / np.array(mesh)
    chunk = max(1, MANY_ELEMENTS // layout.elements.shape[1] ** 2)
    for own in (np.flatnonzero(flat == flat_reverse), np.flatnonzero(flat < flat_reverse)):
        for start in range(0, len(own), chunk):
            some = own[start : start + chunk]
            yield kpoints[some], weights[some]


def _filter_at(
    layout: DenseBlocks, kpoints: NDArray[np.float64], threshold: float, device: str
) -> NDArray[Any]:
    """Return f(S(k)), (n_k, n, n), real where S(k) is."""
    overlaps = torch.from_numpy(np.array([layout.at(kpoint) for kpoint in kpoints])).to(device)
    if overlaps.shape[-1] > SINGLE_ORBITALS:
        overlaps = overlaps.to(torch.complex64 if overlaps.is_complex() else torch.float32)
    filtered: NDArray[Any] = soft_filter(overlaps, threshold).cpu().numpy()
    return filtered


def first_order_levels(
    levels: NDArray[np.float64], vectors: NDArray[Any], shift_k: NDArray[Any]
) -> NDArray[np.float64]:
    """Take back the shift to first order: E − c†(H′ − H)c, which is c†Hc.

    Args:
        levels: (n_states,) eV, of H′.
        vectors: (n_orbitals, n_states), c†Sc = 1.
        shift_k: (n_orbitals, n_orbitals), H′(k) − H(k), eV.
    """
    rise = np.einsum("an,an->n", vectors.conj(), shift_k @ vectors).real
    return np.asarray(levels - rise)
