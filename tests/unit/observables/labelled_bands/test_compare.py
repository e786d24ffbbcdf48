"""A labelled supercell against a network: exact limits of tight binding."""

from dataclasses import replace

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.exports.labels import collect_labels
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.own_labels import complete_labels
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.observables.labelled_bands.compare import (
    Comparison,
    compare_sample,
    count_problems,
    find_path,
    measure_errors,
    solve_path,
)
from mlepi.physics.bands.supercell_sites import find_sites
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

REPEATS = (2, 2, 1)
CHOSEN = Comparison(REPEATS, spacing=0.7, window=3.0)
MODEL = TightBinding(orbitals="sp", orthogonal=False)


def displaced(order=None):
    atoms = build_graphene(stacking="AB", spacing=3.35).repeat(REPEATS)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.03, atoms.positions.shape)
    return atoms if order is None else atoms[order]


def label(atoms, fermi_energy=0.0):
    matrices = MODEL.hamiltonian(atoms), MODEL.overlap(atoms)
    return collect_labels("sample", atoms, *matrices, fermi_energy=fermi_energy)


def test_own_h_as_the_label_has_no_error():
    labels = label(displaced())
    found = compare_sample(labels, block_matrices(labels), None, CHOSEN)
    assert found.n_levels > 0
    assert (found.plain.rms, found.plain.aligned, found.plain.median) == (0.0, 0.0, 0.0)
    assert (found.plain.ghosts, found.plain.ghost_kpoints) == (0, 0)
    assert found.shifted is None
    assert found.best is found.plain
    np.testing.assert_array_equal(found.levels, found.labelled_levels)
    np.testing.assert_array_equal(found.spectrum, found.labelled_spectrum)
    assert found.labels == ("Γ", "M", "K", "Γ")


def test_a_multiple_of_s_is_an_error_that_alignment_takes_away():
    labels = label(displaced())
    hamiltonian, overlap = block_matrices(labels)
    raised = replace(hamiltonian, blocks=hamiltonian.blocks + 0.01 * overlap.blocks)
    done = []
    found = compare_sample(
        labels, (raised, overlap), None, CHOSEN, advance=lambda: done.append(None)
    )
    assert found.plain.rms == pytest.approx(0.01, abs=1e-9)
    assert found.plain.median == pytest.approx(0.01, abs=1e-9)
    assert found.plain.aligned == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(found.spectrum, found.labelled_spectrum, atol=1e-6)
    assert len(done) == count_problems(labels, CHOSEN, shifted=False)


def test_the_level_shift_is_told_apart():
    labels = label(displaced())
    hamiltonian, overlap = block_matrices(labels)
    shift = LevelShift(0.5, 1.0)
    shifted = shift_hamiltonian(labels.atoms, hamiltonian, overlap, shift)
    done = []
    found = compare_sample(
        labels, (hamiltonian, overlap), shifted, CHOSEN, advance=lambda: done.append(None)
    )
    assert found.plain.rms == pytest.approx(0.0, abs=1e-9)
    assert found.shifted is not None
    assert found.shifted.rms > 1e-6
    assert found.best is found.shifted
    assert len(done) == count_problems(labels, CHOSEN, shifted=True)


def test_an_undisplaced_cell_unfolds_to_the_bands_of_the_primitive_one():
    atoms = build_graphene(stacking="AB", spacing=3.35).repeat(REPEATS)
    atoms = atoms[np.random.default_rng(1).permutation(len(atoms))]
    labels = label(atoms)
    atom_map, path = find_path(labels, CHOSEN)
    bands = solve_path(block_matrices(labels), atom_map, path.kpoints, unfolded=True)
    primitive = build_graphene(stacking="AB", spacing=3.35)
    small = MODEL.hamiltonian(primitive), MODEL.overlap(primitive)
    np.testing.assert_allclose(bands.weights.sum(axis=1), 16.0, atol=1e-9)
    for kpoint, levels, weights in zip(path.kpoints, bands.levels, bands.weights, strict=True):
        expected = solve_bands(*(matrix.dense(kpoint) for matrix in small))
        # moments of the weighted levels, since degenerate states share their weight
        for power in (1, 2, 3):
            np.testing.assert_allclose(weights @ levels**power, np.sum(expected**power), rtol=1e-9)
    plain = solve_path(block_matrices(labels), atom_map, path.kpoints, unfolded=False)
    np.testing.assert_allclose(plain.levels, bands.levels, atol=1e-9)
    assert plain.weights.size == 0


def test_the_order_of_the_atoms_does_not_matter():
    order = np.random.default_rng(2).permutation(16)
    first, second = displaced(), displaced(order)
    levels = []
    for atoms in (first, second):
        labels = label(atoms)
        # one path for both: of strained means it would start along another vector
        _, path = find_path(label(first), CHOSEN)
        atom_map = find_sites(atoms, REPEATS)
        levels.append(
            solve_path(block_matrices(labels), atom_map, path.kpoints, unfolded=False).levels
        )
    np.testing.assert_allclose(levels[1], levels[0], atol=1e-9)


def test_errors_are_those_of_levels_near_the_fermi_energy():
    exact = np.array([[-20.0, -1.0, 0.5, 1.5, 9.0]] * 2)
    found = exact + np.array([[0.5, 0.01, 0.01, 0.03, 2.0]] * 2)
    found[1, 0] = -22.0
    errors = measure_errors(exact, found, 0.0, 2.0)
    assert errors.median == pytest.approx(0.01)
    assert errors.rms == pytest.approx(np.sqrt((2 * 0.01**2 + 0.03**2) / 3))
    assert errors.aligned == pytest.approx(0.02 / np.sqrt(3.0))
    assert (errors.ghosts, errors.ghost_kpoints) == (1, 1)


def test_labels_that_cannot_be_compared_are_refused():
    labels = label(displaced())
    with pytest.raises(DataError, match=r"structure 'sample': got no Fermi energy"):
        compare_sample(replace(labels, fermi_energy=None), block_matrices(labels), None, CHOSEN)
    other = TightBinding(orbitals="s", orthogonal=True)
    pencil = other.hamiltonian(labels.atoms), other.overlap(labels.atoms)
    with pytest.raises(DataError, match=r"got 64 orbitals, where the network has 16"):
        compare_sample(labels, pencil, None, CHOSEN)


def test_labels_take_the_energy_zero_and_the_table_of_the_network():
    labels = label(displaced(), fermi_energy=0.5)

    class Trained:
        metadata = {"config": {"data": {"energy_zero": "fermi"}}}

    moved = complete_labels(labels, Trained())
    assert moved.fermi_energy == 0.0
    np.testing.assert_allclose(
        moved.hamiltonian_blocks, labels.hamiltonian_blocks - 0.5 * labels.overlap_blocks
    )
    assert complete_labels(labels, MODEL) is labels
    without = replace(labels, overlap_blocks=None)
    Trained.overlap_table = MODEL.overlap_table()
    found = complete_labels(without, Trained())
    np.testing.assert_allclose(found.overlap_blocks, labels.overlap_blocks, atol=1e-5)
    with pytest.raises(DataError, match=r"overlaps neither in the data nor as a table"):
        complete_labels(without, MODEL)
