"""Stacks of layers from networks that know pairs of layers only.

A network trained on bilayers has never seen an atom with neighbours on both sides. It is asked for
every two neighbouring layers by themselves, and X of the stack, an energy or a Hamiltonian, is

    X = Σ_k X(k, k+1) − Σ_{k inside} X(k),

so that what one layer changes in its neighbour is added up on both sides. X(k) of one layer, which
the network does not know either, is half of that of the layer and its copy, as far apart as the
network still knows pairs. Left out is what only three layers together change, and pairs of layers
that are not neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors.electron import ElectronPredictor
from mlepi.predictors.phonon import PhononPredictor
from mlepi.structures import get_layers
from mlepi.structures.basis import OrbitalBasis

SMALLEST = 0.5
"""Å between the mean planes of two layers, at least."""


@dataclass(frozen=True)
class Part:
    """Two layers whose energy or Hamiltonian is one term of the sum.

    Attributes:
        atoms: two layers.
        places: (n_atoms,) int, of the atoms in the stack; those of a layer and its copy are equal.
        weight: 1 of neighbours, −½ of a layer and its copy.
    """

    atoms: Atoms
    places: NDArray[np.int64]
    weight: float


def list_parts(atoms: Atoms, apart: float, reach: float) -> list[Part]:
    """List the terms of a stack.

    Args:
        atoms: layers stacked along the third lattice vector; not modified.
        apart: Å, from a layer inside to its copy.
        reach: Å, vacuum that three and more layers need beyond the outer ones.

    Returns:
        The structure itself where it has one or two layers.

    Raises:
        StructureError: the layers are not stacked like that.
    """
    layer = get_layers(atoms)
    n_layers = int(layer.max()) + 1
    if n_layers <= 2:
        return [Part(atoms, np.arange(len(atoms)), 1.0)]
    normal = _find_normal(atoms, layer, reach)
    parts = []
    for lower in range(n_layers - 1):
        both = np.flatnonzero((layer == lower) | (layer == lower + 1))
        parts.append(Part(_take(atoms, both, layer[both] - lower), both, 1.0))
        if lower:
            own = np.flatnonzero(layer == lower)
            single = _take(atoms, own, np.zeros(len(own), dtype=np.int64))
            copy = _take(atoms, own, np.ones(len(own), dtype=np.int64))
            copy.positions += apart * normal
            parts.append(Part(single + copy, np.concatenate([own, own]), -0.5))
    return parts


def _take(atoms: Atoms, places: NDArray[np.int64], layer: NDArray[np.int64]) -> Atoms:
    """Return some atoms of a cell with their layers, and nothing else."""
    taken = Atoms(atoms.numbers[places], atoms.positions[places], cell=atoms.cell, pbc=atoms.pbc)
    taken.set_array("layer", layer)
    return taken


def _find_normal(atoms: Atoms, layer: NDArray[np.int64], reach: float) -> NDArray[np.float64]:
    """Return the unit normal of stacked layers, (3,), towards c."""
    a, b, c = atoms.cell.array
    normal = np.cross(a, b)
    normal *= np.sign(normal @ c) / np.linalg.norm(normal)
    along = atoms.positions @ normal
    heights = np.bincount(layer, weights=along) / np.bincount(layer)
    empty = normal @ c - np.ptp(along)
    if np.diff(heights).min() < SMALLEST or empty < reach:
        got = f"layers at {np.round(heights, 2).tolist()} Å with {empty:.2f} Å beyond them"
        expected = f"layers stacked along c, with {reach:.2f} Å of vacuum"
        fix = "Give a slab whose atoms are not wrapped across the vacuum."
        raise StructureError(message("structure", got, expected, fix))
    return np.asarray(normal)


def _check_apart(where: str, apart: float) -> None:
    if not apart > SMALLEST:
        fix = "Take the largest spacing of the training structures."
        raise ConfigError(message(f"{where}.apart", f"{apart} Å", "a spacing of layers", fix))


@dataclass(frozen=True, kw_only=True)
class LayerPairs:
    """The Hamiltonian of stacked layers from a network of pairs of layers.

    Attributes:
        model: network trained on pairs of layers.
        apart: Å, from a layer inside to its copy: the largest spacing that the network knows.
    """

    model: ElectronPredictor
    apart: float

    def __post_init__(self) -> None:
        """Refuse a distance that is none."""
        _check_apart("electron", self.apart)

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
        """Return the Hamiltonian, eV.

        Args:
            atoms: layers stacked along the third lattice vector, with vacuum beyond the outer ones
                where there are three or more; not modified.
            device: where the network runs.
            dtype: precision of the network.

        Raises:
            StructureError: the layers are not stacked like that, an unknown element, or atoms that
                are too close.
        """
        parts = list_parts(atoms, self.apart, max(self.model.cutoffs.values()))
        matrices = self.model.hamiltonians([p.atoms for p in parts], device=device, dtype=dtype)
        if len(parts) == 1:
            return matrices[0]
        terms, weights = [], []
        for part, matrix in zip(parts, matrices, strict=True):
            layers = (None,) if part.weight > 0.0 else (0, 1)
            terms += [_embed(matrix, part, layer, atoms) for layer in layers]
            weights += [part.weight] * len(layers)
        edge_index, shift, blocks = align_matrices(terms)
        summed = np.einsum("n,neij->eij", np.array(weights), np.array(blocks))
        return replace(terms[0], edge_index=edge_index, edge_cell_shift=shift, blocks=summed)

    def hamiltonians(
        self, structures: Sequence[Atoms], *, device: str = "cpu", dtype: str = "float32"
    ) -> list[BlockMatrix]:
        """Return the Hamiltonians of several structures, one after the other."""
        return [self.hamiltonian(atoms, device=device, dtype=dtype) for atoms in structures]

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap, which is that of pairs of atoms whatever lies around them."""
        return self.model.overlap(atoms)

    def overlaps(self, structures: Sequence[Atoms]) -> list[BlockMatrix]:
        """Return the overlaps of several structures."""
        return self.model.overlaps(structures)


