"""The plan of a study with the hours that it takes: measured where a round is done, else estimated.

What is not known is a question mark, never a guess without a source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlepi.design import Cost
from mlepi.study.rounds import Memory
from mlepi.study.settings import StudySettings
from mlepi.study.steps import read_record, sum_seconds

HOUR = 3600.0


@dataclass(frozen=True)
class Rates:
    """What the steps take, where no round has measured it.

    Attributes:
        cost: of a label; None where it is not known.
        n_atoms: of a structure to label, at most.
        training: kind of networks → s per atom and epoch.
        epochs: kind of networks → of the first training, and of those that start from another.
        sample: s per atom of a displaced supercell, with one network of each kind.
        n_atoms_sample: of a displaced supercell.
    """

    cost: Cost | None
    n_atoms: int
    training: Mapping[str, float]
    epochs: Mapping[str, tuple[int, int]]
    sample: float
    n_atoms_sample: int


@dataclass(frozen=True)
class Row:
    """One line of a plan.

    Attributes:
        what: is done.
        hours: that it takes; NaN where that is not known.
        source: how that is known.
    """

    what: str
    hours: float
    source: str


def plan_study(
    settings: StudySettings, rates: Rates, memory: Memory | None, max_labels: int
) -> list[Row]:
    """Return what a study does next, and how long it takes.

    Args:
        settings: of the study.
        rates: where nothing was measured.
        memory: of the study so far; None where it is new.
        max_labels: that may be made.

    Returns:
        What is done, the next round step by step, one round more, and all rounds to ``max_labels``.
    """
    rounds = [] if memory is None else list(memory.rounds)
    rows = []
    n_labels = 0
    if rounds:
        n_labels = rounds[-1].n_labels
        spent = sum_seconds(settings.folder) / HOUR
        rows.append(Row(f"{len(rounds)} rounds, {n_labels} labels: done", spent, "measured"))
    number = len(rounds)
    following = _plan_round(settings, rates, number, n_labels)
    rows += following
    left = max(0, max_labels - n_labels - _count_new(settings, number))
    n_rounds = math.ceil(left / settings.n_more)
    total = sum(row.hours for row in rows)
    for k in range(n_rounds):
        have = n_labels + _count_new(settings, number) + k * settings.n_more
        total += sum(row.hours for row in _plan_round(settings, rates, number + 1 + k, have))
    rows.append(
        Row(f"all, at most {max_labels} labels in {number + 1 + n_rounds} rounds", total, "sum")
    )
    return rows


def describe_plan(rows: Sequence[Row], hours: float | None) -> list[str]:
    """Return the lines of a plan.

    Args:
        rows: of the plan.
        hours: that may be spent.
    """
    width = max(len(row.what) for row in rows)
    lines = [
        f"{row.what:<{width}}  {'?' if math.isnan(row.hours) else f'{row.hours:.2g}':>7} h  "
        f"{row.source}"
        for row in rows
    ]
    bound = "no bound on the hours" if hours is None else f"stops after {hours:g} h"
    return [*lines, f"{bound}; sooner where the error is small enough"]


def _count_new(settings: StudySettings, number: int) -> int:
    return settings.n_more if number else settings.n_first


def _plan_round(settings: StudySettings, rates: Rates, number: int, n_before: int) -> list[Row]:
    """Return the steps of a round."""
    n_new = _count_new(settings, number)
    n_labels = n_before + n_new
    last = settings.round_folder(number - 1) if number else None
    grown = n_labels / n_before if n_before else 1.0
    done = last is not None and read_record(last, "infer").done

    def measured(name: str, factor: float) -> Row | None:
        if last is None or not done:
            return None
        seconds = read_record(last, name).seconds
        label = f"round {number}: {name.replace('_', ' ')}"
        return Row(label, seconds * factor / HOUR, f"measured in round {number - 1}")

    rows = []
    label_hours, source = math.nan, "set estimate=[ATOMS,HOURS]"
    if rates.cost is not None:
        label_hours = n_new * rates.cost.estimate(rates.n_atoms)
        source = f"{n_new} structures of at most {rates.n_atoms} atoms, {rates.cost.source}"
    n_earlier = _count_new(settings, max(0, number - 1))
    rows.append(
        measured("label", n_new / n_earlier)
        or Row(f"round {number}: label {n_new} structures", label_hours, source)
    )
    for kind in settings.trained:
        found = [measured(f"train_{kind}_{m}", grown) for m in range(1, settings.members + 1)]
        epochs = rates.epochs[kind][1 if number else 0]
        seconds = rates.training[kind] * epochs * rates.n_atoms * settings.fractions[0] * n_labels
        told = f"{epochs} epochs, {rates.training[kind]:g} s per atom and epoch, at most"
        for member, row in enumerate(found, start=1):
            what = f"round {number}: train {kind} {member}"
            rows.append(row or Row(what, seconds / HOUR, told))
    n_members = 1 + sum(settings.members for _ in settings.trained)
    n_solved = len(settings.temperatures) * (
        settings.n_samples + (n_members - 1) * settings.n_compared
    )
    seconds = n_solved * rates.sample * rates.n_atoms_sample
    told = f"{n_solved} samples of {rates.n_atoms_sample} atoms, {rates.sample:g} s per atom"
    rows.append(measured("infer", 1.0) or Row(f"round {number}: infer", seconds / HOUR, told))
    return rows
