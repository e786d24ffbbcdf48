"""The error of a Hamiltonian in the metric of S, at k-points.

An error ΔH of the blocks moves levels by the eigenvalues of M = W†(ΔH(k) − μS(k))W, where W†SW = 1:
S has eigenvalues of 1e-3, along whose eigenvectors an error counts a thousandfold. Σ|M|² =
Tr[(S⁻¹(ΔH − μS))²] does not depend on W. With W = the label's eigenvectors it splits into states
near and below the Fermi level (P), those above (Q) and what mixes the two (PQ), which may count
differently: NextHAM (ICLR 2026) has λ_P, λ_Q, λ_PQ = 2e-4, 1e-4, 1.5e-4 beside the L1 of the
blocks; WALoss (arXiv:2502.19227) is the P part.

The soft directions of S are states of some hundred eV, so that Q is by far the largest part (of a
network with levels to 10 meV: P 0.01, PQ 0.2, Q 4 eV, each as √(Σ|M|²/N)) while what it does to
levels is small as long as an error is small beside the energy of its states: H + ΔH has no ghost
below −σ if the eigenvalues of (H + σS)^{-1/2} ΔH (H + σS)^{-1/2} are above −1. ``damping`` weighs
errors accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs import fields
from mlepi.training.bloch_sums import ONSITE, bloch_sums
from mlepi.training.losses import BlockErrors, Term

FORMS = ("mse", "log")

MEASURING: dict[str, Any] = {
    "weight": 0.0,
    "low": 1.0,
    "high": 1.0,
    "mixed": 1.0,
    "boundary": 0.0,
    "damping": None,
    "kpoints": 1,
    "form": "mse",
    "unit": 1.0,
    "start": 0.0,
    "ramp": 0.0,
    "seed": 1,
}
"""Arguments of a ``MetricLoss`` that only measures."""


@dataclass(frozen=True)
class MetricFrame:
    """Directions in which the S of one structure at one k is the identity.

    Attributes:
        kpoint: (3,) float64, fractional.
        vectors: (n_orbitals, n_orbitals) complex W, W†SW = diag(scale).
        scale: (n_orbitals,), 1 unless states are damped.
        n_low: how many of the first columns belong to P.
    """

    kpoint: Tensor
    vectors: Tensor
    scale: Tensor
    n_low: int


def draw_kpoints(structure: int, count: int, seed: int) -> Tensor:
    """Draw a randomly shifted set of k-points that covers the cell evenly.

    A Kronecker sequence (additive recurrence with the powers of the root of x⁴ = x + 1).

    Args:
        structure: number of the structure in its data set.
        count: number of k-points.
        seed: of the shift.

    Returns:
        (count, 3) float64 in [0, 1), fractional.
    """
    shift = np.random.default_rng([seed, structure]).random(3)
    steps = 1.2207440846057596 ** -np.arange(1.0, 4.0)
    return torch.from_numpy((shift + np.arange(count)[:, None] * steps) % 1.0)


def find_shift(matrix: Tensor, scale: Tensor, n_low: int, low: float, high: float) -> Tensor:
    """Find the energy shift that minimises the weighted error of one structure, in closed form.

    Args:
        matrix: (n, n) complex, W†ΔHW.
        scale: (n,), diagonal of W†SW.
        n_low: size of P.
        low: weight of P.
        high: weight of Q.

    Returns:
        (), eV: the weighted mean of the diagonal, each element over its scale.
    """
    diagonal = matrix.diagonal().real
    product, square = diagonal * scale, scale.square()
    weighted = low * product[:n_low].sum() + high * product[n_low:].sum()
    return weighted / (low * square[:n_low].sum() + high * square[n_low:].sum())


def split_error(matrix: Tensor, n_low: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ|M|² of P, Q and PQ (both off-diagonal parts), which sum to that of all of M.

    Args:
        matrix: (n, n) complex, eV.
        n_low: size of P.

    Returns:
        Three (), eV².
    """
    squares = matrix.real.square() + matrix.imag.square()
    low, high = squares[:n_low, :n_low].sum(), squares[n_low:, n_low:].sum()
    mixed = squares[:n_low, n_low:].sum() + squares[n_low:, :n_low].sum()
    return low, high, mixed


