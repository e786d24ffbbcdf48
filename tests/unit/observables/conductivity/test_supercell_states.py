"""The k-points of samples as control variate of the dense mesh."""

import numpy as np
from toy_ensembles import toy_ensemble

from mlepi.observables.conductivity.optical_spectra import SpectralLines, prepare_sheet
from mlepi.observables.conductivity.supercell_states import offset_mesh, share_sheet


def test_offsets_cover_the_zone_and_are_known_beforehand():
    mesh = (2, 2, 1)
    np.testing.assert_array_equal(offset_mesh(mesh, 7), offset_mesh(mesh, 7))
    offsets = np.array([offset_mesh(mesh, n)[0, :2] for n in range(256)])
    for turns in ([2, 0], [0, 2], [2, 2], [4, -2]):
        assert abs(np.exp(2j * np.pi * offsets @ turns).mean()) < 0.02


def test_mean_over_the_offsets_is_the_integral_over_the_zone():
    """It makes the undisplaced cell an unbiased control variate."""
    ensemble, lines = (
        toy_ensemble(0.0, bilayer=False),
        SpectralLines(np.arange(21) * 0.05, 0.4, 2000.0),
    )
    sheet = prepare_sheet(ensemble.equilibrium, ensemble.supercell, lines, {6: 1}, (80, 80, 1))
    samples = share_sheet(sheet, (2, 2, 1))
    sampled = [samples.reference(n)["conductivity"] for n in range(40)]
    error = np.std(sampled, axis=0) / np.sqrt(len(sampled))
    difference = np.mean(sampled, axis=0) - sheet.dense_response["conductivity"]
    assert np.all(np.abs(difference) < 4.0 * error + 1e-3)
