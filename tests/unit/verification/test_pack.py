"""The verification pack: what passes, what fails, and how it is told.

A check that could not fail would verify nothing.
"""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import warm_python
from rich.console import Console

from mlepi.errors import ConfigError, PhysicsError
from mlepi.verification import (
    PACK,
    Verification,
    averages,
    electrons,
    pack,
    print_table,
    run_pack,
    select,
    vibrations,
    write_table,
)
from mlepi.verification.__main__ import main
from mlepi.verification.check import at_least, at_most, statistical, within
from mlepi.verification.loop import _run_all, compare_runs

ROOT = Path(__file__).parents[3]


def good():
    return [within("good", 1.0, 1.05, 0.1, "eV")]


def bad():
    return [within("bad", 1.0, 1.2, 0.1, "eV"), at_most("fine", 1.0, 0.5)]


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (within("a", 1.0, 1.1, 0.11), True),
        (within("a", 1.0, 0.8, 0.11), False),
        (within("a", 1.0, np.nan, 0.11), False),
        (statistical("a", 0.0, 0.29, 0.1), True),
        (statistical("a", 0.0, 0.31, 0.1), False),
        (statistical("a", 0.0, 0.21, 0.1, n_sigma=2.0), False),
        (statistical("a", 0.0, 0.0, 0.0), False),  # an estimate without an error bar proves nothing
        (statistical("a", 0.0, np.nan, 1.0), False),
        (at_least("a", 3.0, 3.1), True),
        (at_least("a", 3.0, 2.9), False),
        (at_least("a", 3.0, np.nan), False),
        (at_most("a", 3.0, 2.9), True),
        (at_most("a", 3.0, np.inf), False),
        (at_most("a", 3.0, np.nan), False),
    ],
)
def test_comparisons(check, passed):
    assert check.passed is passed


def test_names_are_unique_and_the_quick_part_is_a_part():
    names = [verification.name for verification in PACK]
    assert len(set(names)) == len(names)
    assert {verification.name for verification in PACK} - {v.name for v in select(quick=True)} == {
        "sobol",
        "control_variate",
        "full_loop",
        "bilayer_hamiltonian",
    }
    assert [verification.name for verification in select(only="chain")] == ["chain"]
    assert select() == PACK


def test_unknown_name_is_refused(capsys):
    with pytest.raises(
        ConfigError,
        match=r"--only: got 'chian'; expected the name of a verification\. Did you mean 'chain'",
    ):
        select(only="chian")
    assert main(["--only", "chian"]) == 1
    assert "Did you mean 'chain'" in capsys.readouterr().err


def test_progress_and_tables(tmp_path):
    lines = []
    checks = run_pack([Verification("first", good), Verification("second", bad)], lines.append)
    assert [check.passed for check in checks] == [True, False, True]
    assert lines[0].startswith("[1/2] first")
    assert lines[0].endswith("1 passed")
    assert lines[1].endswith("1 of 2 FAILED")
    data, text = write_table(checks, tmp_path / "new")
    assert json.loads(data.read_text())[1] == {
        "name": "bad",
        "expected": 1.0,
        "got": 1.2,
        "tolerance": 0.1,
        "sigma": None,
        "passed": False,
        "unit": "eV",
        "kind": "=",
    }
    assert text.read_text().splitlines()[3] == "| bad | 1 eV | 1.2 | 0.1 |  | NO |"
    console = Console(record=True, width=120, file=io.StringIO())
    print_table([*checks, statistical("dice", 3.5, 3.4, 0.1)], console)
    shown = console.export_text()
    assert "expected" in shown
    assert "NO" in shown
    assert "≤ 1" in shown


@pytest.mark.parametrize(("work", "status"), [(good, 0), (bad, 1), (list, 1)])
def test_exit_status(work, status, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pack, "PACK", (Verification("only_one", work),))
    assert main(["--folder", str(tmp_path)]) == status
    assert "checks passed" in capsys.readouterr().out
    assert (tmp_path / "verification.md").exists()


def test_command(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mlepi.verification",
        "--only",
        "oscillator",
        "--folder",
        str(tmp_path),
    ]
    run = warm_python.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    assert "4 of 4 checks passed" in run.stdout


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_wrong_physics_is_found(monkeypatch):
    """Plant a mistake in what is verified and see the check fail."""
    right = vibrations.mode_variance
    monkeypatch.setattr(vibrations, "mode_variance", lambda *arguments: 1.00001 * right(*arguments))
    assert len(failed(vibrations.check_oscillator())) == 4
    right_ensemble = vibrations.ensemble_of

    def too_hot(force_constants, *temperatures, statistics="quantum"):
        return right_ensemble(
            force_constants, *(1.02 * t + 200.0 for t in temperatures), statistics=statistics
        )

    monkeypatch.setattr(vibrations, "ensemble_of", too_hot)
    monkeypatch.setattr(averages, "ensemble_of", too_hot)
    for check in (
        vibrations.check_equipartition,
        vibrations.check_einstein_solid,
        vibrations.check_flexural_scaling,
        averages.check_bose_einstein,
    ):
        assert failed(check())
    monkeypatch.setattr(electrons, "HOPPING", 1.001 * electrons.HOPPING)
    assert len(failed(electrons.check_fermi_velocity())) == 4


def run_record(shift_in_errors):
    """What ``compare_runs`` reads of a record, its numbers off by some of their standard errors."""
    ones = np.ones(2)
    errors = 1e-3 * np.ones((2, 4, 2))
    spectral = SimpleNamespace(
        velocities=8e5 * ones + shift_in_errors * 2e3,
        velocity_errors=2e3 * ones,
        slope_ratios=0.9 * ones + shift_in_errors * 1e-3,
        slope_ratio_errors=1e-3 * ones,
        equilibrium_energies=np.linspace(-1, 1, 8).reshape(4, 2),
        energies=np.linspace(-1, 1, 8).reshape(4, 2) + 0.02 + shift_in_errors * errors,
        energy_errors=errors,
    )
    return SimpleNamespace(temperatures=np.array([0.0, 300.0]), spectral=spectral)


@pytest.mark.parametrize(("shift", "n_failed"), [(0.0, 0), (1.9, 0), (2.1, 6), (-2.1, 6)])
def test_runs_are_compared_in_standard_errors_of_the_first(shift, n_failed):
    checks = compare_runs("loop", run_record(0.0), run_record(shift))
    assert len(checks) == 6
    assert len(failed(checks)) == n_failed


def test_a_script_that_fails_is_told():
    with pytest.raises(PhysicsError, match=r"full loop, mlepi train: got exit status 1: .*modle"):
        _run_all([["train", "modle=mace"]])
