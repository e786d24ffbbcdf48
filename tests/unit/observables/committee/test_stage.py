"""Committees end to end, on models whose spread is known.

H of the tight binding is proportional to its hopping, frequencies of springs to the root of their
stiffness.
"""

import dataclasses

import numpy as np
import pytest
import toy_pipelines
from toy_pipelines import ALL, execute, seen

from mlepi.errors import ConfigError
from mlepi.observables.committee.stage import CommitteeStage
from mlepi.observables.domain.figure import list_domain_facts, plot_domain
from mlepi.observables.domain.stage import DomainStage
from mlepi.pipeline import SampleKey
from mlepi.pipeline.sources import Source
from mlepi.predictors import calibration
from mlepi.predictors.calibration import Calibration

HOPPINGS = (-2.6, -2.7, -2.9)
STIFFNESSES = (0.8, 1.0, 1.1)
STAGES = (*ALL, "committee")


def tight_binding(hopping):
    return {
        "_target_": "mlepi.reference_systems.TightBinding",
        "orbitals": "s",
        "intralayer": {"sss": [hopping, 3.37]},
    }


def springs(stiffness):
    constants = {"bond": 24.5, "angle": 5.5, "normal": 0.95}
    scaled = {name: stiffness * value for name, value in constants.items()}
    return {"_target_": "mlepi.reference_systems.HoneycombSprings", **scaled}


def make_run(folder, hoppings=HOPPINGS, stiffnesses=(1.0,), drive="mean", n_samples=2, **changes):
    structure = {"_target_": "mlepi.structures.build_graphene", "stacking": "monolayer"}
    return toy_pipelines.make_run(
        folder,
        stages={"committee": CommitteeStage(n_samples=n_samples)},
        phonon_settings={"dos_mesh": (3, 3, 1), "n_points": 8},
        sampling_settings={"statistics": "classical"},
        structure=Source("structure", structure),
        phonon=Source("phonon", [springs(k) for k in stiffnesses], drive),
        electron=Source("electron", [tight_binding(t) for t in hoppings], drive),
        dtype="float64",
        **{"n_samples": 3, "temperatures": (100.0, 300.0), "supercell": (2, 2, 1), **changes},
    )


def test_levels_differ_as_the_hoppings_do(tmp_path):
    run = make_run(tmp_path)
    text = execute(run, STAGES)
    assert "committee        … electron_3: structure, phonon, sampling, hamiltonian, levels" in text
    record = run.read("committee")
    assert (record.n_electron_networks, record.n_phonon_networks, record.n_samples) == (3, 1, 2)
    members = [make_run(tmp_path / "committee" / f"electron_{n}") for n in (1, 2, 3)]
    means = np.array([member.read("levels").mean for member in members])
    # all energies of one hopping are those of another, scaled
    np.testing.assert_allclose(means / means[0], np.outer(HOPPINGS, [1, 1]) / HOPPINGS[0])
    expected = np.abs(means[0] / HOPPINGS[0]) * np.std(HOPPINGS, ddof=1)
    spread = record.stages["levels"].electron
    np.testing.assert_allclose(spread["mean"], expected, rtol=1e-10)
    assert "errors" not in spread  # those of two samples say nothing
    assert record.network_errors("levels").keys() == spread.keys()
    np.testing.assert_allclose(record.network_errors("levels")["mean"], expected, rtol=1e-10)
    assert record.network_errors("gap") == {}


def test_the_mean_of_hamiltonians_drives(tmp_path):
    run = make_run(tmp_path / "committee")
    execute(run, ALL)
    single = make_run(tmp_path / "single", hoppings=[np.mean(HOPPINGS)])
    execute(single, ALL)
    np.testing.assert_allclose(
        run.read("levels").mean, single.read("levels").mean, rtol=0, atol=1e-12
    )


def test_the_first_drives_as_if_it_were_alone(tmp_path):
    alone = make_run(tmp_path, hoppings=HOPPINGS[:1])
    execute(alone, ALL)
    numbers = alone.read("levels").mean
    run = make_run(tmp_path, drive="first")
    text = execute(run, STAGES)
    assert text.count("unchanged") == len(ALL)
    np.testing.assert_array_equal(run.read("levels").mean, numbers)
    # the members are no other than with the mean
    spread = run.read("committee").stages["levels"].electron
    execute(make_run(tmp_path / "mean"), STAGES)
    other = make_run(tmp_path / "mean").read("committee").stages["levels"].electron
    np.testing.assert_array_equal(spread["mean"], other["mean"])


def test_a_list_of_one_is_what_it_holds(tmp_path):
    assert Source("phonon", ["toy"]) == Source("phonon", "toy")
    listed, plain = Source("electron", ["a.ckpt"]), Source("electron", "a.ckpt")
    assert listed == plain
    assert listed.members == (listed,)
    with pytest.raises(ConfigError, match=r"stage.committee: got one electron and one phonon"):
        execute(make_run(tmp_path, hoppings=HOPPINGS[:1]), STAGES)


