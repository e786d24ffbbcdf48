"""Runs the stages in order: skips what is unchanged, shares samples over processes, resumes, and closes with one record each."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from mlepi.errors import DataError, MlepiError, message
from mlepi.pipeline.ahead import run_ahead
from mlepi.pipeline.hamiltonian import HamiltonianStage
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport, StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampling import SamplingStage
from mlepi.pipeline.stage import SampledStage, SampleKey, Stage
from mlepi.results import PartFile, collect_provenance, hash_data

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

PARTS_FOLDER = "parts"
STOP_FILE = "stop"
GPU_BATCH_SIZE = 16
"""Samples that a GPU sees at once; a processor gains nothing from more than one."""


def run_stages(run: Run, names: Sequence[str], processes: Processes, report: ProgressReport) -> None:
    """Run stages one after the other.

    Args:
        run: settings and store.
        names: stages, in order; what they require is in the list or has a record already.
        processes: the group that shares the samples.
        report: where progress goes.

    Raises:
        MlepiError: the first thing that went wrong; records and samples that were finished stay.
    """
    for name in names:
        _run_stage(run, run.stages[name], processes, report)


def describe_inputs(run: Run, stage: Stage | SampledStage) -> dict[str, Any]:
    """Return everything that decides the record of a stage: settings, networks, and the digests of the records it reads."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.inputs(run)),
        "records": {name: _content(run, name) for name in stage.requires},
    }


def describe_sample_inputs(run: Run, stage: SampledStage) -> dict[str, Any]:
    """Return everything that decides the result of one sample: not how many there are, nor at which temperatures."""
    sampling, hamiltonian = cast(SamplingStage, run.stages["sampling"]), cast(HamiltonianStage, run.stages["hamiltonian"])
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.sample_inputs(run)),
        "distribution": dict(sampling.distribution(run)),
        "network": dict(hamiltonian.network(run)),
        "store": hamiltonian.store,
        "records": {name: _content(run, name) for name in stage.requires if name != "sampling"},
    }


def _run_stage(run: Run, stage: Stage | SampledStage, processes: Processes, report: ProgressReport) -> None:
    digest = processes.on_first(lambda: hash_data(describe_inputs(run, stage)))
    if processes.on_first(lambda: run.store.inputs(stage.name)) == digest:
        report.say(f"{stage.name:<12} unchanged")
        return
    with report.stage(stage.name) as line:
        if isinstance(stage, SampledStage):
            _run_samples(run, stage, digest, processes, line)
        else:
            run.line = line
            processes.on_first(lambda: _finish(run, stage, stage.compute(run), digest, line))
    while run.warnings:
        report.say(f"WARNING: {run.warnings.pop(0)}")


def _content(run: Run, name: str) -> str:
    content = run.store.content(name)
    if content is None:
        raise DataError(
            message(str(run.store.path), f"no record {name!r}", "the record of an earlier stage", f"Run stage={name} first.")
        )
    return content


def _finish(run: Run, stage: Stage | SampledStage, record: Any, digest: str, line: StageLine) -> None:
    provenance = collect_provenance(run.config, describe_inputs(run, stage), run.seed)
    run.store.write(stage.name, record, digest, provenance, drop=_dependents(run.stages, stage.name))
    line.note = stage.summarize(record)


def _dependents(stages: Mapping[str, Stage | SampledStage], name: str) -> set[str]:
    """Find the stages that rest on the record of one stage, directly or not."""
    found: set[str] = set()
    for other in stages.values():
        if name in other.requires:
            found |= {other.name} | _dependents(stages, other.name)
    return found


def _run_samples(run: Run, stage: SampledStage, digest: str, processes: Processes, line: StageLine) -> None:
    folder = run.store.folder / PARTS_FOLDER
    inputs = processes.on_first(lambda: hash_data(describe_sample_inputs(run, stage)))
    keys = [SampleKey(sample, temperature) for sample in range(run.n_samples) for temperature in run.temperatures]
    done = processes.on_first(lambda: _find_done(folder, stage.name, inputs))
    missing = [key for key in keys if key not in done]
    mine = missing[processes.rank :: processes.n_processes]
    line.start(len(mine) + len(keys) - len(missing), len(keys) - len(missing))
    failure = _evaluate(run, stage, mine, PartFile(folder / f"{stage.name}.{processes.rank}.part", inputs), folder, line)
    failures = [error for error in processes.gather(failure) if error is not None]
    if failures:
        raise failures[0]
    processes.on_first(lambda: _finish(run, stage, stage.finish(run, _ordered(folder, stage.name, inputs, keys)), digest, line))


def _evaluate(
    run: Run, stage: SampledStage, keys: Sequence[SampleKey], part: PartFile, folder: Path, line: StageLine
) -> MlepiError | None:
    """Evaluate the samples of this process; an error here stops the other processes at their next sample."""
    stop = folder / STOP_FILE
    try:
        stage.begin(run)
        with closing(_predict(run, keys)) as predicted:
            for key, matrices in predicted:
                if stop.exists():
                    return None
                part.append(key, stage.evaluate(key, *matrices))
                line.advance()
    except MlepiError as error:
        folder.mkdir(parents=True, exist_ok=True)
        stop.touch()
        return error
    return None


def _predict(run: Run, keys: Sequence[SampleKey]) -> Generator[tuple[SampleKey, tuple[BlockMatrix, BlockMatrix]]]:
    """Yield H and S of the samples in order, predicted in batches and, with a GPU, ahead of their use."""
    hamiltonian = cast(HamiltonianStage, run.stages["hamiltonian"])
    size = run.batch_size or (GPU_BATCH_SIZE if run.on_gpu else 1)

    def batches() -> Generator[tuple[SampleKey, tuple[BlockMatrix, BlockMatrix]]]:
        for start in range(0, len(keys), size):
            batch = keys[start : start + size]
            yield from zip(batch, hamiltonian.predict_samples(run, batch), strict=True)

    ahead = run.on_gpu if run.prefetch is None else run.prefetch
    return run_ahead(batches(), depth=size) if ahead else batches()


def _part_files(folder: Path, name: str, inputs: str) -> list[PartFile]:
    return [PartFile(path, inputs) for path in sorted(folder.glob(f"{name}.*.part"))]


def _find_done(folder: Path, name: str, inputs: str) -> set[SampleKey]:
    """Return the samples that are done, in whichever number of processes; forget those of other inputs."""
    (folder / STOP_FILE).unlink(missing_ok=True)
    return {SampleKey(*key) for part in _part_files(folder, name, inputs) for key in part.keys()}  # noqa: SIM118


def _ordered(
    folder: Path, name: str, inputs: str, keys: Sequence[SampleKey]
) -> Iterator[tuple[SampleKey, dict[str, NDArray[Any]]]]:
    """Yield the results of all samples in the order of ``keys``, whichever process made them."""
    parts = _part_files(folder, name, inputs)
    places = {SampleKey(*key): (part, place) for part in parts for key, place in part.places().items()}
    for key in keys:
        part, place = places[key]
        yield key, part.load(place)
