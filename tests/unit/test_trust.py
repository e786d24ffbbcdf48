"""``trusted=false``: configs from elsewhere name only what is known, and no file trusts itself."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mlepi.commands.main import main
from mlepi.errors import ConfigError
from mlepi.project_files import CONFIG_FOLDER
from mlepi.trust import check_files, check_targets, list_known, take_trust


@pytest.mark.parametrize(
    "target",
    [
        "numpy.load",
        "torch.load",
        "pathlib.Path.unlink",
        "os.system",
        "mlepi.structures.kmesh_files.np.load",  # begins well, and is somebody else's
        "mlepi.models.mace.torch.load",
        "mlepi.structures.write_split",
        "mlepi.project_files.write_json",
        "torch.optim.lr_scheduler.types.FunctionType",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "mlepi.models.NoSuchThing",
        "mlepi.labelling.Cp2k",  # starts the program that its settings name
    ],
)
def test_what_files_from_elsewhere_may_not_name(target):
    config = OmegaConf.create({"phonon": [{"_target_": target, "x": 1}]})
    with pytest.raises(ConfigError, match=rf"phonon\[0\]\._target_: got '{target}'; expected what"):
        check_targets(config, CONFIG_FOLDER)


@pytest.mark.parametrize(
    "target", ["mlepi.models.MACE", "torch.optim.SGD", "mlepi.structures.build_graphene"]
)
def test_what_they_may(target):
    config = OmegaConf.create({"name": "MACE", "a": {"_target_": target}, "b": "${a}"})
    check_targets(config, CONFIG_FOLDER)


def test_parts_of_a_name_are_joined_before_they_are_judged():
    config = OmegaConf.create({"a": "os.sys", "b": {"_target_": "${a}tem"}})
    with pytest.raises(ConfigError, match=r"'os\.system'"):
        check_targets(config, CONFIG_FOLDER)


def test_own_configs_name_what_is_known():
    assert {"mlepi.models.MACE", "lightning.pytorch.Trainer"} <= list_known((CONFIG_FOLDER,))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# @package hydra.job_logging\nhandlers: {}\n", "the package 'hydra.job_logging'"),
        ("hydra: {launcher: {}}\n", "'hydra'"),
        ('"hy\\x64ra": {}\n', "'hydra'"),
        ("defaults:\n  - override /hydra/launcher: evil\n", "override /hydra/launcher"),
        ("name: ${oc.env:WANDB_API_KEY}\n", "oc.env"),
        ("a: &a [1]\nb: [*a, *a]\n", "the alias"),
        ("a: !!python/object/apply:os.system [ls]\n", "the tag"),
        ("a: " + "[" * 100 + "]" * 100 + "\n", "more entries or levels"),
        ("a: [1\n", "YAML"),
    ],
)
def test_files_that_do_more_than_give_values(tmp_path, text, problem):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "x.yaml").write_text(text)
    with pytest.raises(Exception, match=problem) as caught:
        check_files([tmp_path])
    assert type(caught.value).__name__ in ("ConfigError", "DataError")


def test_the_command_line_alone_says_it():
    assert take_trust(["experiment=x", "trusted=false"]) == (["experiment=x"], False)
    assert take_trust(["+trusted=True", "a=1"]) == (["a=1"], True)
    for given, text in (
        (["trusted=no"], "expected true or false"),
        (["trusted=false", "-cp", "x"], "expected --config-dir FOLDER"),
        (["trusted=false", "hydra.searchpath=[file://x]"], "expected --config-dir FOLDER"),
    ):
        with pytest.raises(ConfigError, match=text):
            take_trust(given)


def test_a_command_refuses_such_a_file(tmp_path, capsys):
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    given = ["infer", "--config-dir", str(tmp_path / "conf"), "experiment=mine", "trusted=false"]
    given += [f"folder={tmp_path / 'run'}"]
    file.write_text("# @package _global_\nphonon: {_target_: os.system, command: ls}\n")
    with pytest.raises(SystemExit):
        main(given)
    assert "phonon._target_: got 'os.system'" in capsys.readouterr().err
    file.write_text("# @package _global_\ntrusted: true\nhydra: {run: {dir: x}}\n")
    with pytest.raises(SystemExit):
        main(given)
    assert "'hydra'" in capsys.readouterr().err
