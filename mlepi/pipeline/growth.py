"""How large an ensemble becomes: as many samples as the error bar of an observable asks for.

Every temperature has its own number. After a pilot, and after every block, the stage that knows the
observable makes its record; ``mlepi.physics.averages.sequential`` says which temperatures have
enough. Sizes follow from results alone, never from a clock: a run that was interrupted, and one on
other engines, stops at the same samples. What a sample costs is measured to tell how long it takes,
and to choose once, after the pilot, whether a cheap companion takes noise off
(``mlepi.pipeline.companion``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.physics.averages.block_averages import MAX_BLOCKS
from mlepi.physics.averages.sequential import (
    GROWTH,
    MIN_GROUPS,
    MIN_POINTS,
    MIN_REPLICATES,
    Evidence,
    find_skewness,
)
from mlepi.pipeline.companion import Choice, Companion, RunNested, Sizes, find_companion
from mlepi.pipeline.companion_stage import CompanionStage
from mlepi.pipeline.precision import Precision, write_counts
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import StageLine, write_time
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.pipeline.samples import Counts, Pass
from mlepi.pipeline.stages.sampling.stage import SamplingStage


@dataclass(frozen=True)
class Grown:
    """How many samples there are in the end.

    Attributes:
        counts: at every temperature.
        judge: stage whose error bar decided; empty where all samples were taken.
        precision: what was asked for and reached.
        short: stage → doubt where its error bar is larger than asked for.
        corrected_by: stage that takes noise off the target; empty for none.
    """

    counts: Counts
    judge: str = ""
    precision: Precision | None = None
    short: Mapping[str, Doubt] = field(default_factory=dict)
    corrected_by: str = ""


class Look(NamedTuple):
    """What a record says of the target at one temperature.

    Attributes:
        value: of the observable; NaN where its stage does not tell it.
        error: half the 68 % interval.
        allowed: the one that was asked for, in the same unit.
        reached: whether it is small enough.
        growth: factor by which the samples should become more, at least 1.
        least: samples before which nothing is decided, by this look or an earlier one.
        needed: factor by which the samples should become more for their variance alone.
    """

    value: float
    error: float
    allowed: float
    reached: bool
    growth: float
    least: float = 1.0
    needed: float = 1.0


def grow_ensemble(
    together: Pass, processes: Processes, line: StageLine, run_nested: RunNested
) -> Grown:
    """Evaluate samples until the error bar asked for is reached, or all of them.

    Args:
        together: the stages that look at samples, and their ensemble.
        processes: the group that shares the samples.
        line: where progress goes.
        run_nested: runs stages of a cheap companion.
    """
    sampling, ensemble = _sampling(together.run), together.ensemble
    largest = ensemble.n_samples
    judge = next((s for s in together.stages if sampling.target in s.targets), None)
    if not sampling.stopping() or judge is None:
        every = ensemble.counts if min(ensemble.counts) < largest else largest
        together.evaluate(every, processes, line)
        return Grown(every)
    counts = (processes.on_first(partial(_pilot_size, together)),) * len(ensemble.temperatures)
    stopped, least = (False,) * len(counts), (1.0,) * len(counts)
    n_new, seconds = 0, 0.0
    companion = find_companion(together, judge, run_nested, processes)
    while True:
        begin = time.monotonic()
        n_new += together.evaluate(counts, processes, line)
        seconds += time.monotonic() - begin
        looks = processes.on_first(partial(_look, together, judge, counts, least))
        least = tuple(look.least for look in looks)
        stopped = tuple(s or look.reached for s, look in zip(stopped, looks, strict=True))
        precision = _sum_up(together.run, counts, looks, stopped)
        if companion is not None and not all(stopped):
            line.tell(f"{counts[0]} samples: {_worst(precision, looks)}")
            plain = [counts[0] * look.needed for look in looks]
            choice = companion.choose(counts[0], plain, line)
            if choice is not None and choice.n_cheap:
                return _grow_corrected(companion, choice, processes, line)
        companion = None  # once, after the pilot
        following = next_counts(together, judge, counts, looks, stopped)
        line.tell(
            _describe(precision, looks, following, largest, seconds / n_new if n_new else 0.0)
        )
        if following == counts:
            return Grown(counts, judge.name, precision, _find_short(judge, precision, largest))
        counts = following


def _grow_corrected(
    companion: Companion, choice: Choice, processes: Processes, line: StageLine
) -> Grown:
    """Go on with a companion until all error bars are small enough, or all samples are taken."""
    together, judge, run = companion.together, companion.judge, companion.run
    ensemble, largest = together.ensemble, together.ensemble.n_samples
    sizes = Sizes(choice.counts, choice.n_cheap)
    stopped, least = (False,) * len(sizes.counts), (1.0,) * len(sizes.counts)
    while True:
        together.evaluate(sizes.counts, processes, line)
        line.tell(companion.announce(sizes, choice.seconds))
        (alone, looks, correlations), _ = companion.correct(
            sizes, partial(_look_twice, companion, sizes.counts, least)
        )
        least = tuple(look.least for look in looks)
        stopped = tuple(s or look.reached for s, look in zip(stopped, looks, strict=True))
        name, n_cheap = companion.stage.name, sizes.n_cheap
        precision = _sum_up(run, sizes.counts, looks, stopped, name, n_cheap)
        taken = f"{write_counts(sizes.counts)} samples and {n_cheap} cheap ones"
        line.tell(f"{taken}: {_worst(precision, looks)}")
        following = sizes
        if not all(stopped):
            plain = [n * look.needed for n, look in zip(sizes.counts, alone, strict=True)]
            needed = [look.needed for look in looks]
            planned = companion.plan(sizes, plain, correlations, choice.seconds, needed) or sizes
            factors = [
                1.0 if done else max(most, demanded) / n
                for n, most, demanded, done in zip(
                    sizes.counts, planned.counts, least, stopped, strict=True
                )
            ]
            counts = tuple(
                n if factor <= 1.0 else next_size(n, factor, largest, ensemble.sampler.whole)
                for n, factor in zip(sizes.counts, factors, strict=True)
            )
            following = Sizes(counts, planned.n_cheap)
        if following == sizes:
            short = _find_short(judge, precision, largest)
            return Grown(sizes.counts, judge.name, precision, short, name)
        sizes = following


def next_counts(
    together: Pass,
    judge: SampledStage[Any],
    counts: tuple[int, ...],
    looks: Sequence[Look],
    stopped: Sequence[bool],
) -> tuple[int, ...]:
    """Return the samples of every temperature at the next look.

    Args:
        together: the stages, and their ensemble.
        judge: the stage whose error bar decides; one that cannot average over different numbers of
            samples keeps all temperatures going until the last has enough.
        counts: (n_temperatures,), samples so far.
        looks: at every temperature.
        stopped: whether each has enough.
    """
    sampler, largest = together.ensemble.sampler, together.ensemble.n_samples
    sizes = tuple(
        n if done else next_size(n, look.growth, largest, sampler.whole)
        for n, look, done in zip(counts, looks, stopped, strict=True)
    )
    return sizes if judge.uneven else (max(sizes),) * len(sizes)


def next_size(
    n_samples: int, growth: float, largest: int, whole: Callable[[int], int] = int
) -> int:
    """Return the size to which an ensemble grows.

    Args:
        n_samples: of the ensemble so far.
        growth: factor that is asked for; ``GROWTH`` is taken at most.
        largest: size that must not be exceeded.
        whole: rounds up to whole groups.
    """
    wanted = math.ceil(n_samples * min(growth, GROWTH))
    return min(largest, whole(max(n_samples + 1, wanted)))


def check_target(run: Run, names: Sequence[str]) -> None:
    """Refuse a target that no stage of this run can judge.

    Raises:
        ConfigError: there is none, it has no value to be relative to, or there are too few
            replicates for an error bar to stop at.
    """
    if "sampling" not in run.stages or not _sampling(run).stopping():
        return
    target, relative = _sampling(run).target, _sampling(run).relative_error is not None
    sampled = [s for s in (run.stages[name] for name in names) if isinstance(s, SampledStage)]
    judge = next((stage for stage in sampled if target in stage.targets), None)
    if sampled and judge is None:
        all_stages = [s for s in run.stages.values() if isinstance(s, SampledStage)]
        known = sorted({each for stage in all_stages for each in stage.targets})
        raise ConfigError(
            message(
                "stage.sampling.target",
                repr(target),
                f"an observable of a stage of this run, among {known}",
                "Choose one of them, or add its stage.",
            )
        )
    if judge is not None and relative and type(judge).target_values is SampledStage.target_values:
        raise ConfigError(
            message(
                "relative_error",
                f"{target} of a stage that does not tell its value",
                "an observable with target_values",
                "Use target_error, in the unit of the observable.",
            )
        )
    replicates = run.settings.sampler.fixed_groups
    if judge is not None and replicates is not None and replicates < MIN_REPLICATES:
        raise ConfigError(
            message(
                "sampler.n_replicates",
                f"{replicates} with an error to stop at",
                f"at least {MIN_REPLICATES}, for an error bar that is known well enough",
                f"Use {MIN_REPLICATES}.",
            )
        )


def _pilot_size(together: Pass) -> int:
    """Return the samples before which nothing is decided."""
    ensemble = together.ensemble
    sampler, largest = ensemble.sampler, ensemble.n_samples
    if sampler.fixed_groups is not None:
        return min(largest, sampler.whole(sampler.fixed_groups * MIN_POINTS))
    n_samples = min(largest, sampler.whole(MIN_GROUPS))
    while n_samples < largest:
        n_groups = ensemble.first(n_samples).design.n_groups
        if n_groups >= MIN_GROUPS:
            break
        n_samples = min(largest, sampler.whole(math.ceil(n_samples * MIN_GROUPS / n_groups)))
    return n_samples


def _look(
    together: Pass,
    judge: SampledStage[Any],
    counts: tuple[int, ...],
    least: tuple[float, ...],
    told: tuple[SampledStage[Any] | CompanionStage, Any] | None = None,
) -> list[Look]:
    """Compare the error bars of a record with the target.

    Args:
        together: the pass over the samples.
        judge: the stage of it that the target belongs to.
        counts: samples so far.
        least: samples of every temperature that earlier looks have asked for.
        told: a stage and its record, whose error bars count; None: those of the judge.
    """
    sampling, summary = _sampling(together.run), together.find_ghosts(judge, counts)
    kept, target = together.kept(judge, counts, summary), str(sampling.target)
    teller, record = told or (judge, together.finish(judge, counts, summary))
    errors = np.asarray(teller.error_bars(record)[target], dtype=np.float64)
    values = np.asarray(teller.target_values(record).get(target, np.full_like(errors, np.nan)))
    parts = teller.contributions(record).get(target)
    fixed = kept.sampler.fixed_groups is not None
    looks = []
    for column, n_samples in enumerate(kept.counts):
        n_groups = len(np.unique(kept.design.groups[:n_samples]))
        n_blocks = min(n_groups, MAX_BLOCKS)
        evidence = Evidence(
            error=float(errors[column]) if np.isfinite(errors[column]) else math.inf,
            n_groups=n_blocks,
            skewness=math.nan if parts is None else find_skewness(parts[:, column], n_blocks),
            group_size=n_samples / n_groups if fixed else 0.0,
            demanded=max(1.0, least[column] / counts[column]),
        )
        value = float(values[column])
        wanted = sampling.target_error
        allowed = float(sampling.relative_error or 0.0) * abs(value) if wanted is None else wanted
        looks.append(
            Look(
                value=value,
                error=evidence.error,
                allowed=allowed,
                reached=evidence.reaches(allowed),
                growth=evidence.growth(allowed),
                least=counts[column] * evidence.lacking,
                needed=evidence.needed(allowed),
            )
        )
    return looks


def _look_twice(
    companion: Companion,
    counts: tuple[int, ...],
    least: tuple[float, ...],
    corrected: Any,
    plain: Any,
) -> tuple[list[Look], list[Look], tuple[float, ...]]:
    """Look at a record, and at that of its companion; return both, and what they share as ρ."""
    together, judge, stage = companion.together, companion.judge, companion.stage
    alone = _look(together, judge, counts, least, (judge, plain))
    looks = _look(together, judge, counts, least, (stage, corrected))
    return alone, looks, companion.correlations(corrected)


def _sum_up(
    run: Run,
    counts: tuple[int, ...],
    looks: Sequence[Look],
    stopped: tuple[bool, ...],
    corrected_by: str = "",
    n_cheap: int = 0,
) -> Precision:
    sampling = _sampling(run)
    relative = sampling.target_error is None
    wanted = sampling.relative_error if relative else sampling.target_error
    told = all(math.isfinite(look.value) for look in looks)
    return Precision(
        target=str(sampling.target),
        wanted=float(wanted or 0.0),
        relative=relative,
        temperatures=run.settings.temperatures,
        errors=tuple(look.error for look in looks),
        values=tuple(look.value for look in looks) if told or relative else (),
        n_samples=counts,
        reached=stopped,
        corrected_by=corrected_by,
        n_cheap=n_cheap,
    )


def _describe(
    precision: Precision,
    looks: Sequence[Look],
    following: tuple[int, ...],
    largest: int,
    seconds: float,
) -> str:
    """Say how far the error bars are, and what is still to come.

    Args:
        precision: so far.
        looks: at every temperature.
        following: samples at the next look.
        largest: number of samples that is allowed.
        seconds: that one sample takes; 0 where none was evaluated yet.
    """
    counts = precision.n_samples
    text = f"{write_counts(counts)} samples: {_worst(precision, looks)}"
    if following == counts:
        return text
    wanted = [
        n if done or not math.isfinite(look.growth) else math.ceil(n * look.growth)
        for n, look, done in zip(counts, looks, precision.reached, strict=True)
    ]
    more = sum(max(0, min(n, largest) - have) for n, have in zip(wanted, counts, strict=True))
    more = max(more, sum(following) - sum(counts))
    expected = f"about {more} more samples expected"
    expected += f", {write_time(more * seconds)} at {write_time(seconds)} each" if seconds else ""
    if max(wanted) > largest:
        expected += f"; more than n_samples={largest} allows, {max(wanted)} would be needed"
    return f"{text}, going on to {write_counts(following)}; {expected}"


def _worst(precision: Precision, looks: Sequence[Look]) -> str:
    """Name the temperature that is furthest from its target, and say how many have enough."""
    ratios = [look.error / look.allowed if look.allowed > 0.0 else 0.0 for look in looks]
    if not all(precision.reached):
        ratios = [
            -1.0 if done else ratio for ratio, done in zip(ratios, precision.reached, strict=True)
        ]
    place = int(np.argmax(ratios))
    return (
        f"error bar of {precision.target} {precision.write(looks[place].error, place)} at "
        f"{precision.temperatures[place]:g} K (target {precision.asked}), enough at "
        f"{sum(precision.reached)} of {len(looks)} temperatures"
    )


def _find_short(judge: SampledStage[Any], precision: Precision, largest: int) -> dict[str, Doubt]:
    """Return a doubt where a temperature has no more samples and has not reached its error."""
    places = [n for n, reached in enumerate(precision.reached) if not reached]
    if not places:
        return {}
    errors = ", ".join(
        f"{precision.write(precision.errors[n], n)} at {precision.temperatures[n]:g} K"
        for n in places
    )
    seen = (
        f"{largest} samples: error bar of {precision.target} {errors} is not safely below the "
        f"target {precision.asked}, and no more than n_samples={largest} allowed."
    )
    remedy = "Raise n_samples; those that are done are not repeated."
    return {judge.name: Doubt(seen, remedy=remedy, severity="note")}


def _sampling(run: Run) -> SamplingStage:
    return cast(SamplingStage, run.stages["sampling"])
