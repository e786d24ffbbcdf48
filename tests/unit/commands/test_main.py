"""The table of commands, the help, mistakes, and what ``--version`` says."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from mlepi.commands.environment import PACKAGES, describe_environment
from mlepi.commands.main import build_help, main
from mlepi.commands.table import COMMANDS, GROUPS
from mlepi.project_files import PACKAGE_FOLDER, find_commit

HEAVY = {"hydra", "torch", "lightning", "numpy", "scipy", "ase", "rich", "matplotlib"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module_of_its_name(name):
    assert find_spec(f"mlepi.commands.{name}")
    assert callable(COMMANDS[name].load())
    assert COMMANDS[name].group in GROUPS


def test_the_help_names_every_group_and_command(capsys):
    assert main(["--help"]) == main([]) == 0
    shown = capsys.readouterr().out
    assert shown == 2 * (build_help() + "\n")
    assert all(heading in shown for heading in GROUPS.values())
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_answer_comes_without_frameworks(option):
    code = (
        f"import sys; from mlepi.commands.main import main; main([{option!r}]); "
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert not run.stderr


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "Did you mean 'train'?"),
        ("n_samples=3", "Known: bench, checkpoints, compare, convert, demo,"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(word, hint, capsys):
    assert main([word]) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"error: mlepi: got {word!r}; expected a command. {hint}")


def test_the_version_says_what_a_report_needs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    first, *lines = describe_environment().splitlines()
    rows = dict(line.strip().split(maxsplit=1) for line in lines)
    assert first.startswith("mlepi 0.")
    assert rows["commit"] == find_commit(PACKAGE_FOLDER)
    assert rows["package"] == f"{PACKAGE_FOLDER} (clone)"
    assert rows["threads"].startswith("OMP_NUM_THREADS=3; ")
    assert rows["devices"].startswith("torch ")
    assert set(PACKAGES) < set(rows)
    assert "not installed" not in rows.values()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "OMP_NUM_THREADS not set, one per core; " in describe_environment()
