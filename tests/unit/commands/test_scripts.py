"""``mlepi train`` and ``mlepi infer``: the command lines of the scripts, configs of one's own."""

import os
import sys
from importlib.metadata import EntryPoint

import pytest

from mlepi import plugins
from mlepi.command_line import find_user_folders, run_script
from mlepi.commands import bench
from mlepi.commands.main import main


@pytest.fixture
def folder(tmp_path):
    """A folder of configs with one experiment."""
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nname: my own\nseed: 7\n", encoding="utf-8")
    return tmp_path / "conf"


@pytest.fixture
def other_package(folder, monkeypatch):
    """An installed package whose configs are named in its entry points."""
    package = folder.parent / "other_package"
    (folder.parent / "other_package").mkdir()
    (package / "__init__.py").touch()
    folder.rename(package / "conf")
    (package / "conf" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder.parent))
    point = EntryPoint("other", "other_package.conf", "mlepi.configs")
    monkeypatch.setattr(plugins, "_find_entries", lambda kind, path: (point,))


def test_keys_are_those_of_the_scripts(capsys):
    assert main(["train", "model=mace", "seed=3", "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 3\n" in shown
    assert "mlepi.models.MACE\n" in shown


@pytest.mark.parametrize("given", ["n_samples=2 --cfg job", "--cfg job seed=0 n_samples=2"])
def test_the_demo_is_an_experiment_of_infer(given, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert main(["demo", *given.split()]) == 0
    shown = capsys.readouterr().out
    assert "folder: outputs/demo\n" in shown
    assert "n_samples: 2\n" in shown
    assert os.environ["OMP_NUM_THREADS"] == "1", "its two processes share the cores"


def test_configs_of_a_folder(folder, capsys):
    given = ["train", "--config-dir", str(folder), "experiment=mine", "--cfg", "job"]
    assert main(given) == 0
    assert "name: my own\nseed: 7\n" in capsys.readouterr().out


def test_a_misspelt_config_of_a_folder_is_suggested(folder, capsys):
    with pytest.raises(SystemExit):
        main(["train", f"--config-dir={folder}", "experiment=mien", "--cfg", "job"])
    assert "Did you mean 'mine'?" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--config-dir", "a"], ["--config-dir=a"], ["-cd", "a"]])
def test_the_folder_is_found_as_hydra_finds_it(option):
    assert [str(path) for path in find_user_folders(["-m", *option, "x=1"])] == ["a"]
    assert find_user_folders(["-m", "x=1", "-c", "job"]) == []


@pytest.mark.usefixtures("other_package")
def test_configs_of_another_package(capsys):
    assert main(["train", "experiment=mine", "--cfg", "job"]) == 0
    assert "name: my own\nseed: 7\n" in capsys.readouterr().out
    assert main(["train", "--info", "searchpath"]) == 0
    assert "other_package.conf" in capsys.readouterr().out


def test_processes_of_a_run_are_started_as_it_was(tmp_path, monkeypatch):
    """Lightning starts the others with ``sys.argv``: with the name of the command in it."""
    started = ["bin/mlepi", "infer", "stage=gap"]
    monkeypatch.setattr("sys.argv", list(started))
    seen = []
    arguments = ["stage=gap", f"folder={tmp_path}"]
    run_script(
        lambda config, _: seen.append((config.stage.run, list(sys.argv))),
        config_name="infer",
        arguments=arguments,
    )
    assert seen == [("gap", started)]
    assert sys.argv == started


def test_benchmarks_stay_in_the_clone(monkeypatch, tmp_path, capsys):
    assert bench.SCRIPT.is_file()
    monkeypatch.setattr(bench, "SCRIPT", tmp_path / "speed.py")
    assert main(["bench", "--quick"]) == 1
    assert "mlepi bench: got a package without benchmarks; expected a clone." in (
        capsys.readouterr().err
    )
