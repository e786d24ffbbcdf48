"""Faults of the file system at calls drawn from a seed: one message, nothing lost, no litter.

``make attack`` throws them at every writer and run, hundreds of times.
"""

import errno
import gc
import io
import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import warm_python
from faulty_files import CALLS, FAULTS, FaultyFiles, limit_file_size

from mlepi.hdf5_files import check_written, replace_hdf5

ATTACKS = Path(__file__).parent


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "crash"])
def test_the_layer_fails_where_it_is_told_to(tmp_path, fault):
    def work():
        (tmp_path / "a").mkdir()
        with (tmp_path / "a" / "x").open("w") as stream:
            stream.write("content")
            stream.flush()
            os.fsync(stream.fileno())
        (tmp_path / "a" / "x").replace(tmp_path / "a" / "y")
        os.link(tmp_path / "a" / "y", tmp_path / "a" / "z")
        (tmp_path / "a" / "z").unlink()
        (tmp_path / "a" / "y").unlink()
        (tmp_path / "a").rmdir()

    layer = FaultyFiles(tmp_path)
    with layer.inside():
        work()
    assert [point.call for point in layer.points] == [
        *("mkdir", "open", "write", "fsync", "rename", "link", "unlink", "unlink")
    ]
    assert {point.call for point in layer.points} == set(CALLS)
    for point in layer.points:
        (tmp_path / str(point.number)).mkdir()
        if point.call in FAULTS[fault]:
            with (
                FaultyFiles(tmp_path, point.number, fault).inside(),
                pytest.raises(OSError, match=os.strerror(getattr(errno, fault))),
            ):
                work()
        for path in (tmp_path / "a").glob("*"):
            path.unlink()
        if (tmp_path / "a").exists():
            (tmp_path / "a").rmdir()
    assert io.open is open, "everything is in its place again"


def test_half_of_a_write_is_there_and_a_limit_is_that_of_the_system(tmp_path):
    path = tmp_path / "x"
    with FaultyFiles(tmp_path, 1, "EIO").inside(), pytest.raises(OSError, match="Input/output"):
        path.write_bytes(b"12345678")
    assert path.read_bytes()[:4] == b"1234"
    with limit_file_size(5), pytest.raises(OSError, match="File too large"):
        path.write_bytes(b"12345678")


def write_blocks(path):
    with replace_hdf5(path, durable=True) as file:
        for k in range(40):
            values = np.random.default_rng(k).random(1000)
            file.create_dataset(f"group/{k}", data=values, chunks=(100,), compression=1)
            file[f"group/{k}"].attrs["text"] = "word " * 20
        check_written(file)


@pytest.mark.parametrize("limit", [0, 600, 5000, 200_000])
def test_hdf5_that_cannot_be_written_is_one_error_and_no_traceback(tmp_path, capfd, limit):
    path = tmp_path / "x.h5"
    path.write_bytes(b"as it was")
    with limit_file_size(limit), pytest.raises(OSError, match="File too large"):
        write_blocks(path)
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"as it was"]
    write_blocks(path)
    assert path.stat().st_size > limit
    with h5py.File(path) as file:
        assert len(file["group"]) == 40
        np.testing.assert_array_equal(file["group/17"], np.random.default_rng(17).random(1000))


def test_whatever_the_file_system_refuses_is_told_and_nothing_is_lost(tmp_path):
    path = os.pathsep.join(str(folder) for folder in (ATTACKS.parent, ATTACKS, ATTACKS.parents[1]))
    run = warm_python.run(
        [sys.executable, str(ATTACKS / "throw_faults.py"), str(tmp_path), "1", "1", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert [one for one in found if not one["fine"]] == []
    assert len(found) == 11 + 2
    assert {"told", "crash"} <= {one["result"] for one in found}
