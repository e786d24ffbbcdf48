"""Learning-rate schedules of an optimizer and a length of training."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mlepi.errors import ConfigError, message

log = logging.getLogger(__name__)


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


class RevertThenDecay:
    """Go back to the best weights when a training gets lost, and lower the learning rate in steps.

    As in the published training of DeepH (Li et al. 2022, doi:10.1038/s43588-022-00265-6): at the
    epochs of the list the learning rate is multiplied by the next factor. When the monitored value
    exceeds ``threshold`` times the best so far, weights and optimizer are set back to those of the
    best epoch, and the next factor is applied at once, so that its epoch is the turn of the one
    after it.

    Args:
        optimizer: to act on; its parameters are those that are set back.
        epochs: ascending, counted from 0, after which the factors are due.
        factors: one for each epoch.
        threshold: ratio of the monitored value to its best.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        epochs: Sequence[int],
        factors: Sequence[float],
        threshold: float,
    ) -> None:
        if len(epochs) != len(factors) or list(epochs) != sorted(epochs) or not threshold > 1.0:
            raise ConfigError(
                message(
                    "optimizer.schedule",
                    f"epochs {list(epochs)}, factors {list(factors)}, threshold {threshold}",
                    "ascending epochs, a factor for each, and a threshold above 1",
                    "Edit the config.",
                )
            )
        self.optimizer = optimizer
        self.epochs, self.factors, self.threshold = tuple(epochs), tuple(factors), threshold
        self.epoch = self.applied = self.reverted = 0
        self.best = math.inf
        self.best_weights: list[Tensor] = []
        self.best_state: dict[str, Any] = {}

    def step(self, value: float) -> None:
        """Act on the monitored value of the epoch that ends; lower is better."""
        if value > self.threshold * self.best or (math.isnan(value) and self.best_weights):
            log.info("%.5g after %.5g: back to the best weights", value, self.best)
            rate = [group["lr"] for group in self.optimizer.param_groups]
            self._restore()
            for group, lr in zip(self.optimizer.param_groups, rate, strict=True):
                group["lr"] = lr
            self.reverted += 1
            self._decay()
        else:
            if self.applied < len(self.epochs) and self.epoch >= self.epochs[self.applied]:
                self._decay()
            if value < self.best:
                self.best = value
                self._keep()
        self.epoch += 1

    def _decay(self) -> None:
        if self.applied < len(self.factors):
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factors[self.applied]
            self.applied += 1

    def _parameters(self) -> list[Tensor]:
        return [value for group in self.optimizer.param_groups for value in group["params"]]

    def _keep(self) -> None:
        self.best_weights = [value.detach().clone() for value in self._parameters()]
        self.best_state = copy.deepcopy(self.optimizer.state_dict())

    @torch.no_grad()
    def _restore(self) -> None:
        for value, best in zip(self._parameters(), self.best_weights, strict=True):
            value.copy_(best)
        self.optimizer.load_state_dict(copy.deepcopy(self.best_state))

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs, as plain data and tensors."""
        names = ("epoch", "applied", "reverted", "best", "best_weights", "best_state")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a stored state."""
        for name, value in state_dict.items():
            setattr(self, name, value)


def revert_then_decay(
    optimizer: Optimizer,
    total_steps: int,
    *,
    epochs: Sequence[int],
    factors: Sequence[float],
    threshold: float,
) -> Schedule:
    """Follow ``RevertThenDecay``, the published training of DeepH.

    Args:
        optimizer: to act on.
        total_steps: unused.
        epochs: after which the learning rate is multiplied.
        factors: one for each of them.
        threshold: ratio of the monitored value to its best above which the weights are set back.
    """
    return Schedule(
        RevertThenDecay(optimizer, epochs=epochs, factors=factors, threshold=threshold), "metric"
    )
