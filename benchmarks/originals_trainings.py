"""How ``originals.py`` starts trainings, follows them and reads what they leave.

Every training is a process that appends to a curve; what it prints goes to ``output.log`` in its
folder. The same call takes it up again where it was stopped. What it returns is a *side* of a
comparison: "name", "parameters", "test_error" and "curve".
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from workers.client import BENCHMARKS, worker_environment
from workers.curves import Point, read_curve

from mlepi.command_line.composition import compose_config
from mlepi.errors import MlepiError, message
from mlepi.project_files import CONFIG_FOLDER
from mlepi.structures.splits import NamedSubsets, write_split

ROOT = BENCHMARKS.parent
LOG = "output.log"
QUICK, QUICK_EPOCHS = {"train": 4, "val": 2, "test": 2}, 2
"""Structures of each subset of a trial, and its length."""
POLL = 2.0
"""Seconds between two looks at a curve."""


class TrainingError(MlepiError):
    """A training of an original or of ours failed; the text ends with its last words."""


@dataclass(frozen=True)
class Kind:
    """What is learned.

    Attributes:
        name: in folders and on the screen.
        experiment: whose data, batches and number of epochs all sides take.
        model: of ours.
        metric: by which sides are compared, the validation with "val/" in front.
        unit: of it.
    """

    name: str
    experiment: str
    model: str
    metric: str
    unit: str


FORCES = Kind("forces", "paper_table1", "mace", "forces_mae_mev_per_angstrom", "meV/Å")
BLOCKS = Kind("hamiltonians", "paper_table2", "deeph_e3", "hamiltonian_gauge_free_mae_mev", "meV")


@dataclass(frozen=True)
class Plan:
    """What is the same for all trainings.

    Attributes:
        folder: of all of them.
        size: as in conf/size.
        seed: of all of them.
        epochs: None for those of the tables of the paper.
        hours: of the processor, after which an original of Hamiltonians ends; None for no limit.
        quick: a trial: two epochs of few structures.
    """

    folder: Path
    size: str = "small"
    seed: int = 1
    epochs: int | None = None
    hours: float | None = None
    quick: bool = False

    @property
    def seconds(self) -> float | None:
        """The limit in seconds."""
        return None if self.hours is None else 3600.0 * self.hours

    def training_folder(self, name: str, epochs: int) -> Path:
        """Return the folder of a training, named by all that decides what comes of it."""
        trial = "_quick" if self.quick else ""
        folder = f"{name}_{self.size}_{epochs}epochs_seed{self.seed}{trial}"
        return self.folder.resolve() / folder

    def arguments(self, kind: Kind, epochs: int | None = None) -> list[str]:
        """Return the overrides of ``train.py``; epochs of the plan, or the table, where None."""
        given = [f"experiment={kind.experiment}", f"model={kind.model}", f"size={self.size}"]
        given += [f"seed={self.seed}"]
        epochs = epochs or (QUICK_EPOCHS if self.quick else self.epochs)
        given += [] if epochs is None else [f"optimizer.max_epochs={epochs}"]
        if self.quick:
            full = ROOT / compose_config(CONFIG_FOLDER, "train", given).data.split
            given += [f"data.split={self._write_quick_split(full)}"]
        return given

    def compose(self, kind: Kind) -> DictConfig:
        """Return the configuration of our training."""
        return compose_config(CONFIG_FOLDER, "train", self.arguments(kind))

    def _write_quick_split(self, full: Path) -> Path:
        """Write a split with the first structures of another one, the rest unused."""
        content = json.loads(full.read_text(encoding="utf-8"))
        split = {name: content["split"][name][:count] for name, count in QUICK.items()}
        everything = [*content["split"].values(), *content.get("test_subsets", {}).values()]
        names = {name for members in [*everything, content.get("unused", [])] for name in members}
        unused = names - {name for members in split.values() for name in members}
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder.resolve() / f"quick_{full.name}"
        write_split(file, split, {"first of": full.name}, NamedSubsets(unused=sorted(unused)))
        return file


def follow_training(
    name: str, line: Sequence[str], folder: Path, unit: str, poll: float = POLL
) -> list[Point]:
    """Run a training, with a line on the screen for every epoch, and return its curve.

    Args:
        name: on the screen.
        line: interpreter and its arguments.
        folder: of the training.
        unit: of its error.
        poll: seconds between two looks.

    Raises:
        TrainingError: it failed, or left no curve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{name}: output in {folder / LOG}", flush=True)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            line, cwd=ROOT, env=worker_environment(1), stdout=log, stderr=log
        )
        try:
            shown = 0
            while process.poll() is None:
                time.sleep(poll)
                shown = _show(name, read_curve(folder), shown, unit)
        finally:  # also where this process is told to end
            process.terminate()
            process.wait()
    curve = read_curve(folder)
    _show(name, curve, shown, unit)
    if process.returncode or not curve:
        last = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        got = f"exit status {process.returncode}, {last[-1] if last else 'no word'}"
        raise TrainingError(message(name, got, "a training", f"See {folder / LOG}."))
    return curve


def _show(name: str, curve: Sequence[Point], shown: int, unit: str) -> int:
    """Print the epochs that were not shown yet, and return the last that was."""
    for epoch, error, seconds in curve:
        if epoch > shown:
            print(f"{name}: epoch {epoch}, {error:.4g} {unit}, {seconds:.0f} s", flush=True)
    return max([shown, *(point.epoch for point in curve)])


def curve_callback(kind: Kind, limit: float | None = None) -> list[str]:
    """Return the overrides by which a training of ours writes its curve.

    Args:
        kind: whose metric it is.
        limit: processor seconds; None for no limit.
    """
    begin = "+callbacks.curve"
    given = [f"{begin}._target_=workers.epoch_curve.EpochCurve"]
    given += [f"{begin}.metric=val/{kind.metric}"]
    return [*given, f"{begin}.limit={'null' if limit is None else limit}"]


def train_ours(plan: Plan, kind: Kind, epochs: int) -> dict[str, Any]:
    """Train a network of ours as a user does.

    Args:
        plan: of all trainings.
        kind: what is learned.
        epochs: of the original.
    """
    folder = plan.training_folder(f"ours_{kind.name}", epochs)
    overrides = [*plan.arguments(kind, epochs), *curve_callback(kind)]
    line = [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.sweep.dir={folder}"]
    follow_training(f"ours, {kind.name}", line, folder, kind.unit)
    return read_side(folder, kind)


def read_side(folder: Path, kind: Kind) -> dict[str, Any]:
    """Return what a training of ours, or a sweep of one, left in a folder."""
    (file,) = folder.rglob("test_metrics.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    found = {"name": table["name"], "parameters": table["parameters"]}
    return found | {"test_error": table["metrics"][kind.metric], "curve": read_curve(folder)}
