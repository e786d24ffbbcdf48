"""Levels by window, ghosts, soft states and the form bound, on matrices whose levels are known."""

import numpy as np
import pytest
import scipy.linalg

from mlepi.structures import build_graphene
from mlepi.training.level_errors import (
    LEVEL_QUANTITIES,
    choose_kpoints,
    compare_levels,
    count_ghosts,
    count_soft_states,
    form_bound,
    predict_levels,
    predict_states,
)


def pencil(levels, seed=0, softest=1e-3):
    """H and S with known levels, and an S with a soft direction."""
    n = len(levels)
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.normal(size=(n, n)) + 1j * generator.normal(size=(n, n)))
    half = basis * np.sqrt(np.linspace(softest, 2.0, n))
    rotation, _ = np.linalg.qr(generator.normal(size=(n, n)))
    half = half @ rotation
    return half @ np.diag(levels) @ half.conj().T, half @ half.conj().T


def test_levels_are_those_of_the_pencil_also_shifted():
    levels = np.array([-20.0, -3.0, 1.0, 50.0])
    hamiltonian, overlap = pencil(levels)
    np.testing.assert_allclose(predict_levels(hamiltonian[None], overlap[None])[0], levels)
    moved = predict_levels(hamiltonian[None], overlap[None], 0.5 * overlap[None])
    np.testing.assert_allclose(moved[0], levels + 0.5)


def test_windows_take_the_references_levels_and_the_median_takes_a_shift():
    reference = np.array([[-10.0, -1.0, 1.5, 4.0, 30.0], [-9.0, -1.9, 0.5, 6.0, 40.0]])
    predicted = reference + 0.1
    predicted[0, 1] += 0.3
    found = compare_levels(predicted, reference, fermi_energy=0.0)
    assert set(found) == set(LEVEL_QUANTITIES) - {"soft_states"}
    for window, count in (("2ev", 4), ("occupied", 4), ("5ev", 7)):
        plain, aligned = found[f"bands_{window}"], found[f"bands_{window}_aligned"]
        assert plain[2] == aligned[2] == count
        assert plain[1] == pytest.approx(0.01 * (count - 1) + 0.16)
        assert aligned == pytest.approx([0.3, 0.09, count])
    assert compare_levels(predicted, reference, np.nan)["bands_2ev"][2] == 0
    own = compare_levels(predicted, reference, 0.0, windows={"own": (-1.0, 0.5)})
    assert set(own) == {"bands_own", "bands_own_aligned", "ghosts"}
    assert own["bands_own"] == pytest.approx([0.5, 0.17, 2])


def test_ghosts_are_levels_far_below_the_lowest():
    reference = np.array([[-20.0, 0.0, 5.0], [-19.0, 0.0, 5.0]])
    predicted = np.array([[-45.0, -21.1, 0.0], [-20.9, -19.0, 0.0]])
    assert count_ghosts(predicted, reference).tolist() == [2, 0]
    assert compare_levels(predicted, reference, 0.0)["ghosts"] == pytest.approx([2, 1, 2])


def test_soft_states_are_those_with_a_norm_that_no_label_has():
    """A state along a direction of S with the eigenvalue s has |c|² = 1/s, wherever it lies."""
    overlap = np.diag([1.0, 0.8, 1.2, 1e-3]).astype(complex)
    levels = np.array([-20.0, -3.0, 1.0, 200.0])
    hamiltonian = np.diag(levels * np.diag(overlap))
    found, norms = predict_states(hamiltonian[None], overlap[None])
    np.testing.assert_allclose(found[0], levels)
    np.testing.assert_allclose(norms[0], [1.0, 1.25, 1 / 1.2, 1000.0])
    largest = norms[0, :3].max()
    assert count_soft_states(found, norms, largest, 0.0).tolist() == [0]  # 200 eV up: as in labels
    for energy, ghosts, soft in ((-50.0, 1, 1), (-10.0, 0, 1), (1.9, 0, 1), (2.1, 0, 0)):
        error = np.zeros_like(hamiltonian)
        error[3, 3] = (energy - 200.0) * 1e-3
        predicted = predict_states((hamiltonian + error)[None], overlap[None])
        sums = compare_levels(predicted[0], found, 0.0, predicted[1], largest)
        assert sums["ghosts"] == pytest.approx([ghosts, ghosts, 1])
        assert sums["soft_states"] == pytest.approx([soft, soft, 1])
        assert set(sums) == set(LEVEL_QUANTITIES)
    # an S-orthonormal mixture of a physical and the soft state: |c|² = cos² + 1000 sin²
    angle = 0.05
    first = np.array([0.0, 0.0, np.cos(angle) / np.sqrt(1.2), np.sin(angle) / np.sqrt(1e-3)])
    other = np.array([0.0, 0.0, -np.sin(angle) / np.sqrt(1.2), np.cos(angle) / np.sqrt(1e-3)])
    turned = hamiltonian.copy()
    for state, energy, former in ((first, 1.0, [0, 0, 1, 0]), (other, 200.0, [0, 0, 0, 1])):
        turned += energy * np.outer(overlap @ state, overlap @ state)
        turned -= np.diag(np.array(former) * np.diag(hamiltonian))
    found, norms = predict_states(turned[None], overlap[None])
    np.testing.assert_allclose(found[0], levels)
    assert norms[0, 2] == pytest.approx(np.cos(angle) ** 2 / 1.2 + np.sin(angle) ** 2 * 1000)
    assert count_soft_states(found, norms, largest, 0.0).tolist() == [1]


def test_an_error_makes_a_ghost_only_where_the_form_bound_reaches_one():
    """ΔH = −t·A along the eigenvector of the highest level turns it over exactly at t = 1."""
    levels = np.array([-20.0, -3.0, 1.0, 200.0])
    hamiltonian, overlap = pencil(levels)
    _, vectors = scipy.linalg.eigh(hamiltonian, overlap)
    soft = overlap @ vectors[:, 3]
    height = 200.0 - (-20.0 - 1.0)
    for strength in (0.5, 0.999, 1.001, 1.5):
        error = -strength * height * np.outer(soft, soft.conj())
        bound = form_bound(hamiltonian, overlap, error, lowest=-20.0)
        assert bound == pytest.approx(strength, rel=1e-6)
        predicted = predict_levels((hamiltonian + error)[None], overlap[None])
        assert count_ghosts(predicted, levels[None]).tolist() == [int(strength > 1.0)]


def test_kpoints_follow_the_angle_of_the_cell():
    for angle, k in ((120, (1 / 3, 1 / 3)), (60, (2 / 3, 1 / 3))):
        atoms = build_graphene("AB")
        cell = atoms.cell.array.copy()
        if (cell[0] @ cell[1] < 0) != (angle == 120):
            cell[1] += cell[0] if angle == 60 else -cell[0]
        points = choose_kpoints(cell)
        assert points.shape == (5, 3)
        assert points[1, :2] == pytest.approx(k)
        # K of a hexagonal cell has three equally near reciprocal lattice points
        reciprocal = np.linalg.inv(cell).T
        grid = np.array([(a, b, 0) for a in range(-2, 3) for b in range(-2, 3)])
        lengths = np.sort(np.linalg.norm((points[1] - grid) @ reciprocal, axis=1))
        np.testing.assert_allclose(lengths[:3], lengths[0])
        assert lengths[3] > 1.5 * lengths[0]
    assert len(choose_kpoints(cell, 2)) == 2
