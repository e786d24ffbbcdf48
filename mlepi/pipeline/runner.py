"""Runs the stages in order: skips what is unchanged, resumes, and closes with one record each.

Stages that look at samples and follow each other share one pass over them. A record serves again
while its inputs and the code that made it are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

from mlepi.doubts import REMARKS, Doubt
from mlepi.pipeline import precision
from mlepi.pipeline.discovery import list_dependents
from mlepi.pipeline.engines import Engine, Local
from mlepi.pipeline.fingerprints import fingerprint_stage
from mlepi.pipeline.ghosts import PROVENANCE, GhostSummary
from mlepi.pipeline.growth import Grown, check_target, grow_ensemble
from mlepi.pipeline.plain_stage import NestedStage, PlainStage
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport, StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import SampledStage, averages
from mlepi.pipeline.samples import Pass
from mlepi.pipeline.stage import Record, Stage
from mlepi.pipeline.stages.sampling.stage import SamplingStage
from mlepi.results import collect_provenance, hash_data
from mlepi.results.upgrades import former_inputs
from mlepi.stopping import stop_if_requested


def run_stages(
    run: Run,
    names: Sequence[str],
    processes: Processes,
    report: ProgressReport,
    engine: Engine | None = None,
    between: Callable[[Run, Sequence[str]], object] | None = None,
) -> None:
    """Run stages one after the other.

    Args:
        run: settings, store, networks and stages.
        names: stages, in order; what they require is in the list or has a record already.
        processes: the group that shares the samples.
        report: where progress goes.
        engine: where samples are computed; None in these processes.
        between: called in the first process with the stages that are run next.

    Raises:
        MlepiError: the first thing that went wrong; records and samples that were finished stay.
    """
    check_target(run, names)
    engine = engine or Local()
    for group in _group_stages([run.stages[name] for name in names]):
        stop_if_requested()
        if between is not None:
            processes.on_first(partial(between, run, [stage.name for stage in group]))
        if isinstance(group[0], SampledStage):
            _run_sampled(run, cast(list[SampledStage[Any]], group), processes, report, engine)
        else:
            _run_plain(run, cast(PlainStage, group[0]), processes, report, engine)


def describe_inputs(run: Run, stage: Stage) -> dict[str, Any]:
    """Return everything that decides the record of a stage beside its code.

    Settings, networks, and the digests of the records it reads.
    """
    stopping, fewer = {}, run.settings.fewer
    if isinstance(stage, SampledStage):
        stopping = cast(SamplingStage, run.stages["sampling"]).stopping()
    return {
        "stage": stage.name,
        "settings": stage.inputs(run.settings),
        "records": {
            name: run.content(name) for name in (*stage.requires, *stage.further_records(run))
        },
        **({"stopping": stopping} if stopping else {}),
        **(run.networks.describe_shift() if stage.solves and "electron" in stage.networks else {}),
        **({"left_out": list(run.settings.left_out)} if run.settings.left_out else {}),
        **({"fewer": {f"{t:g}": n for t, n in fewer.items()}} if fewer else {}),
    }


@dataclass(frozen=True)
class Verdict:
    """Whether the stored record of a stage serves again.

    Attributes:
        inputs: digest of what decides the record, as it is asked for now.
        code: fingerprint of the code that would make it now.
        state: what there is: no record or one of other inputs ("missing"), one of this code
            ("current"), of code that is not known ("unknown code") or of other code ("other code").
        kept: whether it serves again.
    """

    inputs: str
    code: str
    state: Literal["missing", "current", "unknown code", "other code"]
    kept: bool


def judge_record(run: Run, stage: Stage) -> Verdict:
    """Compare the stored record of a stage with what is asked for, and with the code."""
    described, name = describe_inputs(run, stage), stage.name
    inputs, code = hash_data(described), fingerprint_stage(run, stage)
    stored = run.store.inputs(name)
    if stored is None:
        return Verdict(inputs, code, "missing", kept=False)
    wanted = hash_data(former_inputs(described)) if run.store.format(name) == 1 else inputs
    if stored != wanted:
        return Verdict(inputs, code, "missing", kept=False)
    made_by = run.store.code(name)
    state: Literal["current", "unknown code", "other code"] = "current"
    if made_by != code:
        state = "unknown code" if made_by is None else "other code"
    reuse = run.settings.reuse
    kept = reuse == "always" or (reuse == "auto" and state != "other code")
    return Verdict(inputs, code, state, kept)


def _judge(run: Run, stage: Stage, processes: Processes, report: ProgressReport) -> Verdict:
    """Judge the stored record, and say what there is to say of it."""
    verdict = processes.on_first(lambda: judge_record(run, stage))
    made = "" if verdict.state == "current" else f"made by {verdict.state}"
    if verdict.kept:
        report.skip(stage.name, made)
    elif verdict.state == "other code" and run.settings.reuse == "auto":
        report.tell(stage.name, "made by other code: computed again (reuse=always keeps it)")
    return verdict


def _group_stages(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Put sampled stages that follow each other together.

    Unless one reads the record of another.
    """
    groups: list[list[Stage]] = []
    for stage in stages:
        together = groups and all(isinstance(s, SampledStage) for s in (stage, groups[-1][0]))
        if together and not {other.name for other in groups[-1]} & set(stage.requires):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _run_plain(
    run: Run, stage: PlainStage, processes: Processes, report: ProgressReport, engine: Engine
) -> None:
    verdict = _judge(run, stage, processes, report)
    if verdict.kept:
        return
    if isinstance(stage, NestedStage):
        for nested, names in stage.nested_runs(run):
            processes.on_first(partial(_hand_down, run, nested, stage))
            if not stage.tells_of_nested:
                report.tell(stage.name, f"… {nested.store.folder.name}: {', '.join(names)}")
            within = report.within(stage.name, quiet=not stage.tells_of_nested)
            run_stages(nested, names, processes, within, engine)
    with report.stage(stage.name) as line:
        doubts = processes.on_first(
            lambda: _write(run, stage, stage.compute(run, line), verdict, line)
        )
    report.doubt(stage.name, doubts)


