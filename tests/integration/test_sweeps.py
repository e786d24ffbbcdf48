"""A sweep on the command line: folders, failures, a second call, and the comparison."""

import json

from small_run import TINY_PHONON

from mlepi.commands.main import main
from mlepi.training import jobs

COMMON = [
    *(text for text in TINY_PHONON if not text.startswith(("data.n_train", "check_units"))),
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
]


def run_sweep(*arguments):
    """Return the exit status of ``mlepi train -m``."""
    try:
        return main(["train", "-m", *arguments, *COMMON])
    except SystemExit as end:
        return end.code


def test_one_failing_job_does_not_stop_the_others(tmp_path, capsys):
    folder = f"hydra.sweep.dir={tmp_path}"
    assert run_sweep("data.n_train=99,6", "seed=1,2", folder) == 1
    shown = capsys.readouterr()
    names = [f"data.n_train={n},seed={seed}" for n in (99, 6) for seed in (1, 2)]
    failure = "error: data.n_train: got 99; expected 1 to 36, the training structures of the split."
    for name in (f"{rest},model=hedgenet_phonon" for rest in names):
        assert (tmp_path / name / "job.json").is_file()
        assert (f"  {name}: {failure}" in shown.err) == ("=99" in name)
        assert (f"Not finished: {name}, failed: data.n_train" in shown.out) == ("=99" in name)
        assert (tmp_path / name / "traceback.txt").is_file() == ("=99" in name)
    [row] = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert row["seeds"] == [1, 2]
    assert row["metrics"]["test"]["forces_mae_mev_per_angstrom"]["sd"] > 0.0
    assert (tmp_path / "comparison.md").read_text() in shown.out


def test_the_same_command_takes_what_is_finished(tmp_path, monkeypatch, capsys):
    folder = f"hydra.sweep.dir={tmp_path}"
    trained = []

    def train(config, folder, sweep):
        trained.append(config.seed)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/last.ckpt").touch()
        return {"val/loss": 1.0 * config.seed}

    monkeypatch.setattr(jobs, "train", train)
    given = ["seed=1,2", "test=false", folder]
    assert run_sweep(*given) == 0
    assert run_sweep(*given) == 0
    assert run_sweep("seed=2,3", *given[1:]) == 0  # further ones, and all in the comparison
    assert trained == [1, 2, 3]
    assert "| 2 ± 1 |" in capsys.readouterr().out
    assert run_sweep(*given, "optimizer.optimizer.lr=0.01") == 1
    text = "got another configuration, optimizer.optimizer.lr: 0.02 → 0.01; expected that with"
    assert capsys.readouterr().err.count(text) >= 2
    assert trained == [1, 2, 3]
