"""How far a structure lies from those that a network was trained on.

Distances of pairs and layers, spread of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from mlepi.errors import DataError, StructureError, message
from mlepi.graphs.block_pairs import align_matrices
from mlepi.graphs.neighbours import find_edges
from mlepi.structures import (
    HamiltonianDataset,
    get_layers,
    read_forces_dataset,
    read_split,
    select_intralayer,
    split_structures,
)
from mlepi.structures.layers import TOLERANCE

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

QUANTITIES = (
    "nearest intralayer pair",
    "longest bond",
    "nearest interlayer pair",
    "layer spacing",
    "height within a layer",
    "displacement",
)
"""What describes a structure, all in Å; bonds are pairs closer than ``TOLERANCE`` times their
covalent radii."""

SIDES = (-1, 1, -1, 0, 1, None)
"""Side on which a quantity leaves the training data: below, above, both (0), or not known from them
(None)."""

INTERLAYER_CUTOFF = 6.0
"""Å; layers further apart than this do not meet."""

SMALLEST_SCALE = 1e-3
"""Å, of a quantity that hardly varies among the training structures."""


@dataclass(frozen=True)
class TrainingDomain:
    """Ranges of the quantities over the structures of a training set.

    Attributes:
        values: (n_structures, n_quantities), Å; NaN where a structure has no such quantity.
        source: where the structures come from.
    """

    values: NDArray[np.float64]
    source: str

    @property
    def ranges(self) -> NDArray[np.float64]:
        """Smallest and largest value, (n_quantities, 2), Å; NaN where none is known."""
        low, high = (
            reduce(self.values, axis=0, initial=limit)
            for reduce, limit in ((np.fmin.reduce, np.inf), (np.fmax.reduce, -np.inf))
        )
        limits = np.stack([low, high], axis=1)
        return np.where(np.isfinite(limits), limits, np.nan)

    @property
    def scales(self) -> NDArray[np.float64]:
        """Standard deviation among the structures, (n_quantities,), Å."""
        deviations = [
            column[np.isfinite(column)].std() if np.any(np.isfinite(column)) else np.nan
            for column in self.values.T
        ]
        return np.maximum(np.array(deviations), SMALLEST_SCALE)

    def distances(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far structures lie outside, in standard deviations of the training structures.

        Args:
            values: (…, n_quantities), Å.

        Returns:
            (…,), the largest over the quantities; negative inside, NaN where nothing can be
            compared.
        """
        ranges, scales = self.ranges, self.scales
        excess = np.full(values.shape, -np.inf)
        for number, side in enumerate(SIDES):
            if side is None or not np.isfinite(ranges[number, 0]):
                continue
            below = (ranges[number, 0] - values[..., number]) / scales[number]
            above = (values[..., number] - ranges[number, 1]) / scales[number]
            either = below if side < 0 else above if side > 0 else np.maximum(below, above)
            excess[..., number] = np.where(np.isfinite(values[..., number]), either, -np.inf)
        largest = excess.max(axis=-1)
        return np.where(np.isfinite(largest), largest, np.nan)


