"""Training: LightningModules, data, losses, metrics, schedules and callbacks."""

from mlepi.training.callbacks import EpochLines, ProcessorClock, RandomState, TimeLimit
from mlepi.training.data_modules import ForcesDataModule, HamiltonianDataModule
from mlepi.training.electron_task import ElectronTask
from mlepi.training.ema import EMA
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.phonon_task import PhononTask
from mlepi.training.schedules import (
    constant,
    halve_every,
    reduce_on_plateau,
    revert_then_decay,
    warmup_cosine,
)
from mlepi.training.soap import SOAP
from mlepi.training.task import Task

__all__ = [
    "EMA",
    "SOAP",
    "ElectronTask",
    "EpochLines",
    "ForcesDataModule",
    "GraphDataModule",
    "HamiltonianDataModule",
    "PhononTask",
    "ProcessorClock",
    "RandomState",
    "Task",
    "TimeLimit",
    "constant",
    "halve_every",
    "reduce_on_plateau",
    "revert_then_decay",
    "warmup_cosine",
]
