"""Spectra of states filled with electrons."""

import numpy as np
import pytest
from toy_ensembles import toy_ensemble

from mlepi.observables.conductivity.optical_spectra import (
    OpticalStates,
    SpectralLines,
    prepare_sheet,
)

LINES = SpectralLines(np.arange(21) * 0.05, 0.15, 300.0)


def test_ghost_states_hold_no_electrons():
    """One more state far below the others leaves neutrality, and the spectra, where they were."""
    levels = np.array([[-2.0, -1.0, -0.1, 0.1, 1.0, 2.0]])
    velocities = [np.ones((2, 6, 6), dtype=complex)]
    weights = [np.ones((1, 6))]
    plain = LINES.spectra(OpticalStates(4, levels, velocities, weights), 14.0, 1.0, 0.02)
    haunted = LINES.spectra(OpticalStates(5, levels, velocities, weights), 14.0, 1.0, 0.02)
    assert (plain["ghosts"], haunted["ghosts"]) == (0, 1)
    assert haunted["fermi_energy"] == pytest.approx(plain["fermi_energy"])
    np.testing.assert_allclose(haunted["conductivity"], plain["conductivity"])


def test_sheet_is_neutral_where_its_cone_is():
    """Both sites of the toy lie at 0.2 eV; without overlap the bands are symmetric around it."""
    ensemble = toy_ensemble(0.0, bilayer=False, overlap=0.0)
    sheet = prepare_sheet(ensemble.equilibrium, (3, 3, 1), LINES, {6: 1}, (12, 12, 1))
    assert sheet.fermi_energy == pytest.approx(0.2, abs=1e-6)
    assert (sheet.n_layers, sheet.n_electrons) == (1, 2)
    unfolded = sheet.unfold(np.array([0.3, 0.6, 0.0]))
    np.testing.assert_allclose(np.mod(3 * unfolded[:, :2], 1.0), [[0.3, 0.6]] * 9)
    assert len({tuple(k) for k in np.round(unfolded, 9)}) == 9