def describe_geometry(
    atoms: Atoms, sites: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the quantities of one structure.

    Args:
        atoms: structure, Å, positions not wrapped; a supplied layer index wins.
        sites: (n_atoms, 3), Å, from which displacements are counted; None where they are not known.

    Returns:
        (n_quantities,), Å, in the order of ``QUANTITIES``; NaN for what the structure does not
        have.
    """
    layer = get_layers(atoms)
    edge_index, shift = find_edges(atoms, INTERLAYER_CUTOFF)
    source, target = edge_index
    lengths = np.linalg.norm(
        atoms.positions[source] + shift @ atoms.cell.array - atoms.positions[target], axis=1
    )
    intra = select_intralayer(atoms, edge_index, shift)
    radii = covalent_radii[atoms.numbers]
    bonds = intra & (lengths < TOLERANCE * (radii[source] + radii[target]))
    normal = np.cross(atoms.cell.array[0], atoms.cell.array[1])
    heights = atoms.positions @ (normal / np.linalg.norm(normal))
    means = np.array([heights[layer == number].mean() for number in range(int(layer.max()) + 1)])
    within = np.abs(heights - means[layer]).max()
    displacement = (
        np.nan if sites is None else np.linalg.norm(atoms.positions - sites, axis=1).max()
    )
    spacing = np.nan if len(means) < 2 else np.abs(np.diff(means)).mean()
    pairs = [lengths[chosen] for chosen in (intra, bonds, ~intra)]
    found = [
        pairs[0].min() if pairs[0].size else np.nan,
        pairs[1].max() if pairs[1].size else np.nan,
        pairs[2].min() if pairs[2].size else np.nan,
    ]
    return np.array([*found, spacing, within, displacement])


def count_bonds(atoms: Atoms) -> set[tuple[int, int]]:
    """Return which atomic numbers occur with how many bonds."""
    edges, shift = find_edges(atoms, 2.0 * TOLERANCE * float(covalent_radii[atoms.numbers].max()))
    source, target = edges
    vectors = atoms.positions[source] + shift @ atoms.cell.array - atoms.positions[target]
    radii = covalent_radii[atoms.numbers]
    bonded = np.linalg.norm(vectors, axis=1) < TOLERANCE * (radii[source] + radii[target])
    counts = np.bincount(target[bonded], minlength=len(atoms))
    return {(int(z), int(n)) for z, n in zip(atoms.numbers, counts, strict=True)}


def list_unseen(atoms: Atoms, training: Sequence[Atoms]) -> list[str]:
    """Say what of a crystal no training structure has: elements, layers, coordination.

    Args:
        atoms: undisplaced crystal.
        training: structures of the training; nothing is said without any.
    """
    if not training:
        return []
    unseen = []
    known = {int(z) for one in training for z in one.numbers}
    if new := sorted({int(z) for z in atoms.numbers} - known):
        unseen.append(f"{', '.join(chemical_symbols[z] for z in new)}, in no training structure")
    layers = {int(get_layers(one).max()) + 1 for one in training}
    own = int(get_layers(atoms).max()) + 1
    if own not in layers:
        there = " or ".join(str(n) for n in sorted(layers))
        unseen.append(f"{own} layer{'s' * (own > 1)}, where the training structures have {there}")
    bonds = set().union(*map(count_bonds, training))
    unseen += [
        f"{chemical_symbols[z]} with {n} bonds, which no atom of the training structures has"
        for z, n in sorted(count_bonds(atoms) - bonds)
        if z in known
    ]
    return unseen


def read_training_structures(
    data: Path, split: Path | Mapping[str, Any] | None, subset: str = "train"
) -> list[Atoms]:
    """Read the structures of a data set, without their matrices.

    Args:
        data: Hamiltonian data set (``*.h5``), or a file with energies and forces.
        split: JSON file of the split, or "fractions" and "seed" of one that a training made; None
            takes all structures.
        subset: of the split.

    Returns:
        The structures, with the layer of each atom.

    Raises:
        DataError: a file cannot be read, or the split has no such subset.
    """
    if data.suffix == ".h5":
        dataset = HamiltonianDataset(data)
        bare = [dataset.outline(name) for name in dataset.names]
    else:
        bare = read_forces_dataset(data)
    atoms = {structure.name: structure.atoms for structure in bare}
    if split is None:
        return list(atoms.values())
    if isinstance(split, Mapping):
        names, _ = split_structures(bare, split["fractions"], split["seed"])
    else:
        names = read_split(split, atoms)
    if not names.get(subset):
        raise DataError(
            message(
                str(split),
                f"subsets {sorted(names)}",
                f"{subset!r}",
                "Use the split of the training.",
            )
        )
    return [atoms[name] for name in names[subset]]


def hamiltonian_spread(hamiltonians: Sequence[BlockMatrix], overlap: BlockMatrix) -> float:
    """Measure how far networks' Hamiltonians deviate from their mean, energy zeros apart.

    Each difference from the mean is freed of the multiple of S that reduces it most (least
    squares): H + μS is the same physics.

    Args:
        hamiltonians: of one structure from at least two networks.
        overlap: of the same structure.

    Returns:
        Root mean square over the elements, eV.

    Raises:
        StructureError: the matrices belong to different structures or bases.
    """
    matrices = (*hamiltonians, overlap)
    if len({(matrix.blocks.shape[1:], len(matrix.numbers)) for matrix in matrices}) > 1:
        raise StructureError(
            message(
                "ensemble of electron networks",
                "matrices of different size",
                "networks of one basis",
                "Use checkpoints of one kind.",
            )
        )
    (source, target), _, aligned = align_matrices(matrices)
    s, h = aligned[-1], np.array(aligned[:-1])
    differences = h - h.mean(axis=0)
    shifts = np.sum(differences * s, axis=(1, 2, 3)) / np.sum(s * s)
    differences -= shifts[:, None, None, None] * s
    exists = hamiltonians[0].basis.mask(hamiltonians[0].numbers)
    n_elements = np.sum(exists[target].sum(axis=1) * exists[source].sum(axis=1))
    return float(np.sqrt(np.sum(differences**2) / n_elements / (len(h) - 1)))


def force_spread(forces: Sequence[NDArray[np.float64]]) -> float:
    """Measure how far networks' forces deviate from their mean.

    Args:
        forces: (n_atoms, 3) each, eV/Å, of at least two networks.

    Returns:
        Root mean square over atoms and directions, eV/Å.
    """
    return float(np.sqrt(np.var(np.array(forces), axis=0, ddof=1).mean()))


def find_training_data(
    metadata: Mapping[str, Any],
) -> tuple[str | None, str | Mapping[str, Any] | None]:
    """Return data set and split that the metadata of a checkpoint name, as written there.

    A split that the training made is its "fractions" and "seed". None where they do not.
    """
    data = metadata.get("config", {}).get("data", {})
    made: Mapping[str, Any] | None = metadata.get("data", {}).get("made_split")
    return data.get("path"), data.get("split") if made is None else made