class MetricLoss:
    """Mean of Tr[(S⁻¹(ΔH − μS))²]/N² over structures, each at one k-point per step.

    The k-points of a structure are drawn once and used in turn, one per epoch; what belongs to them
    is kept, 8 N² bytes each in float32.

    Args:
        weight: factor of this term; 0 for none.
        low: relative weight of P, states up to ``boundary``.
        high: of Q, the states above.
        mixed: of PQ, what mixes the two.
        boundary: upper end of P above the Fermi level of the label, eV.
        damping: errors of a state at E above the boundary are divided by √(1 + (E −
            boundary)/damping), once for each of the two states, eV; None for no damping.
        kpoints: number per structure.
        form: "mse", or "log" for log(1 + x) of each structure's x.
        unit: error that counts as 1, eV.
        start: part of the training after which the term sets in.
        ramp: part of the training in which it rises linearly to its weight.
        seed: of the k-points.

    Raises:
        ConfigError: a value cannot be used.
    """

    def __init__(
        self,
        *,
        weight: float,
        low: float,
        high: float,
        mixed: float,
        boundary: float,
        damping: float | None,
        kpoints: int,
        form: str,
        unit: float,
        start: float,
        ramp: float,
        seed: int,
    ) -> None:
        self.weight = weight
        self.low, self.high, self.mixed = low, high, mixed
        self.boundary = boundary
        self.damping = damping
        self.kpoints = kpoints
        self.form = form
        self.unit = unit
        self.start, self.ramp = start, ramp
        self.seed = seed
        self._check()
        self._frames: dict[tuple[int, int, torch.dtype, torch.device], MetricFrame] = {}

    def _check(self) -> None:
        """Refuse values that cannot be used."""
        wrong = {
            "weight": (self.weight >= 0.0, "0 or more"),
            "low, high": (min(self.low, self.high) >= 0.0 < self.low + self.high, "0 or more"),
            "mixed": (self.mixed >= 0.0, "0 or more"),
            "damping": (
                self.damping is None or self.damping > 0.0,
                "a positive energy, eV, or null",
            ),
            "kpoints": (self.kpoints >= 1, "at least 1"),
            "form": (self.form in FORMS, f"one of {FORMS}"),
            "unit": (self.unit > 0.0, "a positive energy, eV"),
            "start": (0.0 <= self.start < 1.0, "a part of the training, 0 ≤ start < 1"),
            "ramp": (self.ramp >= 0.0, "0 or more"),
        }
        for names, (good, expected) in wrong.items():
            if not good:
                got = ", ".join(str(getattr(self, name)) for name in names.split(", "))
                where = f"task.loss.metric.{names}"
                raise ConfigError(message(where, got, expected, "Edit the config."))

    @property
    def num_terms(self) -> int:
        """Number of terms of the loss: 0 or 1."""
        return int(self.weight > 0.0)

    @property
    def splits(self) -> bool:
        """Whether states count differently, so that eigenvectors are needed."""
        return self.damping is not None or not self.low == self.high == self.mixed

    def rise(self, progress: float) -> float:
        """Return the factor on the weight at a part of the training, 0 … 1."""
        if progress < self.start:
            return 0.0
        return min(1.0, (progress - self.start) / self.ramp) if self.ramp > 0.0 else 1.0

    def __call__(
        self, errors: BlockErrors, graph: Any, turn: int, factor: float = 1.0, keep: bool = True
    ) -> dict[str, Term]:
        """Return the term of one batch; none where it has no weight.

        Args:
            errors: of the blocks.
            graph: batch that they belong to.
            turn: which k-point of each structure is used, e.g. the epoch.
            factor: on the weight.
            keep: keep what belongs to the k-points for the next time.
        """
        if self.weight * factor == 0.0:
            return {}
        values = []
        for matrix, frame in self.transform(errors, graph, turn, keep):
            shift = find_shift(matrix, frame.scale, frame.n_low, self.low, self.high)
            matrix = matrix - torch.diag(shift * frame.scale)
            low, high, mixed = split_error(matrix, frame.n_low)
            weighted = self.low * low + self.high * high + self.mixed * mixed
            value = weighted / (len(matrix) * self.unit) ** 2
            values.append(value.log1p() if self.form == "log" else value)
        count = torch.tensor(len(values), device=values[0].device)
        return {"metric": Term(torch.stack(values).sum(), count, self.weight * factor)}

    def transform(
        self, errors: BlockErrors, graph: Any, turn: int, keep: bool = True
    ) -> list[tuple[Tensor, MetricFrame]]:
        """Return W†ΔH(k)W, eV, and the frame of every structure of a batch.

        Args:
            errors: of the blocks.
            graph: batch that they belong to.
            turn: which k-point of each structure is used.
            keep: keep the frames for the next time.
        """
        frames = self.find_frames(errors, graph, turn, keep)
        kpoints = torch.stack([frame.kpoint for frame in frames])
        matrices = bloch_sums(errors.difference, graph, errors.exists, kpoints)
        return [
            (frame.vectors.mH @ matrix @ frame.vectors, frame)
            for matrix, frame in zip(matrices, frames, strict=True)
        ]

    def find_frames(
        self, errors: BlockErrors, graph: Any, turn: int, keep: bool = True
    ) -> list[MetricFrame]:
        """Return the frame of every structure of a batch, from memory where it has been before."""
        number = turn % self.kpoints
        dtype, device = errors.difference[ONSITE].dtype, errors.difference[ONSITE].device
        structures = (
            graph[fields.STRUCTURE].tolist()
            if fields.STRUCTURE in graph
            else [-1 - i for i in range(errors.n_graphs)]
        )
        keys = [(structure, number, dtype, device) for structure in structures]
        found = {key: self._frames[key] for key in keys if key in self._frames}
        if len(found) < len(set(keys)):
            kpoints = torch.stack(
                [draw_kpoints(max(s, 0), self.kpoints, self.seed)[number] for s in structures]
            ).to(device)
            made = self.build_frames(errors, graph, kpoints)
            for key, frame in zip(keys, made, strict=True):
                found.setdefault(key, frame)
                if keep and key[0] >= 0:
                    self._frames.setdefault(key, frame)
        return [found[key] for key in keys]

    @torch.no_grad()
    def build_frames(self, errors: BlockErrors, graph: Any, kpoints: Tensor) -> list[MetricFrame]:
        """Find directions in which S is the identity from the labels of a batch.

        Args:
            errors: of the blocks.
            graph: batch with Hamiltonian and overlap labels.
            kpoints: (n_graphs, 3) float64, fractional, one per structure.

        Raises:
            DataError: an overlap is not positive definite, or a Fermi energy is missing.
        """
        exact = {name: value.to(torch.float64) for name, value in errors.overlap.items()}
        overlaps = bloch_sums(exact, graph, errors.exists, kpoints)
        triangles = [invert_factor(overlap) for overlap in overlaps]
        dtype = errors.difference[ONSITE].dtype
        complex_dtype = torch.complex(*[errors.difference[ONSITE].new_zeros(1)] * 2).dtype
        if not self.splits:
            return [
                MetricFrame(
                    kpoint,
                    vectors.to(complex_dtype),
                    torch.ones_like(vectors[0].real, dtype=dtype),
                    len(vectors),
                )
                for kpoint, vectors in zip(kpoints, triangles, strict=True)
            ]
        hamiltonians = bloch_sums(errors.labels(graph), graph, errors.exists, kpoints)
        fermi = read_fermi_energies(graph)
        frames = []
        for kpoint, vectors, hamiltonian, energy in zip(
            kpoints, triangles, hamiltonians, fermi, strict=True
        ):
            levels, columns = torch.linalg.eigh(vectors.mH @ hamiltonian @ vectors)
            height = levels - energy - self.boundary
            scale = torch.ones_like(height)
            if self.damping is not None:
                scale = 1.0 / (1.0 + height.clamp(min=0.0) / self.damping)
            columns = (vectors @ columns * scale.sqrt()).to(complex_dtype)
            n_low = int((height <= 0.0).sum())
            frames.append(MetricFrame(kpoint, columns, scale.to(dtype), n_low))
        return frames


