"""The effective_mass stage on a honeycomb with different sublattices.

E(k) = ±√(Δ² + |f(k)|²), f ≈ ħvk near K.
"""

import numpy as np
import pytest
from toy_ensembles import compute, toy_ensemble, toy_settings
from toys import VELOCITY

from mlepi.errors import ConfigError
from mlepi.observables.effective_mass.stage import EffectiveMassStage
from mlepi.units import HBAR2_PER_ELECTRON_MASS

DELTA = 0.25
SETTINGS = {
    "valence_electrons": {6: 1},
    "kpoint": "K",
    "toward": "Γ",
    "distances": [0.0, 0.01, 0.02, 0.03],
    "order": 4,
    "energy_window": 1.2,
    "energy_step": 0.01,
    "peak_width": 0.05,
    "n_resamples": 20,
}


def build_stage(**settings):
    return EffectiveMassStage(**{**SETTINGS, **settings})


def gapped_ensemble(amplitude, **options):
    return toy_ensemble(amplitude, bilayer=False, overlap=0.0, stagger=DELTA, **options)


def test_mass_of_massive_dirac_electrons():
    """m* = ±Δ/v² from E = ±√(Δ² + ħ²v²k²)."""
    stage = build_stage()
    record = compute(stage, gapped_ensemble(0.0))
    expected = HBAR2_PER_ELECTRON_MASS * DELTA / VELOCITY**2
    np.testing.assert_allclose(record.equilibrium_masses, [-expected, expected], rtol=0.01)
    # peaks on a grid of 10 meV
    np.testing.assert_allclose(record.masses, [record.equilibrium_masses] * 2, rtol=0.03)
    assert record.distances.tolist() == [-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03]
    assert f"conduction {record.equilibrium_masses[1]:.4f} →" in stage.summarize(record)


def test_displacements_give_masses_with_error_bars():
    record = compute(build_stage(order=2), gapped_ensemble(0.02, n_samples=4))
    assert np.all(record.mass_errors > 0)
    np.testing.assert_array_equal(record.mass_changes[0], 0.0)
    assert np.all(record.masses[:, 1] > 0)


def test_line_may_be_given_by_coordinates_and_distances_in_any_order():
    atoms = gapped_ensemble(0.0).equilibrium.atoms
    named = build_stage().begin(gapped_ensemble(0.0)).windows[0]
    kpoint = named.kpoints[np.flatnonzero(named.distances == 0.0)[0]].tolist()
    given = build_stage(kpoint=kpoint, toward=[0, 0, 0], distances=[0.03, 0.0, 0.02, 0.01])
    found = given.begin(gapped_ensemble(0.0)).windows[0]
    np.testing.assert_allclose(found.kpoints, named.kpoints, atol=1e-12)
    steps = (found.kpoints - kpoint) @ np.linalg.inv(atoms.cell.array).T * 2 * np.pi
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), np.abs(found.distances), atol=1e-12)


@pytest.mark.parametrize(
    "given",
    [
        {"distances": [0.0, 0.01]},
        {"distances": [0.0, 0.01, 0.01, 0.02]},
        {"distances": [-0.01, 0.0, 0.01]},
        {"order": 3},
    ],
)
def test_bad_lines_are_refused(given):
    with pytest.raises(ConfigError, match="order 4 with at least three different"):
        build_stage(**given)


def test_other_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.effective_mass: got energy_step 0\.04"):
        build_stage(energy_step=0.04)
    with pytest.raises(ConfigError, match=r"stage\.effective_mass\.kpoint: got 'X'"):
        build_stage(toward="X").begin(gapped_ensemble(0.0))


def test_lines_decide_the_record_but_not_what_is_found_in_a_sample():
    settings, stage, finer = toy_settings(), build_stage(), build_stage(energy_step=0.005)
    assert stage.sample_inputs(settings) == finer.sample_inputs(settings)
    assert stage.inputs(settings) != finer.inputs(settings)
    assert stage.inputs(settings) != build_stage(order=2).inputs(settings)
    assert stage.sample_inputs(settings)["line"] == ["K", "Γ", [0.0, 0.01, 0.02, 0.03]]
