"""``mlepi study``: the plan, the words of the steps, and what is wrong with a config."""

import re
from pathlib import Path

import pytest

from mlepi.commands.main import main
from mlepi.commands.study import build_settings, check_config
from mlepi.commands.study_words import check_steps, compose, join_words, name_structure
from mlepi.errors import ConfigError
from mlepi.structures import build_graphene

SMALL = ["graphene.xyz", "dft=fake", "phonon=toy", "n_first=4", "n_more=1", "max_labels=5"]


def check(*words):
    every = join_words(name_structure([*SMALL, *words]))
    return check_config(compose("study", every)), every


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, monkeypatch, capsys):
    build_graphene("monolayer").write(tmp_path / "graphene.xyz", format="extxyz")
    monkeypatch.chdir(tmp_path)
    given = ["design.max_atoms=16", "estimate=[2,0.5]", "hours=3", "--dry-run"]
    assert main(["study", *SMALL, *given]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"round 0: label 4 structures +1.3e\+02 h +4 structures of at most 16", shown)
    assert re.search(r"round 0: train electron 2 +\S+ h +\d+ epochs", shown)
    assert re.search(r"all, at most 5 labels in 2 rounds +\S+ h", shown)
    assert "stops after 3 h" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["graphene.xyz"]


def test_a_mistake_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *SMALL, "dft.cutoff=3", "--dry-run"]) == 1
    assert "error: mlepi study: dft.cutoff: got an unknown key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["study", *SMALL, "members=1", "target_error=-1"])
    told = capsys.readouterr().err
    assert "members: got 1; expected 2 or more" in told
    assert "target_error: got -1" in told
    assert not (tmp_path / "study" / "study.json").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["select=best"], "select: got 'best'; expected one of"),
        (["fractions=[0.5,0.1,0.1]"], "fractions: got"),
        (["n_compared=3", "n_samples=2"], "n_compared: got 3; expected n_samples=2 at most"),
        (["electron=toy"], "phonon, electron: got both given"),
        (["max_labels=3"], "n_first: got 4; expected max_labels=3 at most"),
        (["n_samples=600"], "n_samples: got 600; expected max_samples=512 at most"),
        (["+train.all=[]"], "train.all: got an unknown key"),
        (["temperature=[]"], "temperature: got"),
        (["design=3"], "design: got 3"),
        (["phonon={_target_: no.such.Thing}"], "phonon._target_: got 'no.such.Thing'"),
    ],
)
def test_mistakes_in_the_config_are_told(words, match):
    with pytest.raises(ConfigError, match=match) as caught:
        check(*words)
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_target_is_told_with_those_that_there_are():
    plain, words = check("target=gapp")
    with pytest.raises(ConfigError, match=r"target: got 'gapp'; expected one of .*'fermi_dos'"):
        build_settings(plain, Path("study"), words)


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("design.max_atom=6", r"mlepi design: max_atom: got an unknown key.*'max_atoms'"),
        ("label.job=2", r"mlepi label: job: got an unknown key.*'jobs'"),
        ("train.electron.optimizer.max_epoch=1", r"mlepi train: .*max_epoch: got an unknown key"),
        ("infer.stage.dos.width_=1", r"mlepi infer: .*width_: got an unknown key"),
    ],
)
def test_words_that_a_step_does_not_understand_are_told_at_once(word, match):
    plain, words = check(word)
    settings, _ = build_settings(plain, Path("study"), words)
    with pytest.raises(ConfigError, match=match):
        check_steps(settings)


def test_settings_are_those_of_the_config():
    plain, words = check("threads=2", "dft.orbitals=sp", "engine=local", "label.jobs=3")
    settings, limits = build_settings(plain, Path("study"), words)
    assert settings.label == ("dft=fake", "dft.orbitals=sp", "engine=local", "threads=2", "jobs=3")
    assert settings.train["both"] == ("threads=2", "logger=csv")
    assert settings.trained == ("electron",)
    assert (limits.target_error, limits.relative_error, limits.hours) == (None, 0.01, None)
    check_steps(settings)
