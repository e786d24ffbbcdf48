"""Errors of the machine as one message, and how much of it is free."""

import errno
import resource
import sys

import numpy as np
import pytest
import torch

from mlepi import faults
from mlepi.errors import ConfigError
from mlepi.faults import explain_fault, find_number, free_memory, is_out_of_memory


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, r"run/x: got a full disk \(No space left on device; .* GB free\)"),
        (errno.EDQUOT, r"run/x: got a used-up quota .* Free some.* the same command goes on"),
        (errno.EROFS, "run/x: got Read-only file system.*Nothing is damaged"),
        (errno.EACCES, "run/x: got Permission denied.*Change its permissions"),
        (errno.ENOTDIR, "run/x: got Not a directory; expected a folder"),
        (errno.EIO, "run/x: got Input/output error"),
        (errno.ESTALE, "run/x: got Stale file handle"),
    ],
)
def test_errors_of_the_system_say_path_and_need(tmp_path, number, text):
    (tmp_path / "run").mkdir()
    error = OSError(number, "whatever", str(tmp_path / "run" / "x"))
    found = explain_fault(error, tmp_path / "run")
    with pytest.raises(faults.MachineError, match=text):
        raise found


def test_words_of_hdf5_are_understood():
    text = "Unable to write (file write failed: errno = 28, error message = 'No space left')"
    assert find_number(OSError(text)) == errno.ENOSPC


def test_an_error_of_hdf5_while_it_closes_a_file_names_file_and_reason(tmp_path):
    said = "file write failed: filename = '/run/.results.h5.7', errno = 27, error message = …"
    error = RuntimeError(f"Set slist enabled failed ({said})")
    assert str(explain_fault(error, tmp_path)).startswith("/run/.results.h5.7: got File too large")
    assert faults.is_refusal(error)
    assert not faults.is_refusal(OSError("file signature not found"))


def test_a_fault_behind_another_error_is_the_one_that_is_told(tmp_path):
    error = ValueError("Unable to configure handler 'file'")
    error.__cause__ = OSError(28, "No space left on device", "/run/infer.log")
    assert str(explain_fault(error, tmp_path)).startswith("/run/infer.log: got a full disk")
    closing = RuntimeError("Can't decrement id ref count (unable to close file)")
    closing.__context__ = error
    assert str(explain_fault(closing, tmp_path)).startswith("/run/infer.log: got a full disk")
    own = ConfigError("a file of other content")
    own.__cause__ = error.__cause__
    assert explain_fault(own, tmp_path) is None


def test_a_training_that_has_lost_a_process_says_so(tmp_path):
    error = RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]")
    text = str(explain_fault(error, tmp_path))
    assert text.startswith("processes: got one that has ended ([../third_party/gloo/pair.cc:534]")
    assert "auto_resume=true" in text


def test_a_deleted_folder_and_a_missing_file_are_told_apart(tmp_path):
    error = FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "x"))
    assert "a file that is there" in str(explain_fault(error, tmp_path))
    assert "It was deleted or moved" in str(explain_fault(error, tmp_path / "run"))


def test_no_folder_for_temporary_files(tmp_path):
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "TMPDIR: got no folder" in str(explain_fault(error, tmp_path))


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.ones(2**60, dtype=np.uint8)],
)
def test_out_of_memory_is_recognised_whoever_says_it(tmp_path, allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)
    assert "less than a step needs" in str(explain_fault(caught.value, tmp_path))


def test_other_errors_are_left_alone(tmp_path):
    for error in (ValueError("no"), RuntimeError("shapes differ"), ConfigError("x"), OSError("x")):
        assert explain_fault(error, tmp_path) is None


def test_memory_is_the_least_of_what_machine_group_and_limit_leave(monkeypatch):
    assert 0 < free_memory() < 2**50
    monkeypatch.setattr(faults, "_left_in_group", lambda: 5)
    assert free_memory() == 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_address_space_limit_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (2**40, 2**40))
    left = faults._left_of_address_space()
    assert 2**40 - 2**38 < left < 2**40


def test_disk_is_asked_of_what_exists(tmp_path):
    assert faults.free_disk(tmp_path / "a" / "b") == pytest.approx(
        faults.free_disk(tmp_path), rel=0.1
    )
