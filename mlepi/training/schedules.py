"""Learning-rate schedules of an optimizer and a length of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mlepi.errors import ConfigError, message


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule and when it advances.

    Attributes:
        scheduler: of PyTorch.
        interval: "step" after every optimizer step, "epoch" after every epoch, "metric" after every
            epoch with the value of ``Task.monitor``.
    """

    scheduler: Any
    interval: Literal["step", "epoch", "metric"]


def constant(optimizer: Optimizer, total_steps: int) -> Schedule:
    """Keep the learning rate."""
    return Schedule(LambdaLR(optimizer, lambda step: 1.0), "step")


def warmup_cosine(optimizer: Optimizer, total_steps: int, *, warmup_fraction: float) -> Schedule:
    """Rise linearly from zero, then follow a half cosine to zero at the last step.

    Loshchilov & Hutter (2017), arXiv:1608.03983.

    Args:
        optimizer: whose learning rate is the maximum.
        total_steps: number of optimizer steps of the whole training.
        warmup_fraction: part of the steps that rise.

    Raises:
        ConfigError: the length of the training is not fixed.
    """
    if total_steps <= 0 or math.isinf(total_steps):
        raise ConfigError(
            message(
                "optimizer.schedule",
                f"a training of {total_steps} steps",
                "a fixed length",
                "Set trainer.max_epochs or max_steps.",
            )
        )
    warmup = max(1, round(warmup_fraction * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (
            1.0 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total_steps - warmup)))
        )

    return Schedule(LambdaLR(optimizer, factor), "step")


def reduce_on_plateau(
    optimizer: Optimizer, total_steps: int, *, factor: float, patience: int, min_lr: float
) -> Schedule:
    """Multiply the learning rate when the monitored value has not improved for some epochs.

    Args:
        optimizer: to act on.
        total_steps: unused.
        factor: multiplier.
        patience: epochs without improvement before it acts.
        min_lr: lower limit.
    """
    return Schedule(
        ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr), "metric"
    )


def halve_every(optimizer: Optimizer, total_steps: int, *, start: int, every: int) -> Schedule:
    """Halve the learning rate at epoch ``start`` and every ``every`` epochs from there.

    As in the published training of DeepH-E3.

    Args:
        optimizer: to act on.
        total_steps: unused.
        start: epoch of the first halving.
        every: epochs between halvings.
    """
    return Schedule(
        LambdaLR(
            optimizer, lambda epoch: 0.5 ** (0 if epoch < start else 1 + (epoch - start) // every)
        ),
        "epoch",
    )
