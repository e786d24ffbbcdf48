"""Samplers, sum rules and ways of differentiation as a user of the pipeline meets them."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from toy_models import HoneycombSprings
from toy_pipelines import execute, make_run, seen, toy_source

from mlepi.command_line import compose_config
from mlepi.errors import ConfigError, DataError
from mlepi.observables import all_stages
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.samplers import ZG, MonteCarlo, Sobol, ThermalLines
from mlepi.pipeline import SampleKey
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.samplers import build_trajectory
from mlepi.pipeline.stages.phonon.stage import PhononStage
from mlepi.pipeline.stages.sampling.stage import study_convergence

CONF = Path(__file__).parents[3] / "conf"
TOYS = [
    "phonon={_target_: toy_models.HoneycombSprings}",
    "electron={_target_: toy_models.ToyElectron}",
]
PREPARATION = ("structure", "phonon", "sampling", "hamiltonian")


def sampler_of(*arguments):
    config = compose_config(CONF, "infer", [*TOYS, *arguments])
    return check_config(config, all_stages()).sampler


def test_sampler_is_chosen_by_name():
    assert type(sampler_of("sampler=zg")) is ZG
    assert type(sampler_of()) is MonteCarlo


def test_settings_of_the_sampler():
    assert sampler_of("sampler=sobol", "sampler.n_replicates=16").n_replicates == 16
    for arguments, expected in (
        (
            ["sampler=sobol", "+sampler.replicates=16"],
            r"sampler.replicates: got an unknown key; expected a key of sampler. Did you mean",
        ),
        (["~sampler"], r"sampler: got no such key; expected a value"),
        (
            ["sampler=sobol", "sampler.n_replicates=1"],
            r"sampler.n_replicates: got 1; expected 2 or more",
        ),
    ):
        with pytest.raises(ConfigError, match=expected):
            sampler_of(*arguments)
    with pytest.raises(DataError, match=r"sampler.file: got no file 'trajectory/T0.extxyz'"):
        sampler_of("sampler=trajectory")


def test_plain_monte_carlo_is_not_named_in_what_decides_a_snapshot(tmp_path):
    # so that results of samples drawn before there was a choice stay valid
    run = make_run(tmp_path)
    assert dict(run.stages["sampling"].distribution(run.settings)) == {
        "statistics": "quantum",
        "imaginary": "error",
        "floor_frequency": 0.5,
        "seed": 0,
    }
    run = make_run(tmp_path, sampler=Sobol(), sampling_settings={"project_out": "ZA"})
    named = run.stages["sampling"].distribution(run.settings)
    assert (named["sampler"], named["n_replicates"], named["project_out"], named["files"]) == (
        "Sobol",
        8,
        "ZA",
        {},
    )


def test_a_mesh_is_named_where_it_is_not_the_usual_one(tmp_path):
    usual = make_run(tmp_path)
    assert "interlayer_mesh" not in usual.stages["sampling"].inputs(usual.settings)
    choices = {"interlayer_mesh": [6, 6, 1], "project_out": "interlayer_gamma"}
    run = make_run(tmp_path, sampling_settings=choices)
    named = run.stages["sampling"].inputs(run.settings)
    assert named["interlayer_mesh"] == [6, 6, 1]
    assert named["project_out"] == "interlayer_gamma"
    with pytest.raises(ConfigError, match=r"stage\.sampling\.interlayer_mesh"):
        make_run(tmp_path, sampling_settings={"interlayer_mesh": [6, 0, 1]})


def test_sobol_run(tmp_path):
    run = make_run(tmp_path, sampler=Sobol(n_replicates=2), n_samples=4)
    text = execute(run)
    record = run.read("sampling")
    assert (record.sampler, record.n_groups, record.effective_sample_size) == (
        "Sobol",
        2,
        pytest.approx(4.0),
    )
    np.testing.assert_array_equal(run.ensemble().design.groups, [0, 1, 0, 1])
    expected = Sobol(n_replicates=2).displacements(run.ensemble().distribution, 300.0, [3], 0)[0]
    ideal = run.read("phonon").atoms.repeat((3, 3, 1)).positions
    np.testing.assert_allclose(
        run.ensemble().displaced(SampleKey(3, 300.0)).positions - ideal, expected, atol=1e-12
    )
    assert run.ensemble().displacements(0.0, [10, 11]).shape == (2, 18, 3)
    assert "4 snapshots (Sobol)" in text
    assert "ZA share of ⟨u²⟩" in text
    # growing repeats nothing; another sampler repeats everything
    grown = make_run(tmp_path, sampler=Sobol(n_replicates=2), n_samples=6)
    told = " ".join(execute(grown).split())
    assert ": sampling: 6 samples in 2 replicates are not balanced; 8 would be" in told
    assert {key.sample for key in seen()} == {4, 5}
    other = make_run(tmp_path, sampler=ThermalLines(), n_samples=4)
    execute(other)
    assert len(seen()) == 8
    assert other.read("sampling").n_groups == 2


def test_record_of_the_sampling(tmp_path):
    run = make_run(tmp_path, n_samples=40)
    execute(run, PREPARATION)
    record = run.read("sampling")
    np.testing.assert_allclose(record.za_shares, run.ensemble().distribution.za_shares())
    assert np.all((record.za_shares > 0) & (record.za_shares < 1))
    mean = record.sampled_mean_square_displacements.mean(axis=1)
    np.testing.assert_allclose(record.convergence[-1, :, 1], mean[:, 2])
    np.testing.assert_allclose(record.convergence[-1, :, 0], mean[:, 0] + mean[:, 1])
    assert record.convergence_counts[[0, -1]].tolist() == [1, 40]
    assert np.isnan(record.convergence_errors[0]).all()
    exact = record.mean_square_displacements.mean(axis=1)
    # both directions, both temperatures: within 5 standard errors
    deviation = (
        np.abs(record.convergence[-1, :, 1] - exact[:, 2]) / record.convergence_errors[-1, :, 1]
    )
    assert deviation.max() < 5


def test_convergence_of_known_numbers():
    squares = np.zeros((1, 4, 3))
    squares[0, :, 2] = [1.0, 3.0, 1.0, 3.0]
    counts, means, errors = study_convergence(squares, SampleDesign(np.array([0, 0, 1, 1])))
    np.testing.assert_array_equal(counts, [1, 2, 3, 4])
    np.testing.assert_allclose(means[:, 0, 1], [1.0, 2.0, 5 / 3, 2.0])
    np.testing.assert_allclose(errors[3, 0], 0.0, atol=1e-15)  # both groups have the same mean
    assert np.isnan(errors[1]).all()


def test_flexural_motion_is_left_out_of_every_sample(tmp_path):
    whole, rest = (
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", sampling_settings={"project_out": "ZA"}),
    )
    texts = [execute(run, PREPARATION) for run in (whole, rest)]
    assert ["left out" in text for text in texts] == [False, True]
    before, after = whole.read("sampling"), rest.read("sampling")
    lost = 1 - after.mean_square_displacements.sum(
        axis=(1, 2)
    ) / before.mean_square_displacements.sum(axis=(1, 2))
    np.testing.assert_allclose(lost, after.za_shares, rtol=1e-9)
    a, b = (run.ensemble().displaced(SampleKey(0, 300.0)).positions for run in (whole, rest))
    np.testing.assert_allclose(a[:, :2], b[:, :2], atol=1e-12)
    assert np.abs(a[:, 2] - b[:, 2]).max() > 1e-3


def test_a_trajectory_of_exported_samples_gives_the_same_run(tmp_path):
    first = make_run(tmp_path / "a", sampling_settings={"export": True}, n_samples=4)
    execute(first)
    sampler = build_trajectory(
        file=str(tmp_path / "a" / "samples" / "T{temperature:g}.extxyz"), block=1
    )
    second = make_run(tmp_path / "b", sampler=sampler, n_samples=4)
    execute(second)
    np.testing.assert_allclose(second.read("levels").mean, first.read("levels").mean, atol=1e-6)
    assert (
        second.read("sampling").imaginary == "freeze"
    )  # the simulation needs no harmonic distribution
    with pytest.raises(DataError, match=r"trajectory at 0 K: got 4 snapshots; expected 9"):
        execute(make_run(tmp_path / "c", sampler=sampler, n_samples=9), PREPARATION)


def test_a_changed_trajectory_is_another_ensemble(tmp_path):
    first = make_run(tmp_path / "a", sampling_settings={"export": True}, n_samples=4)
    execute(first, PREPARATION)
    files = [tmp_path / "a" / "samples" / f"T{t}.extxyz" for t in (0, 300)]
    sampler = build_trajectory(file=str(tmp_path / "a" / "samples" / "T{temperature:g}.extxyz"))
    run = make_run(tmp_path / "b", sampler=sampler)
    before = run.stages["sampling"].distribution(run.settings)
    files[1].write_text(files[1].read_text() + files[1].read_text())
    assert run.stages["sampling"].distribution(run.settings) != before


def test_force_constants_need_a_network_for_derivatives(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"stage.phonon.method: got 'vjp'; expected one of \['displacements', 'derivatives'\]",
    ):
        PhononStage(method="vjp")
    run = make_run(tmp_path, phonon_settings={"method": "derivatives"})
    with pytest.raises(
        ConfigError,
        match=r"stage.phonon.method: got derivatives of HoneycombSprings, which gives none",
    ):
        execute(run, PREPARATION)


def test_rotational_rules_are_imposed_and_recorded(tmp_path):
    # stretched and with springs against a flat reference, which no rotation allows
    structure = toy_source("structure", "build_honeycomb", a=2.48)
    run = make_run(tmp_path, structure=structure, phonon_settings={"sum_rules": "rotational"})
    text = execute(run, PREPARATION[:2])
    record = run.read("phonon")
    assert (record.method, record.sum_rules) == ("displacements", "rotational")
    assert record.raw_huang_residual > 1.0
    assert max(record.sum_rule_residual, record.rotational_residual, record.huang_residual) < 1e-10
    assert "rotational" in text


class WithoutStress(HoneycombSprings):
    implemented_properties: ClassVar = ["energy", "forces"]


def test_rotational_rules_need_a_stress(tmp_path):
    own = {"own_calculator": WithoutStress()}
    with pytest.raises(
        ConfigError,
        match=r"stage.phonon.sum_rules: got rotational with WithoutStress, which has no stress",
    ):
        execute(
            make_run(tmp_path, phonon_settings={"sum_rules": "rotational"}, **own), PREPARATION[:2]
        )
    run = make_run(tmp_path, phonon_settings={"sum_rules": "translational"}, **own)
    execute(run, PREPARATION[:2])
    assert np.isfinite(run.read("phonon").raw_huang_residual)
