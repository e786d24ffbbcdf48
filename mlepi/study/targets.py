"""The target of a study in a finished run: its value, its error budget, what each network says.

Nothing here knows an observable: stages name their targets, their values, their error bars and what
single samples contribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.committee.stage import FOLDER, KINDS
from mlepi.physics.averages.error_budget import NETWORK, ErrorBudget
from mlepi.pipeline import Run
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.report.error_budgets import collect_budgets
from mlepi.report.run_records import list_error_parts, read_records
from mlepi.results import ResultsStore

MANY = 1e9
"""Degrees of freedom of an error bar that is the half of a 68 % interval already."""


@dataclass(frozen=True)
class Look:
    """What a run says of one target.

    Attributes:
        target: its name.
        stage: that knows it.
        temperatures: (n_temperatures,), K.
        budget: of the target, (n_temperatures,).
        values: kind of networks → (n_members, n_temperatures), the target by each, on the samples
            that all were tried on.
        contributions: kind of networks → (n_members, n_groups, n_temperatures), what single groups
            of these samples contribute; no groups where the stage does not tell.
    """

    target: str
    stage: str
    temperatures: NDArray[np.float64]
    budget: ErrorBudget
    values: Mapping[str, NDArray[np.float64]]
    contributions: Mapping[str, NDArray[np.float64]]

    @property
    def worst(self) -> int:
        """Which temperature has the largest error."""
        return int(np.argmax(np.nan_to_num(self.budget.total(), nan=-math.inf)))


def find_stage(target: str, stages: Stages) -> str:
    """Return the stage that knows a target.

    Args:
        target: observable.
        stages: all that there are.

    Raises:
        ConfigError: none does.
    """
    known = {
        name: stage
        for name, stage in stages.items()
        if issubclass(stage, SampledStage) and stage.targets
    }
    for name, stage in known.items():
        if target in stage.targets:
            return name
    every = sorted({each for stage in known.values() for each in stage.targets})
    raise ConfigError(message("target", repr(target), f"one of {every}", "Choose one of them."))


def choose_target(run: Run, targets: Sequence[str], stages: Stages) -> str:
    """Return the first target that means something in a run; else the last.

    One whose stage has serious doubts does not, such as the gap of a metal.

    Args:
        run: finished.
        targets: in order of preference.
        stages: all that there are.
    """
    for target in targets:
        stage = run.stages[find_stage(target, stages)]
        doubts = [Doubt.of(text) for text in stage.doubts(run.read(stage.name))]
        if not any(doubt.severity == "serious" for doubt in doubts):
            return target
    return targets[-1]


def look_at(run: Run, target: str, stages: Stages) -> Look:
    """Read what a finished run says of a target.

    Args:
        run: with the stage of the target, and ``committee``.
        target: observable.
        stages: all that there are.

    Raises:
        DataError: a record is missing.
    """
    name = find_stage(target, stages)
    stage: Any = run.stages[name]
    record, committee = run.read(name), run.read("committee")
    values: dict[str, NDArray[np.float64]] = {}
    contributions: dict[str, NDArray[np.float64]] = {}
    squares = np.zeros(len(run.settings.temperatures))
    for kind in KINDS:
        count = getattr(committee, f"n_{kind}_networks")
        if count < 2:
            continue
        members = read_members(run.store.folder, kind, count, name, stage.record)
        values[kind] = np.array([stage.target_values(one)[target] for one in members])
        told = [stage.contributions(one).get(target) for one in members]
        complete = all(one is not None for one in told)
        empty = np.empty((count, 0, values[kind].shape[1]))
        contributions[kind] = np.array(told, dtype=np.float64) if complete else empty
        factor = getattr(committee, f"{kind}_factor")
        squares += (factor * np.std(values[kind], axis=0, ddof=1)) ** 2
    own = ErrorBudget(
        np.asarray(stage.target_values(record)[target], dtype=np.float64),
        np.asarray(stage.error_bars(record)[target], dtype=np.float64),
        MANY,
        {NETWORK: np.sqrt(squares)},
    )
    records = read_records(run.store, stages)
    budgets = collect_budgets(records, list_error_parts(records, stages)).get(name, [])
    found = find_budget(own.values, [budget for _, budget in budgets])
    if found is not None:
        own = replace(found, systematic={**found.systematic, NETWORK: own.systematic[NETWORK]})
    temperatures = np.array(run.settings.temperatures)
    return Look(target, name, temperatures, own, values, contributions)


def read_members(folder: Path, kind: str, count: int, stage: str, record: type) -> list[Any]:
    """Return the record of a stage by every network of one kind.

    Args:
        folder: of the run.
        kind: "electron" or "phonon".
        count: networks.
        stage: its name.
        record: its class.
    """
    stores = (ResultsStore(folder / FOLDER / f"{kind}_{n}") for n in range(1, count + 1))
    return [store.read(stage, record) for store in stores]


def find_budget(values: NDArray[np.float64], budgets: Sequence[ErrorBudget]) -> ErrorBudget | None:
    """Return the budget of the quantity that has these values; None without one.

    Args:
        values: (n_temperatures,), of a target.
        budgets: of quantities (n_temperatures, …) of its stage.
    """
    for budget in budgets:
        shape = budget.values.shape
        for index in np.ndindex(shape[1:]):
            place = (slice(None), *index)
            if np.array_equal(budget.values[place], values):
                return ErrorBudget(
                    values,
                    budget.errors[place],
                    budget.degrees_of_freedom,
                    {part: sizes[place] for part, sizes in budget.systematic.items()},
                )
    return None
