"""Threads, followers and litter of processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlepi import threads
from mlepi.litter import remove_litter
from mlepi.parents import PARENT, is_follower
from mlepi.threads import VARIABLES, choose_threads

FAMILY = """
import os, subprocess, sys, time
from mlepi.parents import follow_file, follow_parent
if sys.argv[1] == "parent":
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], "child", "", sys.argv[3]])
    print(child.pid, flush=True)
    time.sleep(60)
elif sys.argv[3] == "parent watch":
    sys.platform = "elsewhere"  # without the help of Linux
    follow_parent()
else:
    follow_parent()
time.sleep(60)
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("way", ["prctl", "parent watch"])
def test_a_child_ends_when_its_parent_is_killed(way):
    command = [sys.executable, "-c", FAMILY, "parent", FAMILY, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_a_process_follows_a_file_that_is_no_longer_renewed(tmp_path):
    code = "import sys, time; from pathlib import Path; from mlepi.parents import follow_file\n"
    code += "follow_file(Path(sys.argv[1]), patience=0.3, poll=0.05); time.sleep(60)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert run.returncode == 1
    assert "the process that started this one is gone" in run.stderr


@pytest.mark.parametrize(
    ("variables", "follows"),
    [
        ({}, False),
        ({"LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, True),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "1"}, False),  # SLURM looks after its own
        ({"LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, True),
        ({PARENT: "17"}, True),
        ({PARENT: "18"}, False),
    ],
)
def test_who_follows_its_parent(variables, follows):
    assert is_follower(variables, 17) is follows


@pytest.fixture
def cores(monkeypatch):
    """Eight cores, three of them busy."""
    for name in (*VARIABLES, "LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    monkeypatch.setattr(threads, "count_cores", lambda: 8)
    monkeypatch.setattr(threads, "count_idle", lambda: 5.2)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    ("config", "count", "why"),
    [
        ({"threads": None}, 5, "8 cores, 3 of them busy"),
        ({"threads": None, "trainer": {"devices": 2}}, 2, "for 2 processes"),
        ({"threads": None, "trainer": {"devices": 16}}, 1, "for 16 processes"),
        ({"threads": None, "trainer": {"devices": "auto"}}, 5, "8 cores"),
        ({"threads": 3, "trainer": {"devices": 2}}, 3, "as threads says"),
    ],
)
def test_free_cores_are_shared_and_the_choice_is_said(config, count, why):
    said = choose_threads(config)
    assert said.startswith(f"threads          {count} per process (")
    assert why in said
    assert [os.environ[name] for name in VARIABLES] == [str(count)] * 3
    assert torch.get_num_threads() == count


def test_the_environment_decides_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert choose_threads({"threads": None}) == ""
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_idle_cores_are_counted():
    assert 0 <= threads.count_idle() <= threads.count_cores() <= (os.cpu_count() or 1)


def test_litter_is_removed_and_nothing_else(tmp_path):
    dead = 2**22 + 1
    litter = [
        f".results.h5.{dead}",
        f"checkpoints/.last.ckpt.{dead}.unfinished",
        f"checkpoints/.best.ckpt.{dead}.partial",
        "checkpoints/last.ckpt.part",
    ]
    kept = [
        "results.h5",
        ".hidden",
        f".note.{dead}",
        "x.unfinished",
        f".results.h5.{os.getppid()}",  # somebody is at work there
        "checkpoints/last.ckpt",
    ]
    (tmp_path / "checkpoints").mkdir()
    for name in (*litter, *kept):
        (tmp_path / name).write_text("x")
    removed = remove_litter(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in removed) == sorted(litter)
    assert all((tmp_path / name).exists() for name in kept)
