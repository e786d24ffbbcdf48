"""One labelled supercell, diagonalised with the H and S of its labels and of a network.

Both are solved at the k-points of the supercell onto which those of a path of the primitive zone
fold. Levels are those that the labels have within a window around their Fermi energy, paired by
number; "aligned" removes the median of all of them, since H is defined up to a multiple of S.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.observables.labelled_bands.record import LevelErrors, SampleBands
from mlepi.observables.sparse_bands.moire import find_vacuum
from mlepi.observables.sparse_bands.stage import VACUUM
from mlepi.physics.bands.lattice import KPath, follow_route
from mlepi.physics.bands.spectra import compute_spectral_function
from mlepi.physics.bands.supercell_sites import average_sites, find_sites
from mlepi.physics.bands.unfolding import AtomMap, match_folded, total_weights, unfold_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.structures.labelled_structure import LabelledStructure

GHOST_DISTANCE = 1.0
"""eV below the lowest level of the labels."""
ENERGY_STEP = 0.01
"""eV, of the grid of spectral functions."""

Pencil = tuple[BlockMatrix, BlockMatrix]
"""H (eV) and S of one structure."""


@dataclass(frozen=True)
class Comparison:
    """How labelled supercells are compared.

    Attributes:
        supercell: primitive cells along each lattice vector.
        route: special points, own ones, or fractional coordinates of the primitive zone; None takes
            that of ``follow_route``.
        points: name → (3,) fractional, own points.
        spacing: largest distance of two k-points, Å⁻¹.
        window: eV, half width around the Fermi energy.
        line_width: eV, standard deviation of the lines of A(k, E).
    """

    supercell: tuple[int, int, int]
    route: Sequence[str | Sequence[float]] | None = ("Γ", "M", "K", "Γ")
    points: Mapping[str, Sequence[float]] = field(default_factory=dict)
    spacing: float = 0.123
    window: float = 2.0
    line_width: float = 0.05


@dataclass(frozen=True)
class PathBands:
    """Levels of one supercell and their weights in the primitive zone.

    Attributes:
        levels: (n_points, n_states), eV, ascending, at every point of the path.
        weights: (n_points, n_states), unfolded; empty where not asked for.
    """

    levels: NDArray[np.float64]
    weights: NDArray[np.float64]


def solve_path(
    matrices: Pencil,
    atom_map: AtomMap,
    kpoints: NDArray[np.float64],
    *,
    unfolded: bool,
    advance: Callable[[], object] = lambda: None,
) -> PathBands:
    """Diagonalise a supercell at the points of a primitive path, every folded point once.

    Args:
        matrices: H (eV) and S.
        atom_map: atoms of the supercell.
        kpoints: (n_points, 3) fractional, primitive.
        unfolded: compute the weights, for which eigenvectors are needed.
        advance: called after every folded point.
    """
    counts = np.array(
        [
            np.diff(matrices[1].offsets)[np.flatnonzero(atom_map.primitive_atoms == site)[0]]
            for site in range(atom_map.primitive_atoms.max() + 1)
        ]
    )
    solved, index, reverse = match_folded(atom_map, kpoints)
    levels = np.empty((len(kpoints), matrices[0].n_orbitals))
    weights = np.empty_like(levels) if unfolded else np.empty((0, 0))
    for number, kpoint in enumerate(solved):
        hamiltonian_k, overlap_k = (matrix.dense(kpoint) for matrix in matrices)
        found = solve_bands(hamiltonian_k, overlap_k, vectors=unfolded)
        for point in np.flatnonzero(index == number):
            levels[point] = found[0] if unfolded else found
            if unfolded:
                components = unfold_states(
                    found[1],
                    overlap_k,
                    atom_map,
                    counts,
                    kpoints[point],
                    reverse=bool(reverse[point]),
                )
                weights[point] = total_weights(components)
        advance()
    return PathBands(levels, weights)


def measure_errors(
    exact: NDArray[np.float64], found: NDArray[np.float64], fermi_energy: float, window: float
) -> LevelErrors:
    """Return how far levels are from those of the labels.

    Args:
        exact: (n_points, n_states), eV, of the labels.
        found: (n_points, n_states), eV.
        fermi_energy: eV, of the labels.
        window: eV, half width around it.
    """
    errors = (found - exact)[np.abs(exact - fermi_energy) <= window]
    ghosts = found < exact.min() - GHOST_DISTANCE
    return LevelErrors(
        rms=float(np.sqrt(np.mean(errors**2))),
        aligned=float(np.sqrt(np.mean((errors - np.median(errors)) ** 2))),
        median=float(np.median(errors)),
        ghosts=int(ghosts.sum()),
        ghost_kpoints=int(ghosts.any(axis=1).sum()),
    )


def find_path(structure: LabelledStructure, chosen: Comparison) -> tuple[AtomMap, KPath]:
    """Find the primitive cell of a labelled supercell, and the path through its zone.

    Raises:
        StructureError: it is no such supercell.
        ConfigError: a path without meaning.
    """
    atom_map = find_sites(structure.atoms, chosen.supercell)
    primitive = average_sites(structure.atoms, atom_map)
    periodic = (True, True, find_vacuum(primitive) < VACUUM)
    path = follow_route(chosen.route, chosen.points, primitive, periodic, chosen.spacing)
    return atom_map, path


def compare_sample(
    structure: LabelledStructure,
    predicted: Pencil,
    shifted: BlockMatrix | None,
    chosen: Comparison,
    advance: Callable[[], object] = lambda: None,
) -> SampleBands:
    """Solve one supercell with its labels and with a network, without and with the level shift.

    Args:
        structure: with H and S.
        predicted: H (eV) as predicted, and S, of a network for the same atoms.
        shifted: H with the level shift, eV; None without one.
        chosen: how.
        advance: called after every eigenproblem.

    Raises:
        DataError: labels without a Fermi energy, or with other orbitals than the network.
    """
    labelled = block_matrices(structure)
    fermi_energy = _check_labels(structure, labelled, predicted, chosen.window)
    atom_map, path = find_path(structure, chosen)
    hamiltonian = predicted[0] if shifted is None else shifted
    pencils = {"labels": labelled, "network": (hamiltonian, predicted[1])}
    bands = {
        name: solve_path(pencil, atom_map, path.kpoints, unfolded=True, advance=advance)
        for name, pencil in pencils.items()
    }
    exact, found = bands["labels"].levels, bands["network"].levels
    errors = measure_errors(exact, found, fermi_energy, chosen.window)
    plain = errors
    if shifted is not None:
        levels = solve_path(
            predicted, atom_map, path.kpoints, unfolded=False, advance=advance
        ).levels
        plain = measure_errors(exact, levels, fermi_energy, chosen.window)
    energies = np.arange(-chosen.window, chosen.window + ENERGY_STEP / 2.0, ENERGY_STEP)
    spectra = [
        np.array(
            [
                compute_spectral_function(
                    energies, levels - zero, weights, chosen.line_width, "gaussian"
                )
                for levels, weights in zip(each.levels, each.weights, strict=True)
            ]
        )
        for each, zero in (
            (bands["labels"], fermi_energy),
            (bands["network"], fermi_energy + errors.median),
        )
    ]
    return SampleBands(
        name=structure.name,
        n_atoms=len(structure.atoms),
        fermi_energy=fermi_energy,
        kpoints=path.kpoints,
        distances=path.distances,
        labels=path.labels,
        label_distances=path.ticks,
        n_levels=int((np.abs(exact - fermi_energy) <= chosen.window).sum()),
        labelled_levels=exact,
        levels=found,
        energies=energies,
        labelled_spectrum=spectra[0],
        spectrum=spectra[1],
        plain=plain,
        shifted=None if shifted is None else errors,
    )


def count_problems(structure: LabelledStructure, chosen: Comparison, shifted: bool) -> int:
    """Return how many eigenproblems ``compare_sample`` solves for a structure."""
    atom_map, path = find_path(structure, chosen)
    return len(match_folded(atom_map, path.kpoints)[0]) * (3 if shifted else 2)


def _check_labels(
    structure: LabelledStructure, labelled: Pencil, predicted: Pencil, window: float
) -> float:
    """Return the Fermi energy of labels that can be compared with a network, eV."""
    where = f"structure {structure.name!r}"
    if structure.fermi_energy is None:
        fix = "Use labels of a code that tells it."
        raise DataError(message(where, "no Fermi energy", f"one, for ±{window:g} eV", fix))
    own, other = (np.diff(pencil[0].offsets) for pencil in (labelled, predicted))
    if not np.array_equal(own, other):
        got = f"{own.sum()} orbitals, where the network has {other.sum()}"
        fix = "Use labels of the basis that the network was trained on."
        raise DataError(message(where, got, "the same orbitals on every atom", fix))
    return structure.fermi_energy
