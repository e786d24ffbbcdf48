"""A training that is asked to stop: at the end of its epoch where there is time, else at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mlepi import stopping


class StopAtSignal(Callback):
    """Stop all processes of a training when a signal has asked one of them to.

    The epoch is finished, and its checkpoint written, if that fits into the grace. Otherwise the
    training ends after the present step, and ``last.ckpt`` is that of the epoch before.

    Args:
        grace: seconds from the signal on.
    """

    def __init__(self, *, grace: float) -> None:
        self.grace = grace
        self.reached = False
        self._deadline: float | None = None
        self._epoch_begin = self._validation_begin = 0.0
        self._validation = 0.0
        stopping.give_time(grace)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning, which ends a training as if it were complete."""
        _take_back()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them back once more."""
        _take_back()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop between two structures of the test."""
        stopping.stop_if_requested()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the epoch begins."""
        self._epoch_begin = time.monotonic()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the validation begins."""
        self._validation_begin = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long it took."""
        self._validation = time.monotonic() - self._validation_begin

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if the rest of the epoch would take too long.

        Raises:
            Stopped: in every process.
        """
        now = time.monotonic()
        late = False
        if stopping.requested():
            self._deadline = now + self.grace if self._deadline is None else self._deadline
            done, total = batch_idx + 1, float(trainer.num_training_batches)
            left = (now - self._epoch_begin) / done * (total - done) + self._validation
            late = done < total and now + left > self._deadline
        if trainer.strategy.reduce_boolean_decision(late, all=False):
            raise stopping.stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the training here, with the checkpoint that is written next."""
        if trainer.strategy.reduce_boolean_decision(stopping.requested(), all=False):
            trainer.should_stop = self.reached = True


def _take_back() -> None:
    if stopping.is_listening():
        stopping.install()


def describe_kept(folder: Path) -> str:
    """Say what a training that was stopped has left, and how it goes on.

    Args:
        folder: of the run.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return f"No epoch was finished in {folder}: start the training again."
    return (
        f"Every finished epoch is kept in {last}. The same command with ckpt_path=own "
        f"hydra.run.dir={folder} goes on from there; with auto_resume=true, or in a sweep, it does "
        "so by itself."
    )