def test_phonon_networks_have_their_own_displacements(tmp_path):
    """Classical displacements by the same random numbers go with the root of the stiffness."""
    run = make_run(tmp_path, hoppings=HOPPINGS[:1], stiffnesses=STIFFNESSES)
    execute(run, STAGES)
    spread = run.read("committee").stages
    alone = make_run(tmp_path / "alone", hoppings=HOPPINGS[:1])
    execute(alone, ALL)
    frequencies = alone.read("phonon").band_frequencies
    np.testing.assert_allclose(
        spread["phonon"].phonon["band_frequencies"],
        np.abs(frequencies) * np.std(np.sqrt(STIFFNESSES), ddof=1),
        rtol=1e-3,
        atol=1e-3,
    )
    members = [make_run(tmp_path / "committee" / f"phonon_{n}") for n in (1, 2, 3)]
    squares = [m.read("sampling").sampled_mean_square_displacements for m in members]
    np.testing.assert_allclose(squares[0] / squares[2], STIFFNESSES[2] / STIFFNESSES[0], rtol=1e-3)
    # the mean of three energy surfaces has their mean stiffness
    mean = make_run(tmp_path / "mean", hoppings=HOPPINGS[:1], stiffnesses=[np.mean(STIFFNESSES)])
    execute(mean, ALL)
    found = run.read("phonon").band_frequencies
    np.testing.assert_allclose(found, mean.read("phonon").band_frequencies, atol=1e-6)
    assert not spread["levels"].electron


def test_what_is_done_is_not_repeated(tmp_path):
    execute(make_run(tmp_path), STAGES)
    text = execute(make_run(tmp_path), STAGES)
    assert text.count("unchanged") == len(STAGES)
    assert seen() == []
    # a new sample per member and temperature, in addition to that of the run itself
    execute(make_run(tmp_path, n_samples=3), STAGES)
    assert len(seen()) == 3 * 2
    # another observable changes the record, and repeats nothing of the first
    run = make_run(tmp_path, n_samples=3)
    execute(run, (*ALL, "other_levels", "committee"))
    assert seen("levels") == []
    assert run.read("committee").stages.keys() == {"levels", "other_levels"}


@pytest.mark.parametrize("drive", ["mean", "first"])
def test_the_domain_stage_compares_the_members(tmp_path, drive):
    settings = {"data": None, "split": None, "subset": "train", "rank_by": "distance"}
    domain = DomainStage(
        **settings,
        electron_checkpoints=[],
        phonon_checkpoints=[],
        n_compared=2,
        n_worst=1,
        openmx=None,
        vasp=None,
    )
    run = make_run(tmp_path, stiffnesses=STIFFNESSES, drive=drive)
    run = dataclasses.replace(run, stages={**run.stages, "domain": domain})
    execute(run, (*ALL, "domain"))
    record = run.read("domain")
    assert (record.n_electron_networks, record.n_phonon_networks) == (3, 3)
    assert np.all(np.isnan(record.hamiltonian_spreads) == np.array([[False], [False], [True]]))
    assert np.all(np.isnan(record.force_spreads) == np.isnan(record.hamiltonian_spreads))
    sample = run.ensemble().predict([SampleKey(1, 300.0)])[0]
    h, driving = sample.hamiltonian.blocks, HOPPINGS[0] if drive == "first" else np.mean(HOPPINGS)
    expected = np.sqrt(np.mean(h**2)) * np.std(HOPPINGS, ddof=1) / abs(driving)
    assert record.hamiltonian_spreads[1, 1] == pytest.approx(expected, rel=1e-9)
    assert np.all(record.force_spreads[:2] > 0)
    assert not record.training_hamiltonian_spreads.size
    assert any("spread of the networks in H (meV)" in fact for fact, _ in list_domain_facts(record))
    assert plot_domain(record).axes


def test_a_changed_observable_drops_the_comparison(tmp_path):
    execute(make_run(tmp_path), STAGES)
    other = make_run(tmp_path, levels_settings={"level": 1})
    execute(other, ALL)
    assert "committee" not in other.store.stages()


def test_no_more_samples_than_the_run_has(tmp_path):
    run = make_run(tmp_path, n_samples=50)
    execute(run, STAGES)
    assert run.read("committee").n_samples == 3


def test_an_interrupted_comparison_goes_on(tmp_path):
    run = make_run(tmp_path, levels_settings={"fail_at": 1})
    with pytest.raises(Exception, match="a failure on purpose"):
        execute(run, STAGES)
    whole = make_run(tmp_path / "whole")
    execute(whole, STAGES)
    again = make_run(tmp_path)
    execute(again, STAGES)
    np.testing.assert_array_equal(
        again.read("committee").stages["levels"].electron["mean"],
        whole.read("committee").stages["levels"].electron["mean"],
    )


def test_calibration_scales_the_spread(tmp_path, monkeypatch):
    from mlepi.physics.averages.calibration import Agreement

    run = make_run(tmp_path)
    execute(run, STAGES)
    record = run.read("committee")
    assert record.uncalibrated == ("electron",)
    assert "the electron networks are uncalibrated" in CommitteeStage.doubts(record)[0]
    assert "uncalibrated" in CommitteeStage(n_samples=2).summarize(record)
    found = Calibration(("a",), {"bands": Agreement(5, 1.0, 1.5, 2.0)}, {}, {})
    monkeypatch.setattr(calibration, "find_calibration", lambda members: found)
    for drive, factor in (("mean", 1.5), ("first", 2.0)):
        run = make_run(tmp_path / drive, drive=drive)
        execute(run, STAGES)
        calibrated = run.read("committee")
        assert calibrated.electron_factor == factor
        assert CommitteeStage.doubts(calibrated) == []
        np.testing.assert_allclose(
            calibrated.network_errors("levels")["mean"],
            factor * calibrated.stages["levels"].electron["mean"],
        )
    without = dataclasses.replace(found, quantities={})
    monkeypatch.setattr(calibration, "find_calibration", lambda members: without)
    run = make_run(tmp_path / "without")
    execute(run, STAGES)
    assert run.read("committee").uncalibrated == ("electron",)
