"""The energy zero follows a multiple of S exactly, and soft directions of S do not disturb it."""

import numpy as np
import pytest

from mlepi.physics.bands.energy_zero import energy_shift
from mlepi.physics.eigenstates.bloch import solve_bands


def pencil(rng, n_k=3, n=6):
    h, s = rng.normal(size=(2, n_k, n, n)) + 1j * rng.normal(size=(2, n_k, n, n))
    return h + h.conj().swapaxes(1, 2), s @ s.conj().swapaxes(1, 2) + 0.1 * np.eye(n)


def test_a_multiple_of_the_overlap_is_found():
    rng = np.random.default_rng(0)
    reference, overlap = pencil(rng)
    _, states = solve_bands(reference, overlap, vectors=True)
    occupied = states[:, :, :2]
    shifted = reference + 0.7 * overlap
    assert energy_shift(shifted, overlap, reference, occupied) == pytest.approx(0.7)
    # of whatever else H and S differ by
    h, s = pencil(rng)
    before = energy_shift(h, s, reference, occupied)
    assert energy_shift(h - 1.3 * s, s, reference, occupied) == pytest.approx(before - 1.3)


def test_among_all_states_it_is_the_mean_change_of_the_levels():
    """With all states and one S the least squares are those of the orthonormalised H."""
    rng = np.random.default_rng(1)
    reference, overlap = pencil(rng)
    other = pencil(rng)[0]
    before, states = solve_bands(reference, overlap, vectors=True)
    change = (solve_bands(other, overlap) - before).mean()
    assert energy_shift(other, overlap, reference, states) == pytest.approx(change)
