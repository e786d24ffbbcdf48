"""The continuum model against perturbation theory, known magic angles and its symmetries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.bands.continuum import ContinuumModel, find_magic_angle

VELOCITY = 5.8
"""ħ v_F, eV·Å."""


def model_at(alpha, ratio=1.0, w=0.11, **changes):
    """A model with a given w_AB / (ħ v k_θ) and w_AA / w_AB."""
    model = ContinuumModel(1.0, VELOCITY, ratio * w, w, **changes)
    sine = w / (VELOCITY * alpha) * 3.0 * model.lattice_constant / (8.0 * math.pi)
    return replace(model, twist=2.0 * math.degrees(math.asin(sine)))


def turn(momenta, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return momenta @ np.array([[c, s], [-s, c]])


@pytest.mark.parametrize("ratio", [1.0, 0.0, 0.8])
def test_velocity_at_weak_coupling(ratio):
    """v*/v = (1 − 3α²)/(1 + 3α²(1 + η²)), η = w_AA/w_AB.

    Eq. 12 of the paper for η = 1; the error is of order α⁴.
    """
    for alpha in (0.02, 0.05, 0.1):
        expected = (1.0 - 3.0 * alpha**2) / (1.0 + 3.0 * alpha**2 * (1.0 + ratio**2))
        assert model_at(alpha, ratio, w=0.01).alpha == pytest.approx(alpha)
        assert model_at(alpha, ratio, w=0.01).dirac_velocity() == pytest.approx(
            expected, abs=30.0 * alpha**4
        )


def test_magic_angle_of_the_chiral_limit():
    """Tarnopolsky, Kruchkov and Vishwanath (2019).

    The first magic α of the chiral model is 0.586, and the bands are flat.
    """
    angle = find_magic_angle(model_at(0.5, 0.0))
    magic = replace(model_at(0.5, 0.0), twist=angle)
    assert magic.alpha == pytest.approx(0.5857, abs=1e-4)
    momenta = np.random.default_rng(0).uniform(-1, 1, (6, 2)) * magic.k_theta
    assert np.abs(magic.bands(momenta)).max() < 1e-4 * magic.w_ab


def test_magic_angle_of_the_original_model():
    angle = find_magic_angle(model_at(0.5, 1.0))
    magic = replace(model_at(0.5, 1.0), twist=angle)
    assert magic.alpha == pytest.approx(0.606, abs=2e-3)
    assert magic.dirac_velocity() < 1e-6
    assert 1.0 < angle < 1.1
    p = magic.points()
    width = np.ptp(magic.bands(np.array([p["Γ"], p["M"], p["K"]])))
    assert 1e-3 < width < 0.02


def test_no_magic_angle_in_the_range_is_said():
    with pytest.raises(
        PhysicsError, match=r"magic angle: got a velocity of at least 0\.\d+ of the single layer's"
    ):
        find_magic_angle(model_at(0.5, 1.0), largest_alpha=0.5)


@pytest.mark.parametrize("rotated", [False, True])
def test_symmetries(rotated):
    model = model_at(0.5, 0.8, rotated=rotated)
    momenta = np.array([[0.3, 0.1], [-0.2, 0.45], [0.05, -0.6]]) * model.k_theta
    bands = model.bands(momenta, 6)
    np.testing.assert_allclose(model.bands(turn(momenta, 120.0), 6), bands, atol=1e-7)
    vectors = model.hoppings[1] - model.hoppings[0]
    np.testing.assert_allclose(
        model.bands(momenta + vectors, 4), model.bands(momenta, 4), atol=1e-5
    )
    matrix = model.hamiltonian(momenta[0])
    np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-14)
    # C2·T protects the Dirac points of both layers
    for name in ("K", "K'"):
        middle = model.bands(model.points()[name][None])[0]
        assert middle[1] - middle[0] < 1e-6
    # without the turn of the cones, E(k) of one layer is −E of the other: a spectrum symmetric at M
    # up to the exchange
    flipped = -model.bands(np.array([model.points()["M"]]), 6)[0][::-1]
    difference = np.abs(model.bands(np.array([model.points()["M"]]), 6)[0] - flipped).max()
    assert (difference < 1e-7) != rotated


def test_uncoupled_layers_are_two_cones():
    model = ContinuumModel(3.0, VELOCITY, 0.0, 0.0)
    point = model.points()["K"]
    for step in (np.array([0.002, 0.001]), np.array([-0.001, 0.002])):
        np.testing.assert_allclose(
            model.bands((point + step)[None])[0],
            VELOCITY * np.linalg.norm(step) * np.array([-1, 1]),
        )
    assert model.k_theta == pytest.approx(
        np.linalg.norm(model.points()["K"] - model.points()["K'"])
    )


@pytest.mark.parametrize(
    "changes", [{"twist": 0.0}, {"twist": 40.0}, {"velocity": -1.0}, {"shells": 0}]
)
def test_parameters_without_meaning_are_refused(changes):
    with pytest.raises(
        PhysicsError, match=r"continuum model: got twist .* expected a twist in \(0, 30\)°"
    ):
        replace(model_at(0.5), **changes)
