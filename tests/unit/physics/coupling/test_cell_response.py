"""Bloch sums of derivatives against the supercell, sum rules, Hermiticity, interpolation."""

from dataclasses import replace

import numpy as np
import pytest
from toy_response import Toy

from mlepi.errors import PhysicsError
from mlepi.physics.coupling.cell_response import collect_response
from mlepi.physics.eigenstates.dense_bloch import bloch_sum

K = np.array([0.13, 0.29, 0.0])


@pytest.fixture(scope="module")
def toy():
    return Toy()


@pytest.fixture(scope="module")
def responses(toy):
    return toy.responses()


def test_waves_couple_bloch_sums_as_the_supercell_says(toy, responses):
    """B†(k+q) ∂H B(k) of the supercell, displaced by a wave, is the double Bloch sum."""
    q = np.array([0.5, 0.0, 0.0])
    atom, axis = 2, 1
    edges, shift, _ = toy.blocks(toy.supercell)
    wave = np.zeros((len(toy.supercell), 3))
    wave[atom :: toy.n, axis] = np.cos(2 * np.pi * (toy.map.cells[:: toy.n] @ q))
    for part, response in ((0, responses.hamiltonian), (1, responses.overlap)):
        derivative = toy.derivative(wave)[part]
        offsets = np.arange(len(toy.supercell) + 1)
        in_supercell = bloch_sum(derivative, edges, shift, offsets, toy.map.fold(K)[None])[0]
        ends = [toy.map.bloch_basis(point, np.ones(toy.n, dtype=int)) for point in (K + q, K)]
        expected = ends[0].conj().T @ in_supercell @ ends[1]
        found = response.couple(response.wave(q), K)[0, 3 * atom + axis]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert np.abs(found).max() > 0.01


def test_rigid_shifts_change_no_block(responses):
    for response in (responses.hamiltonian, responses.overlap):
        assert response.translation_residual() < 1e-9
        total = response.couple(response.wave(np.zeros(3)), K)[0].reshape(-1, 3, 4, 4).sum(axis=0)
        np.testing.assert_allclose(total, 0.0, atol=1e-9)


def test_the_orbital_on_the_left_and_on_the_right_share_the_change_of_the_overlap(responses):
    """∂S = ⟨∂φ|φ⟩ + ⟨φ|∂φ⟩, the first the conjugate of the second for the reversed wave."""
    q = np.array([0.0, 0.5, 0.0])
    whole = responses.overlap.couple(responses.overlap.wave(q), K)[0]
    ket = responses.ket_overlap.couple(responses.ket_overlap.wave(q), K)[0]
    bra = (
        responses.ket_overlap.couple(responses.ket_overlap.wave(-q), K + q)[0].conj().swapaxes(1, 2)
    )
    np.testing.assert_allclose(ket + bra, whole, atol=1e-12)


def test_reversed_waves_give_the_hermitian_conjugate(responses):
    q = np.array([0.31, 0.17, 0.0])  # not commensurate: interpolation keeps it
    response = responses.hamiltonian
    there = response.couple(response.wave(q), K)[0]
    back = response.couple(response.wave(-q), K + q)[0]
    np.testing.assert_allclose(there, back.conj().swapaxes(1, 2), atol=1e-12)


def test_interpolation_of_what_fits_into_the_supercell_is_exact():
    """Hopping to first neighbours fits into 3×3 cells.

    Those give what 5×5 cells give, at wave vectors of neither.
    """
    q = np.array([0.21, 0.37, 0.0])
    small, large = (Toy(repeats=(n, n, 1)).responses().hamiltonian for n in (3, 5))
    expected = large.couple(large.wave(q), K)
    found = small.couple(small.wave(q), K)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(small.shares.sum(axis=3), 1.0)


def test_commensurate_waves_need_no_images(responses):
    q = np.array([0.5, 0.5, 0.0])
    close = q + 1e-5  # treated as an interpolation
    response = responses.hamiltonian
    np.testing.assert_allclose(response.wave(close), response.wave(q), atol=1e-2)
    assert response.is_commensurate(q)
    assert not response.is_commensurate(close)


def test_the_border_share_tells_long_range_from_short_range(responses):
    """Bonds have one nearest image of each of their ends even in 2×2 cells.

    Pairs half a cell away have several.
    """
    response = responses.hamiltonian
    assert response.border_share() < 1e-12
    constant = replace(response, values=np.ones_like(response.values))
    several = np.sum(response.shares > 0, axis=3) > 1
    assert constant.border_share() == pytest.approx(several.mean())
    assert several.mean() > 0.1


def test_atoms_with_different_numbers_of_orbitals(toy):
    """Padding goes away, the rest stays in place."""
    edges, shift, _ = toy.blocks(toy.supercell)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3 * toy.n, edges.shape[1], 2, 2))
    counts = np.array([2, 1, 2, 1])
    target, source = edges[1] % toy.n, edges[0] % toy.n
    exists = (np.arange(2) < counts[target][:, None])[:, :, None] & (
        np.arange(2) < counts[source][:, None]
    )[:, None, :]
    offsets = np.append(0, np.cumsum(counts))
    response = collect_response(
        toy.map, edges, shift, values * exists, toy.atoms.positions, toy.atoms.cell.array, offsets
    )
    matrices = response.couple(response.wave([0.5, 0.0, 0.0]), K)
    assert matrices.shape == (1, 3 * toy.n, 6, 6)
    gamma = response.couple(response.wave(np.zeros(3)), np.zeros(3))[0, 4]
    full = np.zeros((6, 6))
    for edge, block in enumerate(values[4] * exists):
        i, j = target[edge], source[edge]
        rows, columns = slice(offsets[i], offsets[i + 1]), slice(offsets[j], offsets[j + 1])
        full[rows, columns] += block[: counts[i], : counts[j]]
    np.testing.assert_allclose(gamma, full, atol=1e-12)


def test_one_derivative_per_coordinate_is_demanded(toy):
    edges, shift, blocks = toy.blocks(toy.supercell)
    with pytest.raises(
        PhysicsError, match=r"derivatives of blocks: got shape .*Move one atom of cell 0 at a time"
    ):
        collect_response(
            toy.map, edges, shift, blocks, toy.atoms.positions, toy.atoms.cell.array, np.arange(5)
        )
