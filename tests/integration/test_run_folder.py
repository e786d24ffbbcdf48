"""One run at a time in a folder: what the commands do with one that is in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm_python
from small_run import TINY_PHONON, run_training
from toy_infer import TOY_RUN

from mlepi.errors import DataError
from mlepi.results import ResultsStore
from mlepi.run_lock import FILE_NAME, acquire

TOYS = Path(__file__).parents[1]


def infer(folder, *overrides):
    return call(folder.parent, f"hydra.run.dir={folder}", *overrides)


def call(place, *arguments):
    options = [word for word in arguments if word.startswith("-")]
    overrides = arguments[len(options) :]
    environment = {**os.environ, "PYTHONPATH": f"{TOYS}:{TOYS.parent}", "OMP_NUM_THREADS": "1"}
    return warm_python.run(
        [sys.executable, str(TOYS / "toy_infer.py"), *options, *TOY_RUN, *overrides],
        capture_output=True,
        text=True,
        env=environment,
        cwd=place,
        check=False,
    )


def test_a_second_inference_is_refused_before_it_writes_anything(tmp_path):
    with acquire(tmp_path / "run") as lock:
        run = infer(tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE_NAME]
        lock.check()
    assert run.returncode == 1
    assert "run.lock: got a folder in use by" in run.stderr
    assert f"process {lock.holder.pid} on {lock.holder.host}" in run.stderr


def test_a_second_training_is_refused(tmp_path):
    with acquire(tmp_path), pytest.raises(DataError, match="in use by"):
        run_training(tmp_path, TINY_PHONON)
    assert list(tmp_path.iterdir()) == []


def test_ranks_share_the_folder_and_take_over_what_was_left_behind(tmp_path):
    code = "import sys; from pathlib import Path; from mlepi.run_lock import acquire\n"
    code += "acquire(Path(sys.argv[1])); import os; os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert (tmp_path / "run" / FILE_NAME).exists()
    run = infer(tmp_path / "run", "trainer.devices=2")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("took over from") == 1
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_a_sweep_has_its_folder_and_goes_on_after_a_failing_job(tmp_path):
    run = call(tmp_path, "-m", "folder=X", "stage.levels.fail_at=0,-1")
    assert run.returncode == 1
    assert "error: these jobs failed:\n  0: error: sample: a failure on purpose\n" in run.stderr
    assert (tmp_path / "X" / "0" / "traceback.txt").is_file()
    assert ResultsStore(tmp_path / "X" / "1").content("levels")
    assert "Not finished: 0, failed: " in (tmp_path / "X" / "comparison.md").read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"X"}
