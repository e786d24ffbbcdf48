"""Bloch sums and eigenproblems against sums by hand, algebra and LAPACK's generalised driver."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mlepi.errors import PhysicsError, StructureError
from mlepi.physics.eigenstates.bloch import (
    count_valence_electrons,
    fermi_energy_from_eigenvalues,
    smallest_overlap_eigenvalue,
    solve_bands,
)
from mlepi.physics.eigenstates.dense_bloch import bloch_sum, lay_out_blocks


def random_blocks(seed=0, counts=(1, 3, 2), p=3, n_pairs=12):
    """Random Hermitian blocks of three unequal atoms, both directions, padded with NaN."""
    rng = np.random.default_rng(seed)
    source, target, shifts, blocks = [], [], [], []

    def pad(block):
        padded = np.full((p, p), np.nan)
        padded[: block.shape[0], : block.shape[1]] = block
        return padded

    for atom, n in enumerate(counts):
        onsite = rng.normal(size=(n, n))
        (
            source.append(atom),
            target.append(atom),
            shifts.append((0, 0, 0)),
            blocks.append(pad(onsite + onsite.T)),
        )
    seen = set()
    while len(seen) < n_pairs:
        j, i = (int(v) for v in rng.integers(len(counts), size=2))
        shift = tuple(int(v) for v in rng.integers(-1, 2, size=3))
        reverse = (i, j, tuple(-s for s in shift))
        if (i == j and shift == (0, 0, 0)) or (j, i, shift) in seen or reverse in seen:
            continue
        seen.add((j, i, shift))
        block = rng.normal(size=(counts[i], counts[j]))
        source += [j, i]
        target += [i, j]
        shifts += [shift, reverse[2]]
        blocks += [pad(block), pad(block.T)]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return np.array(blocks), np.array([source, target]), np.array(shifts), offsets


def test_bloch_sum_equals_the_sum_written_out():
    blocks, edge_index, shifts, offsets = random_blocks()
    kpoints = np.array([[0.0, 0.0, 0.0], [0.21, -0.37, 0.11], [0.5, 0.5, 0.0]])
    result = bloch_sum(blocks, edge_index, shifts, offsets, kpoints)
    expected = np.zeros((3, 6, 6), dtype=complex)
    for e, (j, i) in enumerate(edge_index.T):
        ni, nj = offsets[i + 1] - offsets[i], offsets[j + 1] - offsets[j]
        for k, kpoint in enumerate(kpoints):
            phase = np.exp(2j * np.pi * kpoint @ shifts[e])
            expected[k, offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]] += (
                phase * blocks[e, :ni, :nj]
            )
    np.testing.assert_allclose(result, expected, atol=1e-14)
    np.testing.assert_allclose(result, result.conj().transpose(0, 2, 1), atol=1e-14)
    np.testing.assert_array_equal(result[[0, 2]].imag, 0.0)


def test_periodic_in_k_and_conjugate_at_minus_k():
    data = random_blocks(seed=1)
    k = np.array([0.13, 0.29, -0.4])
    first, shifted, minus = bloch_sum(*data, [k, k + np.array([1, -2, 3]), -k])
    np.testing.assert_allclose(first, shifted, atol=1e-12)
    np.testing.assert_allclose(first, minus.conj(), atol=1e-13)


def test_a_layout_refuses_what_does_not_fit():
    blocks, edge_index, shifts, offsets = random_blocks()
    with pytest.raises(StructureError, match="edge_index: got atom 2; expected atoms below 2"):
        lay_out_blocks(blocks, edge_index, shifts, offsets[:3])
    with pytest.raises(StructureError, match="Pad the blocks"):
        lay_out_blocks(blocks[:, :2, :2], edge_index, shifts, offsets)
    with pytest.raises(StructureError, match="one per edge"):
        lay_out_blocks(blocks[:-1], edge_index, shifts, offsets)


def random_pencil(n=12, seed=3):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    b = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    return a + a.conj().T, b @ b.conj().T + n * np.eye(n)


def test_solve_bands_equals_the_generalised_driver():
    h, s = random_pencil()
    expected = scipy.linalg.eigh(h, s, driver="gvd")[0]
    values, vectors = solve_bands(np.array([h, h]), np.array([s, s]), vectors=True)
    assert values.shape == (2, 12)
    np.testing.assert_allclose(values[1], expected, atol=1e-12)
    np.testing.assert_allclose(vectors[0].conj().T @ s @ vectors[0], np.eye(12), atol=1e-12)
    np.testing.assert_allclose(h @ vectors[0], s @ vectors[0] * values[0], atol=1e-11)
    np.testing.assert_allclose(solve_bands(h, s, subset=(3, 5)), expected[3:6], atol=1e-12)
    np.testing.assert_allclose(solve_bands(h), np.linalg.eigvalsh(h), atol=1e-12)


def test_indefinite_overlap_is_refused_with_its_eigenvalue():
    h, s = random_pencil()
    s = s - (np.linalg.eigvalsh(s)[0] + 0.5) * np.eye(12)
    with pytest.raises(PhysicsError, match=r"smallest eigenvalue -5\.000e-01"):
        solve_bands(h, s)
    assert smallest_overlap_eigenvalue(s) == pytest.approx(-0.5, abs=1e-12)


def test_fermi_energy_of_a_dimer_and_of_a_constant_density_of_states():
    assert fermi_energy_from_eigenvalues(
        np.array([[-1.0, 2.0]]), np.ones(1), 2.0, 300.0
    ) == pytest.approx(0.5, abs=1e-6)
    # flat density of states on [0, 1] eV: a quarter filling puts μ at 0.25 for every kT far below
    # it
    levels = (np.arange(4000)[:, None] + 0.5) / 4000
    assert fermi_energy_from_eigenvalues(levels, np.ones(4000), 0.5, 100.0) == pytest.approx(
        0.25, abs=1e-4
    )


def test_fermi_energy_refuses_impossible_input():
    with pytest.raises(PhysicsError, match="smearing > 0 K"):
        fermi_energy_from_eigenvalues(np.zeros((1, 2)), np.ones(1), 1.0, 0.0)
    with pytest.raises(PhysicsError, match=r"fewer than 4\.0"):
        fermi_energy_from_eigenvalues(np.zeros((1, 2)), np.ones(1), 4.0, 300.0)


def test_valence_electrons():
    assert count_valence_electrons([6, 6, 6, 6], {6: 4}) == 16
    with pytest.raises(PhysicsError, match=r"no entry for atomic numbers \[42\]"):
        count_valence_electrons([6, 42], {6: 4})
