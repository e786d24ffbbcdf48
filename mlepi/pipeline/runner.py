"""Runs the stages in order.

Skips what is unchanged, shares samples over processes, resumes, and closes with one record each.

Stages that look at samples and follow each other share one pass over them. With a target for the
error bar of an observable the ensemble grows until the target is reached, instead of having its
size from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mlepi.errors import ConfigError, message
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport, StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.samples import evaluate_samples, find_results
from mlepi.pipeline.sampling import SamplingStage
from mlepi.pipeline.stage import NestedStage, SampledStage, Stage, TargetStage
from mlepi.results import collect_provenance, hash_data

FIRST_SAMPLES = 16
"""Samples after which the error bar is looked at for the first time; the error bar of fewer says
little."""

GROWTH = 2.0
"""Factor by which an ensemble grows at most before its error bar is looked at again."""

SAFETY = 1.1
"""Factor on the number of samples that the error bar asks for, since it is uncertain itself."""


def run_stages(
    run: Run, names: Sequence[str], processes: Processes, report: ProgressReport
) -> None:
    """Run stages one after the other.

    Args:
        run: settings and store.
        names: stages, in order; what they require is in the list or has a record already.
        processes: the group that shares the samples.
        report: where progress goes.

    Raises:
        MlepiError: the first thing that went wrong; records and samples that were finished stay.
    """
    _check_target(run, names)
    for group in _group_stages([run.stages[name] for name in names]):
        if isinstance(group[0], SampledStage):
            _run_sampled(run, cast(list[SampledStage], group), processes, report)
        else:
            _run_plain(run, group[0], processes, report)
        while run.warnings:
            report.say(f"WARNING: {run.warnings.pop(0)}")


def describe_inputs(run: Run, stage: Stage | SampledStage) -> dict[str, Any]:
    """Return everything that decides the record of a stage.

    Settings, networks, and the digests of the records it reads.
    """
    stopping = dict(_sampling(run).stopping()) if isinstance(stage, SampledStage) else {}
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.inputs(run)),
        "records": {name: run.content(name) for name in stage.requires},
        **({"stopping": stopping} if stopping else {}),
    }


def _group_stages(stages: Sequence[Stage | SampledStage]) -> list[list[Stage | SampledStage]]:
    """Put sampled stages that follow each other together, unless one reads the record of another."""
    groups: list[list[Stage | SampledStage]] = []
    for stage in stages:
        together = (
            groups and isinstance(stage, SampledStage) and isinstance(groups[-1][0], SampledStage)
        )
        if together and not {other.name for other in groups[-1]} & set(stage.requires):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _run_plain(run: Run, stage: Stage, processes: Processes, report: ProgressReport) -> None:
    digest = processes.on_first(lambda: hash_data(describe_inputs(run, stage)))
    if processes.on_first(lambda: run.store.inputs(stage.name)) == digest:
        report.skip(stage.name)
        return
    if isinstance(stage, NestedStage):
        for nested, names in stage.nested_runs(run):
            processes.on_first(lambda nested=nested: _hand_down(run, nested, stage))  # type: ignore[misc]
            run_stages(nested, names, processes, report.within(stage.name))
    with report.stage(stage.name) as line:
        run.line = line
        processes.on_first(lambda: _finish(run, stage, stage.compute(run), digest, line))


def _hand_down(run: Run, nested: Run, stage: Stage) -> None:
    """Copy the records that a nested run does not make itself."""
    for name in stage.requires:
        if nested.stages[name] is run.stages[name] and nested.store.content(
            name
        ) != run.store.content(name):
            digest = run.store.inputs(name) or ""
            drop = _dependents(run.stages, name)
            nested.store.write(name, run.read(name), digest, run.store.provenance(name), drop=drop)


def _run_sampled(
    run: Run, stages: Sequence[SampledStage], processes: Processes, report: ProgressReport
) -> None:
    """Run stages that look at samples, in one pass over those that any of them has not seen."""
    digests = processes.on_first(
        lambda: {stage.name: hash_data(describe_inputs(run, stage)) for stage in stages}
    )
    stored = processes.on_first(
        lambda: {stage.name: run.store.inputs(stage.name) for stage in stages}
    )
    pending = [stage for stage in stages if stored[stage.name] != digests[stage.name]]
    for stage in stages:
        if stage not in pending:
            report.skip(stage.name)
    if not pending:
        return
    if len(pending) == 1:
        stage = pending[0]
        with report.stage(stage.name) as line:
            n_samples = _grow_ensemble(run, pending, processes, line)
            _finish_sampled(run, stage, n_samples, digests[stage.name], processes, line)
        return
    with report.stage("samples") as line:
        n_samples = _grow_ensemble(run, pending, processes, line)
        line.note = f"{n_samples} for {', '.join(stage.name for stage in pending)}"
    for stage in pending:
        with report.stage(stage.name) as line:
            _finish_sampled(run, stage, n_samples, digests[stage.name], processes, line)


def _finish_sampled(
    run: Run,
    stage: SampledStage,
    n_samples: int,
    digest: str,
    processes: Processes,
    line: StageLine,
) -> None:
    with run.limited_to(n_samples):
        processes.on_first(
            lambda: _finish(run, stage, stage.finish(run, find_results(run, stage)), digest, line)
        )


def _finish(
    run: Run, stage: Stage | SampledStage, record: Any, digest: str, line: StageLine
) -> None:
    provenance = collect_provenance(run.config, describe_inputs(run, stage), run.seed)
    run.store.write(
        stage.name, record, digest, provenance, drop=_dependents(run.stages, stage.name)
    )
    line.note = stage.summarize(record)


def _dependents(stages: Mapping[str, Stage | SampledStage], name: str) -> set[str]:
    """Find the stages that rest on the record of one stage, directly or not."""
    found: set[str] = set()
    for other in stages.values():
        if name in other.requires:
            found |= {other.name} | _dependents(stages, other.name)
    return found


def _grow_ensemble(
    run: Run, stages: Sequence[SampledStage], processes: Processes, line: StageLine
) -> int:
    """Evaluate samples until the error bar asked for is reached, or all of them.

    Return how many it took.
    """
    sampling = _sampling(run)
    judge = next((stage for stage in stages if _can_judge(stage, sampling.target)), None)
    if sampling.target_error is None or judge is None:
        evaluate_samples(run, stages, processes, line)
        return run.n_samples
    n_samples = min(FIRST_SAMPLES, run.n_samples)
    while True:
        with run.limited_to(n_samples):
            evaluate_samples(run, stages, processes, line)
            error = processes.on_first(lambda: _largest_error(run, judge, sampling.target))
        text = (
            f"{n_samples} samples: error bar of {sampling.target} {error:.3g} (target "
            f"{sampling.target_error:.3g})"
        )
        if error <= sampling.target_error:
            line.tell(text)
            return n_samples
        if n_samples == run.n_samples:
            run.warnings.append(
                f"{judge.name}: {text} and no more than n_samples={run.n_samples} allowed."
            )
            return n_samples
        n_samples = next_size(n_samples, error, sampling.target_error, run.n_samples)
        line.tell(f"{text}, going on to {n_samples}")


def next_size(n_samples: int, error: float, target: float, largest: int) -> int:
    """Return the size to which an ensemble grows, error bars falling as one over the square root of the number of samples.

    Args:
        n_samples: of the ensemble so far.
        error: its error bar.
        target: the one that is wanted, in the same unit.
        largest: size that must not be exceeded.
    """
    wanted = n_samples * (error / target) ** 2 * SAFETY
    return min(largest, max(n_samples + 1, math.ceil(min(wanted, GROWTH * n_samples))))


def _largest_error(run: Run, judge: SampledStage, target: str) -> float:
    warnings = list(run.warnings)
    record = judge.finish(run, find_results(run, judge))
    run.warnings[:] = warnings  # those of an unfinished ensemble are not worth a word
    errors = np.asarray(cast(TargetStage, judge).error_bars(record)[target], dtype=np.float64)
    return float(np.max(np.where(np.isfinite(errors), errors, np.inf)))


def _can_judge(stage: Any, target: str) -> bool:
    return isinstance(stage, TargetStage) and target in stage.targets


def _check_target(run: Run, names: Sequence[str]) -> None:
    """Refuse a target that no stage of this run can judge."""
    if "sampling" not in run.stages or _sampling(run).target_error is None:
        return
    stages = [run.stages[name] for name in names]
    if any(isinstance(stage, SampledStage) for stage in stages) and not any(
        _can_judge(stage, _sampling(run).target) for stage in stages
    ):
        known = sorted(
            {
                target
                for stage in run.stages.values()
                if isinstance(stage, TargetStage)
                for target in stage.targets
            }
        )
        raise ConfigError(
            message(
                "stage.sampling.target",
                repr(_sampling(run).target),
                f"an observable of a stage of this run, among {known}",
                "Choose one of them, or add its stage.",
            )
        )


def _sampling(run: Run) -> SamplingStage:
    return cast(SamplingStage, run.stages["sampling"])
