"""v of a bilayer with γ₁ pinned by its split-off bands."""

from __future__ import annotations

import numpy as np
import pytest
from toys import GAMMA_1, VELOCITY, cone_energies, honeycomb
from toys import tight_binding as toy_blocks

from mlepi.errors import ConfigError
from mlepi.physics.bands import lattice, pinned_velocities, velocities
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

WINDOW = (0.04, 0.10)
K = np.linspace(*WINDOW, 5)


def in_units(fit):
    """ħv, eV·Å, and γ₁, eV."""
    return fit.fermi_velocity / EV_ANGSTROM_TO_METRE_PER_SECOND, fit.gamma_1


@pytest.mark.parametrize("nearest", [0.0, 0.02, 0.055])
def test_an_exact_hyperbola_is_found_from_any_pin(nearest):
    valence, conduction = cone_energies(K, 5.3, 0.37, -3.6)
    outer = 0.5 * (np.hypot(0.37, 2 * 5.3 * nearest) + 0.37)
    fit = pinned_velocities.fit_pinned_cone(K, valence, conduction, WINDOW, (nearest, outer))
    assert in_units(fit) == pytest.approx((5.3, 0.37), rel=1e-12)
    assert fit.dirac_energy == pytest.approx(-3.6, abs=1e-12)
    assert fit.rms < 1e-12
    slope = 2.0 * 5.3**2 * K / np.hypot(0.37, 2.0 * 5.3 * K)
    v, gamma_1 = pinned_velocities.fit_pinned_slopes(
        K, np.stack([slope, slope], axis=1), WINDOW, (nearest, outer)
    )
    assert (v / EV_ANGSTROM_TO_METRE_PER_SECOND, gamma_1) == pytest.approx((5.3, 0.37), rel=1e-12)


def test_one_distance_is_enough_and_k_tells_nothing():
    valence, conduction = cone_energies(np.array([0.0, 0.02]), 5.3, 0.37, 0.0)
    fit = pinned_velocities.fit_pinned_cone(
        np.array([0.0, 0.02]), valence, conduction, (0.0, 0.03), (0.0, 0.37)
    )
    assert in_units(fit) == pytest.approx((5.3, 0.37), rel=1e-12)
    with pytest.raises(ConfigError, match="velocity window"):
        pinned_velocities.fit_pinned_cone(
            np.zeros(1), np.zeros(1), np.zeros(1), (0.0, 0.03), (0.0, 0.37)
        )


def test_a_constant_offset_is_no_change_of_the_coupling():
    """The free fit books it as a change of γ₁ and of v, the slope and the pinned fit hardly do."""
    valence, conduction = cone_energies(K, 5.5, 0.38, 0.0)
    raised, lowered = conduction + 0.02, valence - 0.02
    free = velocities.fit_cone(K, lowered, raised, WINDOW)
    assert free.gamma_1 < 0.85 * 0.38
    assert in_units(free)[0] < 0.975 * 5.5
    slopes = [
        velocities.window_slope(K, *bands, WINDOW)
        for bands in ((valence, conduction), (lowered, raised))
    ]
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-12)
    pinned = pinned_velocities.fit_pinned_cone(K, lowered, raised, WINDOW, (0.0, 0.38))
    assert pinned.gamma_1 == 0.38


def test_the_split_off_bands_of_a_tight_binding_bilayer_are_at_gamma_1():
    atoms = honeycomb(bilayer=True)
    cell = atoms.cell.array
    points = lattice.hexagonal_points(cell)
    distances = np.array([0.0, 0.04, 0.055, 0.07, 0.085, 0.1])
    lines = [
        lattice.build_line(points["K"], points["Γ"], sign * distances, cell) for sign in (1, -1)
    ]
    edge_index, shifts, h, _, offsets = toy_blocks(atoms)
    bands = solve_bands(bloch_sum(h, edge_index, shifts, offsets, np.concatenate(lines)))
    outer = float(0.5 * (bands[0, 3] - bands[0, 0]))
    assert outer == pytest.approx(GAMMA_1, rel=1e-9)
    fit = pinned_velocities.fit_pinned_cone(
        np.tile(distances, 2), bands[:, 1], bands[:, 2], WINDOW, (0.0, outer)
    )
    assert in_units(fit) == pytest.approx((VELOCITY, GAMMA_1), rel=3e-3)
