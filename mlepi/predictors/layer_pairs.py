"""H of a stack of layers from a network that knows pairs of layers only.

A network trained on bilayers has never seen an atom with neighbours on both sides. It is asked for
every two neighbouring layers alone,

    H = Σ_k H(k, k+1) − Σ_{k inside} ½ [H_k(k, k−1 away) + H_k(k, k+1 away)],

with the blocks of layer k alone in H_k. What one layer changes in its neighbour is thereby added up
on both sides; the part of a layer inside, counted by both of its pairs, is taken off once, as it is
with its neighbours moved away, as far as the network still knows pairs. Left out is what
only three layers together change, and pairs of layers that are not neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors.electron import ElectronPredictor
from mlepi.structures import get_layers
from mlepi.structures.basis import OrbitalBasis

APART = 0.5
"""Å between the mean planes of two layers, at least."""


@dataclass(frozen=True, kw_only=True)
class LayerPairs:
    """The Hamiltonian of stacked layers, put together from pairs of layers.

    Two layers and one are predicted as the network does it.

    Attributes:
        model: network trained on pairs of layers.
        apart: Å between the mean planes of a layer inside and its neighbour that is moved away;
            the largest spacing that the network was trained on.
    """

    model: ElectronPredictor
    apart: float

    def __post_init__(self) -> None:
        """Refuse a distance that is none."""
        if not self.apart > APART:
            got, fix = f"{self.apart} Å", "Take the largest spacing of the training structures."
            raise ConfigError(message("electron.apart", got, "a spacing of layers", fix))

    @property
    def members(self) -> tuple[ElectronPredictor, ...]:
        """The network, for those who ask for its table of overlaps, history and code."""
        return (self.model,)

    @property
    def basis(self) -> OrbitalBasis:
        """Orbitals of the network."""
        return self.model.basis

    @property
    def metadata(self) -> dict[str, Any]:
        """What the network says of itself."""
        return self.model.metadata

    @property
    def reach(self) -> float:
        """How far the environment of an atom reaches, Å."""
        return self.model.reach

    @property
    def level_shift(self) -> LevelShift | None:
        """What removes ghost states when its matrices are diagonalised."""
        return self.model.level_shift

    def hamiltonian(
        self, atoms: Atoms, *, device: str = "cpu", dtype: str = "float32"
    ) -> BlockMatrix:
        """Return the Hamiltonian, eV, on the edges of all pairs of layers.

        Args:
            atoms: layers stacked along the third lattice vector, with vacuum beyond the outer ones
                where there are three or more; not modified.
            device: where the network runs.
            dtype: precision of the network.

        Raises:
            StructureError: the layers are not stacked like that, an unknown element, or atoms that
                are too close.
        """
        layer = get_layers(atoms)
        n_layers = int(layer.max()) + 1
        if n_layers <= 2:
            return self.model.hamiltonian(atoms, device=device, dtype=dtype)
        normal, heights = self._measure(atoms, layer)
        pairs, weights = [], []
        for lower in range(n_layers - 1):
            both = np.flatnonzero((layer == lower) | (layer == lower + 1))
            pair = atoms[both]
            pair.set_array("layer", None)
            pair.set_array("layer", layer[both] - lower)
            wanted = [(pair, 1.0, None)]
            away = (self.apart - (heights[lower + 1] - heights[lower])) * normal
            if lower > 0:
                wanted.append((_move(pair, 1, away), -0.5, 0))
            if lower + 2 < n_layers:
                wanted.append((_move(pair, 0, -away), -0.5, 1))
            for structure, weight, kept in wanted:
                matrix = self.model.hamiltonian(structure, device=device, dtype=dtype)
                pairs.append(_embed(matrix, structure.arrays["layer"], kept, both, atoms.numbers))
                weights.append(weight)
        edge_index, shift, blocks = align_matrices(pairs)
        summed = np.einsum("n,neij->eij", np.array(weights), np.array(blocks))
        return replace(pairs[0], edge_index=edge_index, edge_cell_shift=shift, blocks=summed)

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap, which is that of pairs of atoms whatever lies around them."""
        return self.model.overlap(atoms)

    def overlaps(self, structures: Sequence[Atoms]) -> list[BlockMatrix]:
        """Return the overlaps of several structures."""
        return self.model.overlaps(structures)

    def hamiltonians(
        self, structures: Sequence[Atoms], *, device: str = "cpu", dtype: str = "float32"
    ) -> list[BlockMatrix]:
        """Return the Hamiltonians of several structures, one after the other."""
        return [self.hamiltonian(atoms, device=device, dtype=dtype) for atoms in structures]

    def _measure(
        self, atoms: Atoms, layer: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the normal, (3,), and the heights of the layers along it, (n_layers,) Å."""
        a, b, c = atoms.cell.array
        normal = np.cross(a, b)
        normal *= np.sign(normal @ c) / np.linalg.norm(normal)
        heights = np.bincount(layer, weights=atoms.positions @ normal) / np.bincount(layer)
        reach = max(self.model.cutoffs.values())
        empty = normal @ c - np.ptp(atoms.positions @ normal)
        if np.diff(heights).min() < APART or empty < reach:
            got = f"layers at {np.round(heights, 2).tolist()} Å with {empty:.2f} Å beyond them"
            expected = f"layers stacked along c, with {reach:.2f} Å of vacuum"
            fix = "Give a slab whose atoms are not wrapped across the vacuum."
            raise StructureError(message("structure", got, expected, fix))
        return normal, heights


def _move(pair: Atoms, layer: int, vector: NDArray[np.float64]) -> Atoms:
    """Return two layers, one of them moved by (3,) Å."""
    moved = pair.copy()
    moved.positions[moved.arrays["layer"] == layer] += vector
    return moved


def _embed(
    matrix: BlockMatrix,
    layer: NDArray[np.int64],
    kept: int | None,
    places: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> BlockMatrix:
    """Return blocks of two layers as blocks of the whole stack.

    Args:
        matrix: of the two layers.
        layer: of their atoms.
        kept: layer whose own blocks are kept; None keeps all.
        places: of the atoms in the stack.
        numbers: atomic numbers of the stack.
    """
    source, target = matrix.edge_index
    inside = np.ones(len(source), dtype=bool)
    if kept is not None:
        inside = (layer[source] == kept) & (layer[target] == kept)
    return BlockMatrix(
        np.asarray(numbers, dtype=np.int64),
        matrix.basis,
        places[matrix.edge_index[:, inside]],
        matrix.edge_cell_shift[inside],
        matrix.blocks[inside],
    )
