"""The dos stage on tight-binding supercells."""

import numpy as np
import pytest
from shifted_samples import compute_shifted
from toy_ensembles import compute, toy_ensemble, toy_settings

from mlepi.errors import ConfigError
from mlepi.observables.dos.stage import DosStage

SETTINGS = {
    "valence_electrons": {6: 1},
    "mesh": [2, 2, 1],
    "window": [-14.0, 14.0],
    "energy_step": 0.05,
    "width": 0.15,
    "align": "none",
}


def build_stage(**settings):
    return DosStage(**{**SETTINGS, **settings})


def test_an_undisplaced_supercell_has_the_density_of_the_primitive_cell():
    stage = build_stage()
    record = compute(stage, toy_ensemble(0.0, overlap=0.1))
    np.testing.assert_allclose(record.dos, [record.equilibrium] * 2, atol=1e-9)
    np.testing.assert_allclose(record.projections, [record.equilibrium_projections] * 2, atol=1e-9)
    np.testing.assert_allclose(record.fermi_shifts, 0.0, atol=0.02)
    assert record.channels == ("C s", "layer 0", "layer 1")
    assert record.reference == pytest.approx(0.2, abs=0.1)
    assert "states" not in stage.summarize(record)
    assert "2×2×1 k-points of 3×3×1 cells" in stage.summarize(record)


@pytest.mark.parametrize("amplitude", [0.0, 0.03])
def test_densities_count_orbitals_and_electrons(amplitude):
    record = compute(build_stage(), toy_ensemble(amplitude, overlap=0.1))
    step = record.energies[1] - record.energies[0]
    np.testing.assert_allclose(record.dos.sum(axis=1) * step, record.n_orbitals, rtol=1e-6)
    np.testing.assert_allclose(record.integrated[:, -1], record.n_orbitals, rtol=1e-6)
    layers = record.projections[:, 1:]  # they make up the whole, with two orbitals each
    np.testing.assert_allclose(layers.sum(axis=1), record.dos, atol=1e-9)
    np.testing.assert_allclose(layers.sum(axis=2) * step, 2.0, rtol=1e-6)
    at_fermi = [
        np.interp(record.fermi_shifts[i], record.energies, record.integrated[i]) for i in range(2)
    ]
    np.testing.assert_allclose(at_fermi, record.n_electrons / 2, rtol=1e-3)
    at_fermi = [np.interp(record.fermi_shifts[i], record.energies, record.dos[i]) for i in range(2)]
    np.testing.assert_allclose(record.fermi_dos, at_fermi)
    stage = build_stage()
    assert stage.target_values(record)["fermi_dos"] is record.fermi_dos
    spread = stage.contributions(record)["fermi_dos"].std(axis=0, ddof=1)
    error = spread / np.sqrt(len(record.pseudo_fermi_dos))
    np.testing.assert_allclose(record.fermi_dos_errors, error, atol=1e-12)
    assert np.all(stage.error_bars(record)["fermi_dos"] >= record.fermi_dos_errors)
    assert np.all(record.dos_errors >= 0)
    assert (record.dos_errors.max() > 1e-9) == (amplitude > 0)


def test_rigid_shifts_are_removed_by_the_mean_potential():
    ensemble = toy_ensemble(0.0, overlap=0.1, n_samples=2, temperatures=(0.0,))
    kept, aligned = (
        compute_shifted(build_stage(align=align), ensemble, (-0.3, 0.3))
        for align in ("none", "mean_potential")
    )
    np.testing.assert_allclose(aligned.dos[0], aligned.equilibrium, atol=1e-9)
    assert np.abs(kept.dos[0] - kept.equilibrium).max() > 0.1


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.dos: got energy_step 0\.1, width 0\.15"):
        build_stage(energy_step=0.1)
    with pytest.raises(ConfigError, match=r"window \[1\.0, 2\.0\] eV; expected .* around 0"):
        build_stage(window=[1.0, 2.0])
    with pytest.raises(ConfigError, match=r"stage\.dos\.align: got 'vacuum'"):
        build_stage(align="vacuum")


def test_every_setting_decides_the_densities_of_a_sample():
    settings, stage = toy_settings(), build_stage()
    assert stage.inputs(settings) == stage.sample_inputs(settings)
    for changes in ({"mesh": [1, 1, 1]}, {"width": 0.2}, {"align": "mean_potential"}):
        assert build_stage(**changes).inputs(settings) != stage.inputs(settings)
    assert stage.inputs(settings)["energies"] == pytest.approx([-14.0, 561, 14.0])
