"""``mlepi train`` and ``mlepi infer``: the command lines of the scripts, configs of one's own."""

import logging
import os
import shutil
import signal
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mlepi import plugins, stopping
from mlepi.command_line import find_user_folders, run_script
from mlepi.commands import bench
from mlepi.commands.main import main
from mlepi.sweep_names import name_sweep


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


def end_of(action, *arguments, config="infer"):
    """Exit status of a script that does this; 0 where it comes to its end."""
    try:
        run_script(lambda _, folder: action(folder), config_name=config, arguments=list(arguments))
    except SystemExit as end:
        return end.code
    finally:
        logging.shutdown()
    return 0


def be_stopped(folder):
    os.kill(os.getpid(), signal.SIGTERM)
    stopping.stop_if_requested()


def fill_the_disk(folder):
    raise OSError(28, "No space left on device", str(folder / "results.h5"))


def be_deleted(folder):
    shutil.rmtree(folder)
    (folder / "results.h5").write_text("x")


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        (be_stopped, 143, ["stopped by SIGTERM"]),
        (fill_the_disk, 1, ["results.h5: got a full disk", "GB free", "goes on from there"]),
        (be_deleted, 1, ["got no folder any more", "deleted or moved"]),
    ],
)
def test_what_ends_a_run_is_one_message(tmp_path, capsys, action, status, said):
    assert end_of(action, f"folder={tmp_path}/run") == status
    shown = capsys.readouterr().err
    assert all(text in shown for text in said)
    assert "Traceback" not in shown
    assert (tmp_path / "run").exists() is (action is not be_deleted)
    if action is fill_the_disk:
        assert (tmp_path / "run/traceback.txt").exists()
        assert end_of(lambda folder: None, f"folder={tmp_path}/run") == 0
        assert not (tmp_path / "run/traceback.txt").exists(), "it is of an earlier try"


def test_the_log_has_what_the_screen_shows(tmp_path, capsys):
    def fail(folder):
        logging.getLogger("mlepi.pipeline.progress").info("a line of progress")
        logging.getLogger("somebody.else").info("chatter")
        fill_the_disk(folder)

    assert end_of(fail, f"folder={tmp_path}") == 1
    text = (tmp_path / "infer.log").read_text()
    assert "a line of progress" in text
    assert "got a full disk" in text
    assert "chatter" not in text
    assert "a line of progress" not in capsys.readouterr().out, "whoever says it prints it"


@pytest.mark.parametrize("config", ["infer", "train"])
def test_a_file_is_no_run_folder(tmp_path, capsys, config):
    (tmp_path / "file").write_text("x")
    key = "folder" if config == "infer" else "hydra.run.dir"
    assert end_of(lambda folder: None, f"{key}={tmp_path}/file", config=config) == 1
    assert f"{tmp_path}/file: got File exists; expected a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_of_a_read_only_disk_is_refused_before_anything(tmp_path, monkeypatch, capsys):
    def refuse(path, data):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert end_of(pytest.fail, f"folder={tmp_path}") == 1
    assert f"{tmp_path}: got Read-only file system" in capsys.readouterr().err


def test_jobs_of_a_sweep_get_folders_in_the_one_that_is_named(tmp_path, capsys):
    seen = []

    def note(folder):
        seen.append(folder)
        if len(seen) == 1:
            fill_the_disk(folder)

    assert end_of(note, "-m", f"folder={tmp_path}/X", "seed=1,2") == 1
    assert seen == [tmp_path / "X" / "0", tmp_path / "X" / "1"], "one that fails stops no other"
    assert "these jobs failed:\n  0: error: " in capsys.readouterr().err


def test_trainings_of_one_second_get_two_folders_and_those_that_resume_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    for extra in ([], [], ["auto_resume=true", "grace=3"]):
        assert end_of(seen.append, "model=mace", *extra, config="train") == 0
    assert len(set(seen)) == 3
    assert seen[2].resolve() == tmp_path / "runs" / name_sweep(["model=mace"])