def invert_factor(overlap: Tensor) -> Tensor:
    """Return L⁻†, (n, n) complex, where S = LL†.

    Raises:
        DataError: S is not positive definite.
    """
    factor, info = torch.linalg.cholesky_ex(overlap)
    if int(info) != 0:
        smallest = float(torch.linalg.eigvalsh(overlap)[0])
        raise DataError(
            message(
                "overlap of a labelled structure",
                f"smallest eigenvalue {smallest:.1e} at a k-point",
                "a positive definite matrix",
                "Check the labels, and that graph.cutoffs reach as far as the basis.",
            )
        )
    identity = torch.eye(len(overlap), dtype=overlap.dtype, device=overlap.device)
    return torch.linalg.solve_triangular(factor.mH, identity, upper=True)


def read_fermi_energies(graph: Any) -> list[float]:
    """Return the Fermi energy of every structure of a batch, eV.

    Raises:
        DataError: a structure has none.
    """
    energies = graph[fields.FERMI_ENERGY].tolist() if fields.FERMI_ENERGY in graph else []
    if not energies or any(np.isnan(energy) for energy in energies):
        raise DataError(
            message(
                "task.loss.metric",
                "a structure without Fermi energy",
                "one, to tell states near it from those above",
                "Label it, or set low, high and mixed to the same weight.",
            )
        )
    return [float(energy) for energy in energies]