def _hand_down(run: Run, nested: Run, stage: Stage) -> None:
    """Copy the records that a nested run does not make itself."""
    for name in stage.requires:
        same = nested.stages[name] is run.stages[name]
        if same and nested.store.content(name) != run.store.content(name):
            classes = {other: type(each) for other, each in run.stages.items()}
            nested.store.copy(name, run.store, drop=list_dependents(name, classes))


def _run_sampled(
    run: Run,
    stages: Sequence[SampledStage[Any]],
    processes: Processes,
    report: ProgressReport,
    engine: Engine,
) -> None:
    """Run stages that look at samples, in one pass over those that any of them has not seen."""
    verdicts = {stage.name: _judge(run, stage, processes, report) for stage in stages}
    pending = [stage for stage in stages if not verdicts[stage.name].kept]
    if not pending:
        return
    alone = len(pending) == 1
    with report.stage(pending[0].name if alone else "samples") as line:
        ensemble = processes.on_each(run.ensemble)
        prepared = processes.on_each(lambda: {s.name: s.prepare(ensemble) for s in pending})
        together = Pass(run, pending, ensemble, prepared, engine)
        if run.settings.reuse == "never":
            processes.on_first(together.forget)
        if needs := processes.on_first(partial(together.compare_needs, processes.n_local)):
            line.tell(needs)

        def run_nested(nested: Run, names: Sequence[str], owner: Stage | None) -> None:
            if owner is not None:
                processes.on_first(partial(_hand_down, run, nested, owner))
            run_stages(nested, names, processes, report.within("", quiet=True), engine)

        grown = grow_ensemble(together, processes, line, run_nested)
        if alone:
            doubts = _finish(together, pending[0], grown, verdicts, processes, line)
        else:
            found = processes.on_first(lambda: together.find_ghosts(pending[0], grown.counts))
            names = ", ".join(stage.name for stage in pending)
            taken = precision.write_counts(grown.counts)
            line.note = f"{taken} for {names}; ghost states in {found.describe()}"
    if alone:
        report.doubt(pending[0].name, doubts)
    for stage in [] if alone else pending:
        with report.stage(stage.name) as line:
            doubts = _finish(together, stage, grown, verdicts, processes, line)
        report.doubt(stage.name, doubts)
    if grown.corrected_by:
        run_stages(run, [grown.corrected_by], processes, report, engine)


def _finish(
    together: Pass,
    stage: SampledStage[Any],
    grown: Grown,
    verdicts: Mapping[str, Verdict],
    processes: Processes,
    line: StageLine,
) -> list[str]:
    """Combine the samples of a stage and write its record; return its doubts."""
    verdict, counts = verdicts[stage.name], grown.counts

    def write() -> list[str]:
        found = together.find_ghosts(stage, counts)
        record = together.finish(stage, counts, found)
        makers = together.results(stage, counts).count_makers()
        own = _remarks(together, stage, grown)
        further = {PROVENANCE: found.to_dict(), "computed_by": dict(makers)}
        if grown.precision is not None and stage.name == grown.judge:
            further[precision.PROVENANCE] = grown.precision.to_dict()
        doubts = _write(together.run, stage, record, verdict, line, found, further, own)
        if len(together.stages) == 1:  # of several, the line of the samples has said it
            line.note += f"; ghost states in {found.describe()}"
        return doubts

    return processes.on_first(write)


def _remarks(together: Pass, stage: SampledStage[Any], grown: Grown) -> list[Doubt]:
    """Return doubts about the samples of a record that it does not show itself."""
    own = [grown.short[stage.name]] if stage.name in grown.short else []
    taken = together.counts_for(stage, grown.counts)
    if taken != grown.counts:
        own.append(
            Doubt(
                f"from the first {taken} samples, which all temperatures have; some have more, "
                "for the error bar that was asked for.",
                remedy=f"Ask for this stage without an error, n_samples={taken} or more.",
                severity="note",
            )
        )
    return own


def _write(
    run: Run,
    stage: Stage,
    record: Record,
    verdict: Verdict,
    line: StageLine,
    ghosts: GhostSummary | None = None,
    further: Mapping[str, Any] | None = None,
    remarks: Sequence[Doubt] = (),
) -> list[str]:
    """Write the record of a stage and return its doubts.

    ``ghosts`` are those of its samples, ``further`` entries of the provenance about them,
    ``remarks`` doubts that the record itself does not show.
    """
    settings = run.settings
    inputs = describe_inputs(run, stage)
    provenance = collect_provenance(settings.config, inputs, settings.seed)
    provenance |= further or {}
    if remarks:
        provenance[REMARKS] = [doubt.to_dict() for doubt in remarks]
    classes = {name: type(each) for name, each in run.stages.items()}
    run.store.write(
        stage.name,
        record,
        verdict.inputs,
        provenance,
        code=verdict.code,
        drop=list_dependents(stage.name, classes),
    )
    line.note = stage.summarize(record)
    left_out = ghosts.doubts() if ghosts is not None and averages(type(stage)) else []
    return [*stage.doubts(record), *left_out, *remarks]
