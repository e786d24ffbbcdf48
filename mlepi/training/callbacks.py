"""Callbacks of a training: progress lines, best and last checkpoint, limits, random states."""

from __future__ import annotations

import logging
import random
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from mlepi.errors import ConfigError, message
from mlepi.run_lock import RunLock

log = logging.getLogger(__name__)


def parse_duration(text: str, where: str = "trainer.max_time") -> float:
    """Return the seconds of a duration ``DD:HH:MM:SS`` or ``HH:MM:SS``.

    Args:
        text: the duration.
        where: config key, for the message.

    Raises:
        ConfigError: any other text.
    """
    if not re.fullmatch(r"(\d+:)?\d+:\d\d:\d\d", text):
        raise ConfigError(
            message(where, repr(text), "'HH:MM:SS' or 'DD:HH:MM:SS'", "Quote it in YAML.")
        )
    factors = (1, 60, 3600, 86400)
    return float(
        sum(
            int(part) * factor
            for part, factor in zip(reversed(text.split(":")), factors, strict=False)
        )
    )


def format_duration(seconds: float) -> str:
    """Write a duration with the two largest of hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


class EpochLines(Callback):
    """Write one line per epoch to the log: losses, metric, learning rate and times."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin = time.monotonic()
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        metrics = trainer.callback_metrics  # a sum over all processes, so in all of them
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch - self._first_epoch + 1
        seconds = (time.monotonic() - self._begin) / done
        last = (
            trainer.max_epochs
            if trainer.max_epochs is not None and trainer.max_epochs > 0
            else None
        )
        shown = ["train/loss", "val/loss", str(getattr(pl_module, "monitor", "val/loss"))]
        values = {name: metrics[name] for name in dict.fromkeys(shown) if name in metrics}
        parts = [f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last else "")]
        parts += [f"{name} {float(value):.5g}" for name, value in values.items()]
        parts += [
            f"lr {trainer.optimizers[0].param_groups[0]['lr']:.2e}",
            f"{format_duration(seconds)} per epoch",
        ]
        if last:
            parts.append(f"{format_duration(seconds * (last - trainer.current_epoch - 1))} left")
        log.info(" | ".join(parts))


