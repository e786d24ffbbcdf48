"""What a study decides and remembers, without networks: rounds, limits, words, files, plans."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from mlepi.commands.study_words import join_words, name_structure
from mlepi.design import estimate_cost
from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, DataError, MlepiError
from mlepi.physics.averages.error_budget import ErrorBudget
from mlepi.structures import build_graphene
from mlepi.study import Limits, Study, StudySettings, find_stage
from mlepi.study.files import describe_settings, extend_split, keep_file
from mlepi.study.forecast import Rates, describe_plan, plan_study
from mlepi.study.rounds import Finished, Memory, check_same, read_memory
from mlepi.study.settings import build_infer, build_trainings, write_word
from mlepi.study.steps import (
    Record,
    Step,
    read_record,
    run_step,
    start_child,
    sum_seconds,
    write_record,
)
from mlepi.study.targets import choose_target, find_budget


def settings(folder=Path("study"), **given):
    values = {
        "folder": folder,
        "targets": ("gap",),
        "temperatures": (0.0, 300.0),
        "n_first": 10,
        "n_more": 5,
        "n_candidates": 20,
        "candidates": (),
        "select": "informative",
        "given": {},
        "members": 2,
        "fractions": (0.8, 0.1, 0.1),
        "supercell": (3, 3, 1),
        "n_samples": 8,
        "n_compared": 4,
        "design": (),
        "label": ("dft=fake",),
        "train": {"both": ("logger=csv",), "electron": (), "phonon": (), "warm": ("warm=1",)},
        "infer": (),
        "seed": 3,
    }
    return StudySettings(**{**values, **given})


def limits(**given):
    values = {
        "target_error": 1.0,
        "relative_error": 0.01,
        "hours": None,
        "max_labels": 100,
        "max_samples": 64,
    }
    return Limits(**{**values, **given})


def finished(network, statistical=0.1, n_labels=10, hours=1.0, n_samples=8):
    parts = {"network": [0.0, network], "statistical": [0.0, statistical]}
    return Finished(n_labels, hours, [0.0, 300.0], [5.0, 50.0], parts, {}, 1, n_samples)


def judge(folder, rounds, **given):
    study = Study(settings(folder), limits(**given), build_graphene("AB"), {}, None, print)
    study._memory = Memory({}, "gap", tuple(rounds))
    return study.judge()


@pytest.mark.parametrize(
    ("rounds", "given", "action", "words"),
    [
        ([], {}, "label", "nothing is labelled"),
        ([finished(3.0)], {}, "label", "error 3"),
        ([finished(0.5)], {}, "reached", "error 0.51 of 1"),
        ([finished(0.5)], {"target_error": None}, "label", "of 0.5"),
        ([finished(0.5, 2.0)], {}, "sample", "more samples can reach"),
        ([finished(3.0, 2.0)], {}, "label", "statistical 0.7"),
        ([finished(0.5, 2.0, n_samples=64)], {}, "elsewhere", "lower that of statistical"),
        ([finished(3.0, n_labels=100)], {}, "spent", "max_labels is reached"),
        ([finished(3.0)], {"hours": 2.0}, "spent", "the next round takes about 1.5 h, 2 h are"),
        ([finished(3.0)], {"hours": 3.0}, "label", "error 3"),
    ],
)
def test_what_is_done_next(tmp_path, rounds, given, action, words):
    if given.get("hours") == 2.0:
        given, words = {"hours": 1.2}, "the next round takes about 1.5 h, 1.2 h are left"
    decision = judge(tmp_path, rounds, **given)
    assert decision.action == action
    assert words in decision.reason


def test_a_round_remembers_the_parts_that_are_measured(tmp_path):
    memory = Memory({"seed": 1}, "gap", (finished(3.0),))
    memory.write(tmp_path)
    assert read_memory(tmp_path) == replace(memory, rounds=tuple(memory.rounds))
    assert read_memory(tmp_path / "none") is None
    assert memory.rounds[0].to_round().error == pytest.approx(math.hypot(3.0, 0.1))
    (tmp_path / "study.json").write_text('{"format": 7}')
    with pytest.raises(DataError, match="a damaged file"):
        read_memory(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 1, "rounds": 3}')
    with pytest.raises(DataError, match="a damaged file"):
        read_memory(tmp_path)


def test_other_settings_are_another_study(tmp_path):
    atoms = build_graphene("AB")
    before = describe_settings(settings(), atoms)
    moved = settings(
        tmp_path,
        label=("dft=fake", "engine=dask", "jobs=2"),
        infer=("threads=2",),
        candidates=("a",),
    )
    check_same(tmp_path, before, describe_settings(moved, atoms))
    other = describe_settings(settings(seed=4, label=("dft=cp2k",)), atoms)
    with pytest.raises(DataError, match=r"other settings \(seed, dft\)"):
        check_same(tmp_path, before, other)


def test_a_split_grows_and_nobody_moves():
    split = {"train": ["a", "b", "c", "d"], "val": ["e"], "test": ["f"]}
    names = [*"abcdef", *(f"n{k}" for k in range(14))]
    grown = extend_split(split, names, (0.8, 0.1, 0.1))
    assert all(set(members) <= set(grown[subset]) for subset, members in split.items())
    assert [len(members) for members in grown.values()] == [16, 2, 2]


def test_kept_files_stay_when_others_are_replaced(tmp_path):
    source, kept = tmp_path / "a", tmp_path / "b"
    source.write_text("first")
    keep_file(source, kept)
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").replace(source)
    assert kept.read_text() == "first"
    keep_file(source, kept)
    assert kept.read_text() == "second"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a/b.h5", "k=a/b.h5"),
        ("it's", r"k='it\'s'"),
        ("my file", "k='my file'"),
        ([1, 2.5, None], "k=[1,2.5,null]"),
        ({"_target_": "a.B", "x": True}, "k={_target_:a.B,x:true}"),
        (["a=b", "c"], "k=['a=b',c]"),
        ("2024", "k='2024'"),
    ],
)
def test_words_are_what_hydra_reads_back(value, word):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert write_word("k", value) == word
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert OmegaConf.to_container(OmegaConf.create({"k": parsed.value()}))["k"] == value


def test_later_trainings_start_from_the_round_before():
    first, *_ = build_trainings(settings(), 0)
    assert not [word for word in first.words if word.startswith(("init_from", "warm"))]
    steps = build_trainings(settings(), 2)
    assert [step.name for step in steps] == [
        "train_electron_1", "train_electron_2", "train_phonon_1", "train_phonon_2"
    ]  # fmt: skip
    assert "init_from=study/round_01/phonon_2/checkpoints/best.ckpt" in steps[3].words
    assert steps[3].words[-1] == "warm=1"
    given = settings(given={"phonon": "toy"})
    assert len(build_trainings(given, 0)) == 2
    assert "phonon=toy" in build_infer(given, 0, ["gap"]).words


def test_words_for_the_steps_join_the_lists_of_the_config():
    words = join_words(
        ["structure=a.cif", "design.max_atoms=8", "train.logger=wandb", "train.warm.seed=2",
         "infer.valence_electrons={6:1}"]
    )  # fmt: skip
    assert words[:2] == ["structure=a.cif", "design=['max_atoms=8']"]
    assert words[2:4] == ["train.both=['logger=wandb']", "train.warm=['seed=2']"]
    assert words[4].startswith("infer=['logger=csv',")
    assert words[4].endswith("'valence_electrons={6:1}']")
    assert name_structure(["a.cif", "-m", "k=v"]) == ["structure=a.cif", "-m", "k=v"]


def test_steps_are_done_once_and_their_time_adds(tmp_path):
    started = []

    def start(words, log, note):
        started.append(list(words))
        note()
        if len(started) > 1:
            (tmp_path / "result").touch()
        log.write_text("first\nthe reason\n")
        return 0 if len(started) > 1 else 3

    step = Step("label", ("label", "folder=a b"), tmp_path / "result")
    with pytest.raises(MlepiError, match=r"label: got exit status 3: first the reason"):
        run_step(tmp_path, step, start)
    write_record(tmp_path, "label", Record(False, 7.0), step.words)
    assert run_step(tmp_path, step, start) >= 7.0
    assert run_step(tmp_path, step, start) >= 7.0
    assert len(started) == 2
    assert read_record(tmp_path, "label").done
    script = (tmp_path / "steps" / "label.sh").read_text()
    assert script.endswith("exec mlepi label 'folder=a b'\n")
    round_folder = tmp_path / "study" / "round_00"
    write_record(round_folder, "a", Record(True, 2.0))
    write_record(round_folder, "b", Record(False, 3.0))
    assert sum_seconds(tmp_path / "study") == 5.0


def test_a_child_is_told_to_stop_once(tmp_path, monkeypatch):
    """It is asked when this process is, and its exit status comes back."""
    monkeypatch.setattr("mlepi.study.steps.LOOK", 0.05)
    monkeypatch.setattr("mlepi.stopping.requested", lambda: True)
    program = "import time; print('begun', flush=True); time.sleep(60)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        "mlepi.study.steps.Popen",
        lambda command, **files: popen([sys.executable, "-c", program], **files),
    )
    assert start_child(["label"], tmp_path / "log", lambda: None) == -15


def test_targets_are_found_and_their_budgets_by_their_values():
    from mlepi.observables import all_stages

    assert find_stage("gap", all_stages()) == "gap"
    assert find_stage("fermi_dos", all_stages()) == "dos"
    with pytest.raises(ConfigError, match="target: got 'mass'"):
        find_stage("mass", all_stages())
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    budget = ErrorBudget(values, 0.1 * values, 9.0, {"cell": 0.2 * values})
    found = find_budget(np.array([2.0, 4.0]), [budget])
    np.testing.assert_allclose(found.systematic["cell"], [0.4, 0.8])
    assert find_budget(np.array([2.0, 3.0]), [budget]) is None


def test_without_a_target_it_is_the_first_that_the_material_has():
    """The gap of a metal has a serious doubt; of an insulator, or of none at all, the last."""
    from mlepi.observables import all_stages

    class Told:
        def __init__(self, name, severity):
            self.name, self.severity = name, severity

        def doubts(self, record):
            return [Doubt("as it is.", severity=self.severity)]

    class Finished:
        def __init__(self, **severities):
            self.stages = {name: Told(name, each) for name, each in severities.items()}

        def read(self, stage):
            return None

    targets = ("gap", "fermi_dos")
    cases = {
        ("note", "note"): "gap",
        ("serious", "note"): "fermi_dos",
        ("serious", "serious"): "fermi_dos",
    }
    for (gap, dos), found in cases.items():
        assert choose_target(Finished(gap=gap, dos=dos), targets, all_stages()) == found


def test_a_plan_is_measured_where_a_round_is_done(tmp_path):
    """200 s for 10 labels are 100 s for 5; trainings grow with the labels; a new study guesses."""
    rates = Rates(estimate_cost([10, 0.5], 2.0), 20, {"electron": 0.1, "phonon": 0.2},
                  {"electron": (100, 10), "phonon": (100, 10)}, 0.01, 36)  # fmt: skip
    rows = plan_study(settings(tmp_path), rates, None, 20)
    hours = {row.what: row.hours for row in rows}
    assert hours["round 0: label 10 structures"] == pytest.approx(10 * 0.5 * 4)
    assert hours["round 0: train phonon 1"] == pytest.approx(0.2 * 100 * 20 * 8 / 3600)
    assert rows[-1].what == "all, at most 20 labels in 3 rounds"
    unknown = plan_study(settings(tmp_path), replace(rates, cost=None), None, 20)
    assert math.isnan(unknown[-1].hours)
    assert any("? h  set estimate" in line for line in describe_plan(unknown, 2.0))
    names = ["label", "train_electron_1", "train_electron_2", "train_phonon_1", "train_phonon_2"]
    for name in [*names, "infer"]:
        write_record(tmp_path / "round_00", name, Record(True, 200.0))
    memory = Memory({}, "gap", (finished(3.0),))
    rows = plan_study(settings(tmp_path), rates, memory, 15)
    hours = {row.what: row.hours for row in rows}
    assert hours["round 1: label"] == pytest.approx(100.0 / 3600)
    assert hours["round 1: train electron 1"] == pytest.approx(300.0 / 3600)
    assert rows[-1].hours == pytest.approx((1200 + 100 + 4 * 300 + 200) / 3600)
