"""Control variates end to end.

Tight binding with overlap in place of the network, without overlap as its cheap companion.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import toy_pipelines
from toy_pipelines import execute, seen

from mlepi.errors import ConfigError
from mlepi.observables.control_variate.stage import ControlVariateStage
from mlepi.observables.fermi_velocity.stage import FermiVelocityStage
from mlepi.observables.tight_binding.stage import TightBindingStage
from mlepi.pipeline import companion
from mlepi.pipeline.precision import Precision
from mlepi.pipeline.sources import Source
from mlepi.report.answers import find_answers
from mlepi.results import ResultsStore
from mlepi.results.quantities import half_interval

STAGES = (
    "structure",
    "phonon",
    "sampling",
    "hamiltonian",
    "fermi_velocity",
    "tight_binding",
    "control_variate",
)
FERMI_VELOCITY = {
    "valence_electrons": {6: 1},
    "electronic_temperature": 300.0,
    "band_spacing": 0.3,
    "dos_mesh": [3, 3, 1],
    "dos_width": 0.3,
    "dos_window": [-10.0, 8.0],
    "distances": [0.04, 0.07, 0.1],
    "energy_window": 1.2,
    "energy_step": 0.02,
    "line_shape": "gaussian",
    "line_width": 0.1,
    "peak_width": 0.25,
    "velocity_window": [0.04, 0.1],
    "windows": [],
    "dispersion": "linear",
    "split_off_bands": False,
    "n_resamples": 60,
    "n_counts": 2,
}


def make_run(folder, n_samples=12, n_control=60, **changes):
    network = {
        "_target_": "mlepi.reference_systems.TightBinding",
        "orbitals": "s",
        "orthogonal": False,
    }
    structure = {"_target_": "mlepi.structures.build_graphene", "stacking": "monolayer"}
    return toy_pipelines.make_run(
        folder,
        stages={
            "fermi_velocity": FermiVelocityStage(**FERMI_VELOCITY),
            "tight_binding": TightBindingStage(
                valence_electrons={6: 1}, n_structures=2, distances=[0.0, 0.1], n_levels=2
            ),
            "control_variate": ControlVariateStage(n_samples=n_control, n_folds=4),
        },
        phonon_settings={"dos_mesh": (3, 3, 1), "n_points": 8},
        n_samples=n_samples,
        structure=Source("structure", structure),
        phonon=Source("phonon", {"_target_": "mlepi.reference_systems.HoneycombSprings"}),
        electron=Source("electron", network),
        dtype="float64",
        **changes,
    )


def test_the_noise_that_both_share_is_taken_off(tmp_path):
    run = make_run(tmp_path)
    text = execute(run, STAGES)
    assert "control_variate/fermi_velocity" in text
    record, averaged = run.read("control_variate"), run.read("fermi_velocity")
    assert record.n_samples == 12
    assert record.n_control_samples == 60
    np.testing.assert_array_equal(record.spectral.plain[:, 0], averaged.spectral.velocities)
    np.testing.assert_allclose(
        record.spectral.plain_errors[:, 0], averaged.spectral.velocity_errors, rtol=0.5
    )
    # an overlap of 0.129 changes energies by some per cent: the two must follow each other from
    # sample to sample
    assert record.spectral.correlations[:, 0].min() > 0.99
    assert record.spectral.sample_reductions[:, 0].min() > 20.0
    assert record.spectral.errors[1, 0] < record.spectral.plain_errors[1, 0]
    # what many samples give lies within the error bars of what few and the control give
    many = make_run(tmp_path / "many", n_samples=150)
    execute(many, STAGES[:5])
    reference = many.read("fermi_velocity").spectral
    sigma = np.hypot(record.spectral.errors[:, 0], reference.velocity_errors)
    assert np.all(np.abs(record.spectral.values[:, 0] - reference.velocities) < 3.5 * sigma)
    # the cheap samples are those of the network
    same = ResultsStore(tmp_path / "control" / "same")
    assert same.content("phonon") == run.store.content("phonon")
    fit = run.read("tight_binding")
    assert fit.n_layers == 1
    assert fit.spacing == 3.35  # that of graphite, without meaning in a monolayer
    assert fit.rms < 0.02
    assert fit.fermi_velocity == pytest.approx(averaged.spectral.equilibrium_velocity, rel=0.05)
    # a second time there is nothing to do; more cheap samples leave everything else alone
    assert execute(make_run(tmp_path), STAGES).count("unchanged") == len(STAGES)
    again = execute(make_run(tmp_path, n_control=70), STAGES)
    assert (
        again.count("unchanged") == len(STAGES) - 1 + 4
    )  # and the runs on the same samples, and H of the other


def test_nested_runs_differ_in_the_hamiltonian_alone(tmp_path):
    target = {"target": "fermi_velocity", "target_error": 1e9}
    run = make_run(tmp_path, n_samples=3, n_control=8, sampling_settings=target)
    execute(run, STAGES[:-1])
    n_used = run.read("fermi_velocity").n_samples
    same, many = (nested for nested, _ in run.stages["control_variate"].nested_runs(run))
    assert (same.settings.n_samples, many.settings.n_samples) == (n_used, 8)
    assert same.store.folder == tmp_path / "control" / "same"
    assert many.store.folder == tmp_path / "control" / "many"
    for nested in (same, many):
        assert nested.settings.seed == run.settings.seed
        assert nested.settings.temperatures == run.settings.temperatures
        assert nested.settings.electron != run.settings.electron
        assert nested.networks.settings is nested.settings
        assert nested.stages["sampling"].target_error is None
        assert nested.stages["fermi_velocity"].valence_electrons == {6: 1.0}
        assert nested.stages["phonon"] is run.stages["phonon"]
    assert run.stages["sampling"].target_error == 1e9


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.control_variate: got n_samples 1"):
        ControlVariateStage(n_samples=1, n_folds=5)
    with pytest.raises(ConfigError, match=r"n_folds 1; expected at least 2 of both"):
        ControlVariateStage(n_samples=100, n_folds=1)


ASKED = {"target": "fermi_velocity", "relative_error": 0.012}


def time_as(monkeypatch, network, cheap):
    """Let samples of the network and cheap ones take so many seconds."""
    times = iter([network, cheap])
    monkeypatch.setattr(companion, "_time", lambda work: next(times))


def make_asked(folder, **changes):
    settings = {"sampling_settings": ASKED, "n_samples": 400, "n_control": 40, **changes}
    return make_run(folder, **settings)


def test_an_error_bar_is_reached_with_the_control_variate(tmp_path, monkeypatch):
    time_as(monkeypatch, 1.0, 0.01)
    run = make_asked(tmp_path)
    text = execute(run, STAGES[:5])
    assert "of control_variate: with" in text
    assert ": taken" in text
    assert re.search(r"\d+ samples of control_variate, .* s where none is there", text)
    averaged, record = run.read("fermi_velocity"), run.read("control_variate")
    precision = Precision.from_provenance(run.store.provenance("fermi_velocity"))
    assert precision.corrected_by == "control_variate"
    assert precision.n_cheap == record.n_control_samples > 32
    assert "cheap ones (control variate)" in precision.rows()[0][1]
    assert all(precision.reached)
    errors = half_interval(record.spectral, "errors")[:, 2]
    np.testing.assert_allclose(precision.errors, errors, rtol=1e-12)
    assert np.all(errors <= 0.012 * record.spectral.values[:, 2])
    # the network alone has not reached it
    assert (
        half_interval(averaged.spectral, "slope_errors").max()
        > 0.0125 * averaged.spectral.slopes.min()
    )
    # the first number of the run is the corrected one, with the equilibrium of the network
    stages = {name: type(stage) for name, stage in run.stages.items()}
    records = {name: run.read(name) for name in ("fermi_velocity", "control_variate")}
    first, second = find_answers(records, stages, [], "fermi_velocity")
    assert (first.stage, second.stage) == ("control_variate", "fermi_velocity")
    assert first.at_rest == second.at_rest
    # a second time nothing is computed, whatever the clock says
    time_as(monkeypatch, 0.01, 1.0)
    again = make_asked(tmp_path)
    assert execute(again, STAGES[:5]).count("unchanged") == 5
    assert seen("fermi_velocity") == []


def test_a_choice_is_kept_by_a_run_that_goes_on(tmp_path, monkeypatch):
    time_as(monkeypatch, 1.0, 0.01)
    whole = make_asked(tmp_path / "whole")
    execute(whole, STAGES[:5])

    def stop(*_):
        raise KeyboardInterrupt

    broken = make_asked(tmp_path / "broken")
    time_as(monkeypatch, 1.0, 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(ControlVariateStage, "target_values", stop)  # at the first look with it
        with pytest.raises(KeyboardInterrupt):
            execute(broken, STAGES[:5])
    time_as(monkeypatch, 0.01, 1.0)  # another clock would choose otherwise
    text = execute(make_asked(tmp_path / "broken"), STAGES[:5])
    assert "as chosen before" in text
    records = [run.read("control_variate") for run in (whole, broken)]
    np.testing.assert_array_equal(records[0].spectral.values, records[1].spectral.values)


def test_the_network_goes_on_alone_where_that_costs_less(tmp_path, monkeypatch):
    time_as(monkeypatch, 0.01, 1.0)
    run = make_asked(tmp_path)
    text = execute(run, STAGES[:5])
    assert "the network goes on alone" in text
    precision = Precision.from_provenance(run.store.provenance("fermi_velocity"))
    assert (precision.corrected_by, precision.n_cheap) == ("", 0)
    assert "control_variate" not in run.store.stages()
    # the same as with the companion switched off
    other = make_asked(tmp_path / "none", sampling_settings={**ASKED, "companion": "none"})
    assert "control_variate" not in execute(other, STAGES[:5])
    spectral = [each.read("fermi_velocity").spectral for each in (run, other)]
    np.testing.assert_array_equal(spectral[0].slopes, spectral[1].slopes)


def test_a_structure_that_is_not_carbon_has_no_companion(tmp_path):
    run = make_run(tmp_path)
    execute(run, STAGES[:1])
    stage = run.stages["control_variate"]
    assert stage.suits(run)
    record = run.read("structure")
    record.atoms.numbers[:] = 5
    assert not stage.suits(replace(run, store=Shown(record)))


class Shown:
    """A store that shows one record."""

    def __init__(self, record):
        self.record = record

    def read(self, *_):
        return self.record
