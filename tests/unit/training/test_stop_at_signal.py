"""A training that a signal stops: the right moment, a checkpoint, and the same end as without."""

import os
import signal

import pytest
import torch
from small_run import TINY_PHONON, run_training

from mlepi import stopping
from mlepi.faults import MachineError
from mlepi.training import stop_at_signal
from mlepi.training.checkpoint_files import WholeCheckpoints, check_disk
from mlepi.training.loggers import read_curves, read_earlier
from mlepi.training.stop_at_signal import StopAtSignal, describe_kept

OVERRIDES = [
    *TINY_PHONON,
    "trainer.max_epochs=3",
    "test=false",
    "data.batch_size=2",
    "auto_resume=true",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nobody stops."""
    folder = tmp_path_factory.mktemp("whole")
    run_training(folder, OVERRIDES)
    return folder


def send_at(monkeypatch, hook, epoch, number):
    """Let the process send itself a signal at a hook of one epoch, before the callback sees it."""
    original = getattr(StopAtSignal, hook)

    def wrapped(self, trainer, *args):
        if trainer.current_epoch == epoch and not stopping.requested():
            os.kill(os.getpid(), number)
        original(self, trainer, *args)

    monkeypatch.setattr(StopAtSignal, hook, wrapped)


@pytest.mark.parametrize(
    ("hook", "grace", "number", "last"),
    [
        ("on_train_epoch_start", 8, signal.SIGUSR1, 1),  # there is time: the epoch is finished
        ("on_train_batch_end", 0.5, signal.SIGTERM, 0),  # there is none
    ],
)
def test_a_stopped_training_ends_as_if_nothing_had_been(
    tmp_path, monkeypatch, whole, hook, grace, number, last
):
    if grace < 1:  # an epoch that would take long
        monkeypatch.setattr(stop_at_signal.time, "monotonic", iter(range(10**6)).__next__)
    send_at(monkeypatch, hook, 1, number)
    with stopping.listen(), pytest.raises(stopping.Stopped) as caught:
        run_training(tmp_path, [*OVERRIDES, f"grace={grace}"])
    monkeypatch.undo()
    assert caught.value.status == 143
    assert caught.value.wants_requeue is (number == signal.SIGUSR1)
    assert "with auto_resume=true" in caught.value.__notes__[0]
    stopped = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert stopped["epoch"] == last
    rows = read_curves(tmp_path / "csv/metrics.csv")
    (tmp_path / "checkpoints/.last.ckpt.4194305.unfinished").write_bytes(b"half")

    run_training(tmp_path, OVERRIDES)
    ends = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        for folder in (whole, tmp_path)
    ]
    for key in ("state_dict", "training_weights"):
        for name, value in ends[0][key].items():
            assert torch.equal(value, ends[1][key][name]), name
    texts = [(folder / "csv/metrics.csv").read_text() for folder in (whole, tmp_path)]
    assert texts[0] == texts[1]
    assert len(rows) < len(read_curves(tmp_path / "csv/metrics.csv"))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_what_is_kept_is_said(tmp_path):
    assert "No epoch was finished" in describe_kept(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert f"ckpt_path=own hydra.run.dir={tmp_path}" in describe_kept(tmp_path)


def test_half_written_rows_and_those_of_later_epochs_are_left_out(tmp_path):
    file = tmp_path / "csv/metrics.csv"
    file.parent.mkdir()
    file.write_text("epoch,step,test/loss,val/loss\n0,2,,1\n1,5,,2\n1,5,7,\n2,8,,3\n3,")
    assert [row["val/loss"] for row in read_earlier(tmp_path, 1)] == ["1", "2"]
    assert read_earlier(tmp_path / "nothing", 1) == []


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, path)

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        WholeCheckpoints().save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_no_folder_for_temporary_files_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.mkstemp", lambda *a, **k: (_ for _ in ()).throw(OSError))
    WholeCheckpoints().save_checkpoint({"epoch": 1}, tmp_path / "new" / "last.ckpt")
    assert torch.load(tmp_path / "new" / "last.ckpt", weights_only=True) == {"epoch": 1}


def test_a_disk_too_small_for_the_checkpoints_is_refused(tmp_path):
    check_disk(1000, tmp_path)
    with pytest.raises(MachineError, match=r"GB of free disk; expected 1\.5e\+10 GB for check"):
        check_disk(10**18, tmp_path)
