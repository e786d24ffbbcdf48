"""How large an ensemble becomes: as many samples as the error bar of an observable asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.pipeline.samples import Pass
from mlepi.pipeline.stages.sampling.stage import SamplingStage

FIRST_SAMPLES = 16
"""Samples after which the error bar is looked at for the first time; that of fewer says little."""

GROWTH = 2.0
"""Factor by which an ensemble grows at most before its error bar is looked at again."""

SAFETY = 1.1
"""Factor on the number of samples that the error bar asks for, since it is uncertain itself."""


def grow_ensemble(
    together: Pass, processes: Processes, line: StageLine
) -> tuple[int, dict[str, Doubt]]:
    """Evaluate samples until the error bar asked for is reached, or all of them.

    Args:
        together: the stages that look at samples, and their ensemble.
        processes: the group that shares the samples.
        line: where progress goes.

    Returns:
        How many samples it took; and stage → doubt where its error bar is larger than asked for.
    """
    sampling, largest = _sampling(together.run), together.ensemble.n_samples
    judge = next((s for s in together.stages if sampling.target in s.targets), None)
    if sampling.target_error is None or judge is None:
        together.evaluate(largest, processes, line)
        return largest, {}
    n_samples = min(FIRST_SAMPLES, largest)
    while True:
        together.evaluate(n_samples, processes, line)
        error = processes.on_first(partial(_largest_error, together, judge, n_samples))
        text = (
            f"{n_samples} samples: error bar of {sampling.target} {error:.3g} "
            f"(target {sampling.target_error:.3g})"
        )
        if error <= sampling.target_error:
            line.tell(text)
            return n_samples, {}
        if n_samples == largest:
            seen = f"{text} and no more than n_samples={largest} allowed."
            remedy = "Raise n_samples; those that are done are not repeated."
            return n_samples, {judge.name: Doubt(seen, remedy=remedy, severity="note")}
        n_samples = next_size(n_samples, error, sampling.target_error, largest)
        line.tell(f"{text}, going on to {n_samples}")


def next_size(n_samples: int, error: float, target: float, largest: int) -> int:
    """Return the size to which an ensemble grows.

    Error bars fall as one over the square root of the number of samples.

    Args:
        n_samples: of the ensemble so far.
        error: its error bar.
        target: the one that is wanted, in the same unit.
        largest: size that must not be exceeded.
    """
    wanted = n_samples * (error / target) ** 2 * SAFETY
    return min(largest, max(n_samples + 1, math.ceil(min(wanted, GROWTH * n_samples))))


def check_target(run: Run, names: Sequence[str]) -> None:
    """Refuse a target that no stage of this run can judge.

    Raises:
        ConfigError: there is none.
    """
    if "sampling" not in run.stages or _sampling(run).target_error is None:
        return
    target = _sampling(run).target
    sampled = [s for s in (run.stages[name] for name in names) if isinstance(s, SampledStage)]
    if sampled and not any(target in stage.targets for stage in sampled):
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


def _largest_error(together: Pass, judge: SampledStage[Any], n_samples: int) -> float:
    record, target = together.finish(judge, n_samples), _sampling(together.run).target
    errors = np.asarray(judge.error_bars(record)[str(target)], dtype=np.float64)
    return float(np.max(np.where(np.isfinite(errors), errors, np.inf)))


def _sampling(run: Run) -> SamplingStage:
    return cast(SamplingStage, run.stages["sampling"])
