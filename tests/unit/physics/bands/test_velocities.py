"""Fermi velocities of tight-binding graphene and AB bilayer graphene."""

from __future__ import annotations

import numpy as np
import pytest
from toys import GAMMA_1, VELOCITY, cone_energies, honeycomb, tight_binding

from mlepi.errors import ConfigError
from mlepi.physics.bands import lattice, velocities
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND


def low_bands(atoms, distances):
    """Low bands at given |k − K| on K→Γ and K→M, and the distances once for each direction."""
    cell = atoms.cell.array
    points = lattice.hexagonal_points(cell)
    lines = [
        lattice.build_line(points["K"], points["Γ"], sign * distances, cell) for sign in (1, -1)
    ]
    edge_index, shifts, h, _, offsets = tight_binding(atoms)
    bands = solve_bands(bloch_sum(h, edge_index, shifts, offsets, np.concatenate(lines)))
    middle = len(atoms) // 2
    return np.tile(distances, 2), bands[:, middle - 1], bands[:, middle]


def test_monolayer_has_the_textbook_velocity():
    fit = velocities.fit_cone(
        *low_bands(honeycomb(), np.array([0.001, 0.002, 0.003])), (0.0, 0.01), "linear"
    )
    # √3·a·t/2ħ for a = 2.46 Å, t = 2.7 eV
    assert fit.fermi_velocity == pytest.approx(8.74e5, rel=1e-3)
    assert fit.fermi_velocity == pytest.approx(VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=1e-5)
    assert fit.dirac_energy == pytest.approx(0.0, abs=1e-9)


def test_bilayer_hyperbola_recovers_velocity_and_coupling():
    distances = np.linspace(0.04, 0.10, 4)
    fit = velocities.fit_cone(*low_bands(honeycomb(bilayer=True), distances), (0.04, 0.10))
    assert fit.fermi_velocity == pytest.approx(VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=1e-2)
    assert fit.gamma_1 == pytest.approx(GAMMA_1, rel=3e-2)
    # the plain slope is smaller, as the group velocity of the hyperbola says
    slope = velocities.window_slope(*low_bands(honeycomb(bilayer=True), distances), (0.04, 0.10))
    k = np.linspace(0.04, 0.10, 200)
    group = np.mean(2 * VELOCITY * k / np.sqrt(GAMMA_1**2 / 4 + (VELOCITY * k) ** 2)) / 2
    assert slope == pytest.approx(group * VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=2e-2)


def test_exact_hyperbola_with_an_offset():
    k = np.linspace(0.02, 0.2, 10)
    valence, conduction = cone_energies(k, 5.3, 0.37, -3.6)
    fit = velocities.fit_cone(k, valence, conduction, (0.04, 0.10))
    assert fit.fermi_velocity == pytest.approx(5.3 * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=1e-6)
    assert fit.gamma_1 == pytest.approx(0.37, rel=1e-6)
    assert fit.dirac_energy == pytest.approx(-3.6, abs=1e-12)
    assert fit.rms < 1e-9


def test_split_off_bands_pin_the_coupling():
    k = np.linspace(0.04, 0.10, 5)
    valence, conduction = cone_energies(k, 5.3, 0.37, -3.6)
    split_off = (valence - 0.37, conduction + 0.37)
    rng = np.random.default_rng(0)
    spread = {False: [], True: []}
    for _ in range(40):
        noise = rng.normal(scale=0.01, size=(2, 2, 5))
        for pinned, found in spread.items():
            outer = (split_off[0] + noise[1, 0], split_off[1] + noise[1, 1]) if pinned else None
            fit = velocities.fit_cone(
                k, valence + noise[0, 0], conduction + noise[0, 1], (0.04, 0.10), split_off=outer
            )
            found.append([fit.fermi_velocity / EV_ANGSTROM_TO_METRE_PER_SECOND, fit.gamma_1])
    errors = {pinned: np.std(found, axis=0) for pinned, found in spread.items()}
    assert np.all(errors[True] < 0.4 * errors[False])
    np.testing.assert_allclose(
        np.mean(spread[True], axis=0), [5.3, 0.37], atol=3 * errors[True].max() / np.sqrt(40)
    )
    exact = velocities.fit_cone(k, valence, conduction, (0.04, 0.10), split_off=split_off)
    assert exact.gamma_1 == pytest.approx(0.37, rel=1e-8)


