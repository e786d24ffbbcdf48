"""The curve of a training of ours: a callback."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mlepi.training.callbacks import ProcessorClock
from workers.curves import Point, append_point


class EpochCurve(Callback):
    """Write error and processor seconds of every epoch into the run folder.

    Args:
        metric: validation metric that is the error.
        limit: processor seconds after which no further epoch is begun that would not fit; None for
            no limit. Unlike that of ``ProcessorClock`` it changes no schedule.
    """

    def __init__(self, *, metric: str, limit: float | None = None) -> None:
        self.metric, self.limit = metric, limit

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a line, and stop if another epoch like the mean of those so far would not fit."""
        clocks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        seconds = sum(each.seconds for each in clocks if isinstance(each, ProcessorClock))
        epoch = trainer.current_epoch + 1
        error = float(trainer.callback_metrics[self.metric])
        append_point(Path(trainer.default_root_dir), Point(epoch, error, seconds))
        if self.limit is not None and seconds * (epoch + 1) / epoch > self.limit:
            trainer.should_stop = True
