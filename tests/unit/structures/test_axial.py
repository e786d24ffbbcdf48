"""Generators of rotations against e3nn's harmonics, and what they say about blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3

from mlepi.structures.axial import axial_deviation, build_generators, spherical_deviation


def harmonics(l, vector):
    return o3.spherical_harmonics(l, torch.tensor(vector[[1, 2, 0]]), False, "norm").numpy()


@pytest.mark.parametrize("l", range(5))
def test_generators_turn_the_harmonics(l):
    """y(r + θ d × r) − y(r − θ d × r) = 2θ K(d) y(r)."""
    rng = np.random.default_rng(l)
    r, d, theta = rng.normal(size=3), rng.normal(size=3), 1e-5
    turn = theta * np.cross(d, r)
    slope = (harmonics(l, r + turn) - harmonics(l, r - turn)) / (2 * theta)
    K = np.tensordot(d, build_generators([l]), 1)
    np.testing.assert_allclose(slope, K @ harmonics(l, r), atol=1e-7)
    np.testing.assert_array_equal(K, -K.T)


def test_blocks_around_their_bond():
    """Y_l1 Y_l2ᵀ of the bond is two-centre for all shells; of another direction it is not."""
    rng = np.random.default_rng(1)
    shells = ([0, 1, 2, 3], [1, 0, 2])
    d = rng.normal(size=(6, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    blocks = np.stack(
        [np.outer(*(np.concatenate([harmonics(l, v) for l in ls]) for ls in shells)) for v in d]
    )
    np.testing.assert_allclose(axial_deviation(blocks, d, shells), 0.0, atol=1e-7)
    assert np.abs(axial_deviation(blocks, np.roll(d, 1, axis=0), shells)).max() > 0.1


def test_onsite_blocks_of_atoms():
    """Equal shells may mix, as numerical orbitals do; shells of different l may not."""
    block = np.eye(8)
    block[2:5, 5:8] = block[5:8, 2:5] = 0.3 * np.eye(3)
    assert spherical_deviation(block[None], [0, 0, 1, 1]) < 1e-15
    block[0, 3] = block[3, 0] = 0.01
    assert spherical_deviation(block[None], [0, 0, 1, 1]) == pytest.approx(0.01)
