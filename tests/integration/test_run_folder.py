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
from mlepi.run_lock import FILE_NAME, acquire

TOYS = Path(__file__).parents[1]


def infer(folder, *overrides):
    environment = {**os.environ, "PYTHONPATH": f"{TOYS}:{TOYS.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOYS / "toy_infer.py"), f"hydra.run.dir={folder}"]
    return warm_python.run(
        [*command, *TOY_RUN, *overrides],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder.parent,
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