def test_bad_input_is_refused():
    k = np.linspace(0.0, 0.1, 5)
    with pytest.raises(ConfigError, match="velocity window"):
        velocities.fit_cone(k, -k, k, (0.06, 0.10))
    with pytest.raises(ConfigError, match="dispersion: got 'cubic'"):
        velocities.fit_cone(k, -k, k, (0.0, 0.1), "cubic")


@pytest.mark.parametrize("gamma_1", [0.0, 0.38])
def test_slopes_of_a_cone_give_its_velocity(gamma_1):
    k = np.array([0.04, 0.055, 0.07, 0.085, 0.1])
    slope = 2.0 * 5.5**2 * k / np.sqrt(gamma_1**2 + 4.0 * (5.5 * k) ** 2)
    dispersion = "hyperbola" if gamma_1 else "linear"
    velocity, found = velocities.fit_slopes(
        k, np.stack([slope, slope], axis=1), (0.04, 0.1), dispersion
    )
    assert velocity == pytest.approx(5.5 * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=1e-6)
    assert found == pytest.approx(gamma_1, rel=1e-6)
    with pytest.raises(ConfigError, match="velocity window"):
        velocities.fit_slopes(k, slope[:, None], (0.09, 0.1), dispersion)


@pytest.mark.parametrize("gamma_1", [0.0, 1e-6, 0.37])
def test_fits_go_to_the_accuracy_of_the_arithmetic(gamma_1):
    """Also where γ₁ lies on its bound 0."""
    k = np.linspace(0.04, 0.10, 5)
    valence, conduction = cone_energies(k, 5.3, gamma_1, -3.6)
    fit = velocities.fit_cone(k, valence, conduction, (0.04, 0.10))
    v = fit.fermi_velocity / EV_ANGSTROM_TO_METRE_PER_SECOND
    assert v == pytest.approx(5.3, rel=1e-11)
    assert fit.gamma_1 == pytest.approx(gamma_1, abs=1e-11)
    split_off = (valence - gamma_1, conduction + gamma_1)
    fit = velocities.fit_cone(k, valence, conduction, (0.04, 0.10), split_off=split_off)
    assert fit.fermi_velocity / EV_ANGSTROM_TO_METRE_PER_SECOND == pytest.approx(5.3, rel=1e-11)
    assert fit.gamma_1 == pytest.approx(gamma_1, abs=1e-11)
    slope = 2.0 * 5.3**2 * k / np.sqrt(gamma_1**2 + 4.0 * (5.3 * k) ** 2)
    v, found = velocities.fit_slopes(k, slope[:, None], (0.04, 0.10))
    assert v / EV_ANGSTROM_TO_METRE_PER_SECOND == pytest.approx(5.3, rel=1e-11)
    # the slopes depend on γ₁²/4v²k²: 1e-16 of them is 1e-8 of v·k
    assert found == pytest.approx(gamma_1, abs=2e-7)


def test_energies_above_every_hyperbola_have_no_coupling():
    """The best γ₁ ≥ 0 is 0 where the best of all is negative; v is then that of a line."""
    k = np.linspace(0.04, 0.10, 5)
    half_gap = 5.3 * k + 0.01
    fit = velocities.fit_cone(k, -half_gap, half_gap, (0.04, 0.10))
    assert fit.gamma_1 == 0.0
    assert fit.fermi_velocity / EV_ANGSTROM_TO_METRE_PER_SECOND == pytest.approx(
        float(k @ half_gap / (k @ k)), rel=1e-14
    )
    slopes = 5.3 - k
    v, gamma_1 = velocities.fit_slopes(k, slopes[:, None], (0.04, 0.10))
    assert gamma_1 == 0.0
    assert v / EV_ANGSTROM_TO_METRE_PER_SECOND == pytest.approx(slopes.mean(), rel=1e-14)


def test_k_itself_has_no_slope():
    k = np.array([0.0, 0.02, 0.04])
    slope = np.array([1e3, 5.3, 5.3])[:, None]
    v, _ = velocities.fit_slopes(k, slope, (0.0, 0.05), "linear")
    assert v == pytest.approx(5.3 * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=1e-14)