class TimeLimit(Callback):
    """Stop after the last epoch that fits into a time limit.

    So ``last.ckpt`` is complete and resumes exactly. The clock starts with the training and begins
    anew when a training is resumed.

    Args:
        limit: seconds.
    """

    def __init__(self, *, limit: float) -> None:
        self.limit = limit
        self.reached = False
        self._begin = self._epoch_begin = 0.0
        self._longest = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the epoch begins."""
        self._epoch_begin = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, on all processes, if another epoch as long as the longest so far would not fit."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._epoch_begin)
        if trainer.strategy.reduce_boolean_decision(
            now + self._longest - self._begin > self.limit, all=False
        ):
            trainer.should_stop = self.reached = True
            if trainer.is_global_zero:
                log.info(
                    "time limit of %s reached; resume with ckpt_path=…/last.ckpt",
                    format_duration(self.limit),
                )


def validates(trainer: Trainer) -> bool:
    """Return whether the present epoch ends with a validation."""
    every = trainer.check_val_every_n_epoch or 1
    return (trainer.current_epoch + 1) % every == 0


class ProcessorClock(Callback):
    """Count the processor seconds of a training, and end it when they are used up.

    Of all threads of this process, training and validation together, over all parts of a training
    that was resumed: what was lost with a kill is not counted. With a limit the training takes one
    thread, and ends after the last validated epoch that fits; a schedule that counts steps then
    follows ``fraction`` instead.

    Args:
        limit: duration, see ``parse_duration``; None for no limit.
    """

    def __init__(self, *, limit: str | None) -> None:
        self.limit = None if limit is None else parse_duration(limit, "callbacks.clock.limit")
        self._earlier = self._longest = 0.0
        self._begin: float | None = None
        self._validated = 0.0
        self._n_threads = torch.get_num_threads()

    @property
    def seconds(self) -> float:
        """Processor seconds so far."""
        running = 0.0 if self._begin is None else time.process_time() - self._begin
        return self._earlier + running

    @property
    def fraction(self) -> float:
        """Part of the limit that is used, at most 1; 0 without one."""
        if self.limit is None:
            return 0.0
        return min(1.0, self.seconds / self.limit) if self.limit > 0.0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, and those of the longest part between two validations."""
        return {"seconds": self.seconds, "longest": self._longest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the seconds of the checkpoint."""
        self._earlier, self._longest = state_dict["seconds"], state_dict["longest"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        if self.limit is not None:
            self._n_threads = torch.get_num_threads()
            torch.set_num_threads(1)
            if self._earlier + self._longest > self.limit:  # resumed, with nothing left to do
                trainer.should_stop = True
        self._begin = time.process_time()
        self._validated = self.seconds

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if another part as long as the longest so far would not fit."""
        if self.limit is None or not validates(trainer):
            return
        now = self.seconds
        self._longest, self._validated = max(self._longest, now - self._validated), now
        if trainer.strategy.reduce_boolean_decision(now + self._longest > self.limit, all=False):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._earlier, self._begin = self.seconds, None
        if self.limit is not None:
            torch.set_num_threads(self._n_threads)


def find_clock(callbacks: Iterable[Callback]) -> ProcessorClock | None:
    """Return the clock that limits a training, if one does."""
    for callback in callbacks:
        if isinstance(callback, ProcessorClock) and callback.limit is not None:
            return callback
    return None


class BestAndLast(ModelCheckpoint):
    """Keep best.ckpt, by a monitored metric, and last.ckpt, after every validated epoch.

    A resumed training starts with the best so far.

    Args:
        folder: where both are written.
        monitor: validation metric; lower is better.
        previous: folder of the checkpoint that is resumed, None for a new training.
    """

    def __init__(self, *, folder: Path, monitor: str, previous: Path | None) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.previous = previous

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best checkpoint if this epoch is it, and the last one in any case.

        Epochs between two validations are left out, unless the training ends with them.
        """
        if validates(trainer):
            super().on_train_epoch_end(trainer, pl_module)
        elif not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            return
        folder = Path(str(self.dirpath))
        if self._last_global_step_saved != trainer.global_step:
            trainer.save_checkpoint(folder / "last.ckpt")
        elif trainer.is_global_zero:  # the content of this moment has been written already
            shutil.copyfile(self.best_model_path, folder / "last.ckpt.part")
            (folder / "last.ckpt.part").replace(folder / "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoint of the resumed training, wherever its folder is now."""
        folder = Path(str(self.dirpath))
        if self.previous is not None and self.previous != folder:
            name = Path(state_dict["best_model_path"]).name
            if not (self.previous / name).is_file():
                log.warning(
                    "%s is missing: the best checkpoint will be the best of the epochs to come",
                    self.previous / name,
                )
                return
            if getattr(rank_zero_only, "rank", 0) == 0:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.previous / name, folder / name)
            best = str(folder / name)
            moved = {
                "best_model_path": best,
                "kth_best_model_path": best,
                "best_k_models": {best: state_dict["best_model_score"]},
            }
            state_dict = {**state_dict, **moved, "dirpath": str(folder), "last_model_path": ""}
            self.previous = None
        super().load_state_dict(state_dict)


class HeldFolder(Callback):
    """Stop a training whose run folder belongs to another run by now.

    Args:
        lock: of the run folder.
    """

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before an epoch, at whose end a checkpoint is written."""
        self.lock.check()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before the checkpoint of this epoch is written."""
        self.lock.check()


class RandomState(Callback):
    """Keep the states of all random generators in checkpoints.

    A resumed training draws what it would have drawn.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states as tensors and plain Python data."""
        version, internal, gauss = random.getstate()
        legacy = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state itself
        _, keys, position, has_gauss, cached = legacy
        state: dict[str, Any] = {
            "python": (version, list(internal), gauss),
            "numpy": (
                torch.as_tensor(np.asarray(keys, dtype=np.int64)),
                int(position),
                int(has_gauss),
                float(cached),
            ),
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts: setting up a run draws random numbers too."""
        self._restored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states of the checkpoint, if there is one."""
        state = self._restored
        if state is None:
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        keys, position, has_gauss, cached = state["numpy"]
        legacy = ("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(state["torch"].cpu())
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])
        self._restored = None
