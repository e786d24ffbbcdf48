"""Exponential moving average of the weights, which is evaluated and kept in checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mlepi.errors import ConfigError, message

TRAINING_WEIGHTS = "training_weights"
"""Checkpoint key: the weights that the optimizer acts on, {parameter name: tensor}; "state_dict"
holds the average."""


class EMA(Callback):
    """Average the weights over optimizer steps, w̄ ← d·w̄ + (1 − d)·w.

    At step n, d = min(decay, (1 + n)/(10 + n)). The average is in place during validation and in
    the "state_dict" of every checkpoint, and it stays in place when the training ends. A checkpoint
    also holds the weights that the optimizer acts on, so that a training can be resumed exactly.

    Args:
        decay: 0.999 averages over the last thousand steps.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ConfigError(
                message(
                    "callbacks.ema.decay",
                    f"{decay}",
                    "a number between 0 and 1",
                    "Edit the config.",
                )
            )
        self.decay = decay
        self.n_updates = 0
        self._step = -1
        self._average: dict[str, Tensor] = {}
        self._parameters: list[Tensor] = []  # in the order of the average
        self._training: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the current weights, unless a checkpoint gave the average.

        Both follow the module to its device.
        """
        parameters = dict(pl_module.named_parameters())
        if not self._average:
            self._average = {name: value.detach().clone() for name, value in parameters.items()}
        self._average = {
            name: value.to(parameters[name].device) for name, value in self._average.items()
        }
        self._parameters = [parameters[name] for name in self._average]
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self.decay, (1.0 + self.n_updates) / (10.0 + self.n_updates))
        self.n_updates += 1
        get_ema_multi_avg_fn(decay)(list(self._average.values()), self._parameters, self.n_updates)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        if self._average and self._training is None and trainer.state.fn == TrainerFn.FITTING:
            self._training = {
                name: value.detach().clone() for name, value in pl_module.named_parameters()
            }
            self._load(pl_module, self._average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the training weights back."""
        if self._training is not None:
            self._load(pl_module, self._training)
            self._training = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Put the training weights back when a validation was interrupted."""
        self.on_validation_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in place."""
        self._load(pl_module, self._average)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the training weights beside it."""
        if not self._average:
            return
        current = dict(pl_module.named_parameters())
        training = self._training if self._training is not None else current
        checkpoint[TRAINING_WEIGHTS] = {
            name: value.detach().clone() for name, value in training.items()
        }
        checkpoint["state_dict"] = {
            **checkpoint["state_dict"],
            **{name: value.clone() for name, value in self._average.items()},
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average from the checkpoint, and continue with the training weights."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if TRAINING_WEIGHTS not in checkpoint:
            raise ConfigError(
                message(
                    "ckpt_path",
                    "a checkpoint of a training without EMA",
                    "one with EMA",
                    "Resume with callbacks=no_ema.",
                )
            )
        self._average = {
            name: checkpoint["state_dict"][name].detach().clone()
            for name in checkpoint[TRAINING_WEIGHTS]
        }
        self._load(pl_module, checkpoint[TRAINING_WEIGHTS])

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates."""
        return {"n_updates": self.n_updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of updates."""
        self.n_updates = int(state_dict["n_updates"])

    @staticmethod
    @torch.no_grad()
    def _load(module: LightningModule, weights: dict[str, Tensor]) -> None:
        for name, value in module.named_parameters():
            value.copy_(weights[name])