def _embed(matrix: BlockMatrix, part: Part, kept: int | None, atoms: Atoms) -> BlockMatrix:
    """Return blocks of two layers as blocks of the stack; of one layer alone unless None."""
    source, target = matrix.edge_index
    inside = np.ones(len(source), dtype=bool)
    if kept is not None:
        layer = part.atoms.arrays["layer"]
        inside = (layer[source] == kept) & (layer[target] == kept)
    return BlockMatrix(
        np.asarray(atoms.numbers, dtype=np.int64),
        matrix.basis,
        part.places[matrix.edge_index[:, inside]],
        matrix.edge_cell_shift[inside],
        matrix.blocks[inside],
    )


class LayerPairsCalculator(Calculator):
    """ASE calculator of stacked layers from a network of pairs of layers: eV, eV/Å.

    Args:
        model: network trained on pairs of layers.
        apart: Å, from a layer inside to its copy: the largest spacing that the network knows.
        device: where the network runs.

    Raises:
        ConfigError: a distance that is none.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "forces",
    ]

    def __init__(self, *, model: PhononPredictor, apart: float, device: str = "cpu") -> None:
        super().__init__()
        _check_apart("phonon", apart)
        self.model, self.apart, self.device = model, apart, device

    @property
    def members(self) -> tuple[PhononPredictor, ...]:
        """The network, for those who ask for its code."""
        return (self.model,)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Add the energies and forces of all parts up; see ``ase.calculators``."""
        super().calculate(atoms, list(properties), list(system_changes))
        parts = list_parts(self.atoms, self.apart, max(self.model.cutoffs.values()))
        structures = [part.atoms for part in parts]
        energies, by_part = self.model.energy_and_forces(structures, device=self.device)
        energy, forces = 0.0, np.zeros((len(self.atoms), 3))
        for part, own, on_atoms in zip(parts, energies, by_part, strict=True):
            energy += part.weight * float(own)
            np.add.at(forces, part.places, part.weight * on_atoms)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
