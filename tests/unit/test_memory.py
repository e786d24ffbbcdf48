"""Freed memory is kept where the C library can do so.

Elsewhere nothing happens and nothing fails.
"""

import ctypes
import os
import subprocess
import sys

import pytest

from mlepi import memory

PAGE_FAULTS = """
import resource, sys, threading
from mlepi.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import torch
torch.set_num_threads(1)
def step():
    # above 32 MB, where the C library's own choice never adapts
    return [torch.zeros(n, 2**20) for n in (9, 16, 12)]
def work():
    for _ in range(25):  # until the heap has pieces for all: some steps more without large pages
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[1] == "keep":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # so that it is restored
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    return monkeypatch


def count_page_faults(choice, variables=None):
    run = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS, choice],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


NO_MALLOPT = getattr(ctypes.CDLL(None), "mallopt", None) is None


@pytest.mark.skipif(NO_MALLOPT, reason="no mallopt in this C library")
def test_kept_memory_is_not_cleared_again():
    """Neither in a process of ours, nor in a thread of one that is started with the variables."""
    given_back = count_page_faults("give back")
    for choice, variables in (("keep", None), ("thread", memory.list_memory_variables())):
        # a system short of processors takes pages that nobody touched for a while: it may try again
        tries = (count_page_faults(choice, variables) for _ in range(3))
        assert any(kept < given_back / 10 for kept in tries), choice


@pytest.mark.parametrize(
    ("content", "asked"),
    [("always [madvise] never", "1"), ("always madvise [never]", None), (None, None)],
)
def test_large_pages_only_where_the_system_offers_them(environment, tmp_path, content, asked):
    if content is not None:
        (tmp_path / "enabled").write_text(content)
    environment.setattr(memory, "HUGE_PAGES", tmp_path / "enabled")
    environment.setattr(
        ctypes, "CDLL", lambda name: type("Library", (), {"mallopt": staticmethod(lambda *_: 1)})
    )
    assert memory.keep_freed_memory()
    assert memory.os.environ.get("THP_MEM_ALLOC_ENABLE") == asked


def test_a_choice_of_the_user_stays(environment):
    environment.setenv("THP_MEM_ALLOC_ENABLE", "0")
    environment.setattr(
        ctypes, "CDLL", lambda name: type("Library", (), {"mallopt": staticmethod(lambda *_: 1)})
    )
    memory.keep_freed_memory()
    assert memory.os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


@pytest.mark.parametrize(
    "library",
    [type("Other", (), {}), type("Refusing", (), {"mallopt": staticmethod(lambda *_: 0)})],
)
def test_other_libraries_are_left_alone(environment, library):
    environment.setattr(ctypes, "CDLL", lambda name: library)
    assert not memory.keep_freed_memory()
    assert "THP_MEM_ALLOC_ENABLE" not in memory.os.environ


def test_other_systems_are_left_alone(environment):
    environment.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()


def test_used_memory_grows_with_what_is_held(monkeypatch):
    before = memory.used_memory()
    held = bytearray(b"x" * 2**26)
    assert memory.used_memory() - before > 0.8 * len(held)
    monkeypatch.setattr(memory.Path, "read_text", lambda *arguments, **options: "")
    assert memory.used_memory() > len(held)  # the most so far, where nothing says more


def test_a_gpu_that_is_not_used_holds_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert memory.used_gpu_memory() == 0
