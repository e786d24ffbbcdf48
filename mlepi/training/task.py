"""What both trainings share: network, optimizer, schedule, logging and stamp."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mlepi.arithmetic import parse_dtype
from mlepi.checksums import CHECKSUMS, compute_checksums
from mlepi.config_check import suggest
from mlepi.errors import ConfigError, MlepiError, message
from mlepi.faults import is_out_of_memory
from mlepi.graphs import fields
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.callbacks import ProcessorClock, find_clock
from mlepi.training.ema import EMA, TRAINING_WEIGHTS
from mlepi.training.losses import Term
from mlepi.training.metrics import LossSums, StructureSums
from mlepi.training.partwise_loss import PartwiseLoss
from mlepi.training.schedules import Schedule

EVALUATED = ("val", "test")
"""Subsets whose errors are measured."""

TICKS = 100_000
"""Steps into which a schedule divides a training that has a processor time instead of steps."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create new tensors in a floating-point type inside a ``with`` block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_part(where: str, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Instantiate a nested plain config; what it does not accept is a ``ConfigError``."""
    try:
        return instantiate(dict(config), *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        if isinstance(error.__cause__, MlepiError):
            raise error.__cause__ from error
        text = " ".join(str(error).split())
        raise ConfigError(
            message(
                where,
                text,
                "a config that its class accepts",
                "Give it the arguments of its constructor, as conf/train.yaml shows.",
            )
        ) from error


class Task(LightningModule, ABC):
    """Train one network; subclasses say what is predicted, what the loss is and what is measured.

    Args:
        model: nested plain config of the network with all facts filled in.
        optimizer: "optimizer" and "schedule": partial configs.
        loss: arguments of the loss.
        monitor: metric of the validation set that chooses the best checkpoint and drives plateau
            schedules.
        dtype: "float32" or "float64".
        stamp: what the checkpoint says about itself under the key "mlepi", so that it rebuilds the
            network alone.
        n_structures: structures of the data, counted over all subsets.
        subsets: "val" and "test" → names of subsets, its own first → numbers of their structures.
    """

    kind: ClassVar[str]
    quantities: ClassVar[tuple[str, ...]]
    main_metric: ClassVar[str]  # by which networks are compared; lower is better
    main_quantity: ClassVar[str]  # of which it is a mean
    columns: ClassVar[dict[str, str]]  # metric → heading, in tables of several subsets
    settings_of: ClassVar[dict[str, type]]  # argument → class that its settings are for

    def __init__(
        self,
        *,
        model: dict[str, Any],
        optimizer: dict[str, Any],
        loss: dict[str, Any],
        monitor: str,
        dtype: str,
        stamp: dict[str, Any],
        n_structures: int,
        subsets: dict[str, dict[str, list[int]]],
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.stamp = stamp
        self.optimizer_config = optimizer
        with default_dtype(parse_dtype(dtype)):
            self.model: nn.Module = build_part("model", model)
        self.loss = self.build_loss(loss)
        self.loss_sums = nn.ModuleDict({subset: LossSums(self.num_terms) for subset in EVALUATED})
        self.subsets = subsets
        self.error_sums = nn.ModuleDict(
            {subset: StructureSums(n_structures, len(self.quantities)) for subset in EVALUATED}
        )
        self.partwise = PartwiseLoss(self.compute_terms)
        self._batch: Any = None
        self.measured: dict[str, Tensor] = {}
        self.total_steps = math.inf
        self.clock: ProcessorClock | None = None
        self.schedule: Schedule | None = None
        self._schedule_state: dict[str, Any] | None = None

    @classmethod
    def learn(
        cls, config: Mapping[str, Any], structures: Sequence[LabelledStructure]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arguments that the training structures decide, and their part of the metadata.

        Args:
            config: of the task.
            structures: the training subset.
        """
        return {}, {}

    def record(self, subset: str, quantity: str, graph: Any, values: Tensor) -> None:
        """Add what was found on a batch to one quantity of its structures.

        Args:
            subset: "val", "test", or "further" for test structures in other subsets only.
            quantity: one of ``quantities``.
            graph: the batch.
            values: (3, n_graphs), Σ|x|, Σx² and number of x.
        """
        sums = cast(StructureSums, self.error_sums["val" if subset == "val" else "test"])
        sums.update(self.quantities.index(quantity), graph[fields.STRUCTURE], values)

    def seen(self, subset: str) -> list[int]:
        """Return the numbers of the structures of the latest pass over a subset."""
        return self.measured[subset][2].sum(1).nonzero().flatten().tolist()

    def count(self, subset: str, structure: int) -> float:
        """Return how many values the main metric has of a structure of the latest pass."""
        return float(self.measured[subset][2, structure, self.quantities.index(self.main_quantity)])

    def measure(self, subset: str, structures: Sequence[int]) -> dict[str, float]:
        """Return the metrics of some of the structures of the latest pass over a subset.

        Args:
            subset: "val" or "test".
            structures: numbers.
        """
        sums = self.measured[subset][:, list(structures)].sum(1)
        found = self.collect_metrics(dict(zip(self.quantities, sums.T, strict=True)))
        return {name: float(value) for name, value in found.items()}

    @property
    def num_terms(self) -> int:
        """Number of terms of the loss."""
        return int(self.loss.num_terms)

    @property
    def progress(self) -> float:
        """Part of the steps, or of the processor time, of the whole training that is done.

        Raises:
            ConfigError: the length of the training is not fixed.
        """
        if self.clock is not None:
            return self.clock.fraction
        if math.isinf(self.total_steps) or self.total_steps <= 0:
            raise ConfigError(
                message(
                    "task.loss",
                    f"a term that sets in within a training of {self.total_steps} steps",
                    "a fixed length",
                    "Set trainer.max_epochs or max_steps.",
                )
            )
        return self.global_step / self.total_steps

    @abstractmethod
    def build_loss(self, config: dict[str, Any]) -> Any:
        """Return the loss of this task."""

    @abstractmethod
    def compute_terms(self, graph: Any, subset: str | None = None) -> dict[str, Term]:
        """Return the loss terms of a batch; those of a named subset enter the metrics."""

    @abstractmethod
    def collect_metrics(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics of sums: quantity → (3,), Σ|x|, Σx² and number of x."""

    def compare_structures(self, graphs: Mapping[str, Any]) -> dict[str, float]:
        """Return metrics of several structures together; none by default.

        Args:
            graphs: name → graph of every structure that was tested.
        """
        return {}

    def training_step(self, graph: Any, batch_index: int) -> Tensor:
        """Return the loss of a batch, a mean over the global batch."""
        loss = self.partwise(graph, self._trained())
        self._batch = graph
        self.log(
            "train/loss",
            loss.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=graph.num_graphs,
            sync_dist=True,
        )
        return loss + self._touch_all() if self.trainer.world_size > 1 else loss

    def _touch_all(self) -> Tensor:
        """Return zero, as a sum over all parameters.

        A network may have parts that a structure does not use, such as that for interlayer edges
        in a single layer. DistributedDataParallel waits for the gradient of every parameter.
        """
        return 0.0 * torch.stack([parameter.sum() for parameter in self._trained()]).sum()

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient, in parts of the batch where memory does not hold it at once."""
        try:
            loss.backward(*args, **kwargs)
            return
        except Exception as error:
            alone = self.trainer.world_size == 1 and self.trainer.accumulate_grad_batches == 1
            if not (alone and is_out_of_memory(error) and self.partwise.can_divide(self._batch)):
                raise
        loss.detach_()  # lets go of everything that was kept for its gradient
        self.partwise.divide()
        self.zero_grad()
        self.partwise(self._batch, self._trained()).backward()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance a schedule that counts steps, to where the clock is if there is one."""
        if self.schedule is not None and self.schedule.interval == "step":
            if self.clock is not None:
                self.schedule.scheduler.last_epoch = round(self.clock.fraction * TICKS) - 1
            self.schedule.scheduler.step()

    def on_train_epoch_end(self) -> None:
        """Advance a schedule that counts epochs.

        It happens here so that an epoch's checkpoint contains it.
        """
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)
        if self.schedule is not None and self.schedule.interval == "epoch":
            self.schedule.scheduler.step()
        if (
            self.schedule is not None
            and self.schedule.interval == "metric"
            and self.monitor in self.trainer.callback_metrics
        ):
            self.schedule.scheduler.step(float(self.trainer.callback_metrics[self.monitor]))

    def validation_step(self, graph: Any, batch_index: int) -> None:
        """Add a batch to the validation metrics."""
        cast(LossSums, self.loss_sums["val"]).update(self.compute_terms(graph, "val"))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_subset("val")

    def test_step(self, graph: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Add a batch to the test metrics; only the first loader's structures enter the loss."""
        if dataloader_idx > 0:
            self.compute_terms(graph, "further")
        else:
            cast(LossSums, self.loss_sums["test"]).update(self.compute_terms(graph, "test"))

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_subset("test")

    def _log_subset(self, subset: str) -> None:
        losses = cast(LossSums, self.loss_sums[subset])
        errors = cast(StructureSums, self.error_sums[subset])
        self.measured[subset] = errors.compute().clone()
        named = {f"{subset}/loss": float(losses.compute())}
        for name, structures in self.subsets[subset].items():
            prefix = subset if name == subset else f"{subset}/{name}"
            found = self.measure(subset, structures)
            named |= {f"{prefix}/{metric}": value for metric, value in found.items()}
        losses.reset()
        errors.reset()
        if subset == "val" and self.monitor not in named:
            raise ConfigError(
                message(
                    "task.monitor",
                    repr(self.monitor),
                    "a validation metric",
                    suggest(self.monitor, named),
                )
            )
        self.log_dict(named, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Build optimizer and schedule.

        The schedule is advanced and stored here, see ``on_train_epoch_end``.
        """
        optimizer = build_part("optimizer.optimizer", self.optimizer_config["optimizer"])(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        )
        self.clock = find_clock(self.trainer.callbacks)  # type: ignore[attr-defined]
        self.total_steps = self.trainer.estimated_stepping_batches if self.clock is None else TICKS
        self.schedule = build_part("optimizer.schedule", self.optimizer_config["schedule"])(
            optimizer, self.total_steps
        )
        if self._schedule_state is not None:
            self.schedule.scheduler.load_state_dict(self._schedule_state)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network by itself, checksums, and the state of the schedule."""
        checkpoint["mlepi"] = self.stamp
        checkpoint[CHECKSUMS] = compute_checksums(self.stamp, checkpoint["state_dict"])
        if self.schedule is not None:
            checkpoint["schedule"] = self.schedule.scheduler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the schedule until the schedule exists.

        Refuse to continue with averaged weights.
        """
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        averages = any(isinstance(callback, EMA) for callback in callbacks)
        if (
            self.trainer.state.fn == TrainerFn.FITTING
            and TRAINING_WEIGHTS in checkpoint
            and not averages
        ):
            raise ConfigError(
                message(
                    "ckpt_path",
                    "a checkpoint of a training with EMA",
                    "one without",
                    "Resume with callbacks=default.",
                )
            )
        self._schedule_state = checkpoint.get("schedule")

    @abstractmethod
    def parity_data(self, graph: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return "quantity (unit)" → label and prediction of one batch, both (n,)."""
