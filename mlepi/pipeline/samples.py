"""The pass over the displaced supercells.

H and S of each are predicted once and given to every stage that looks at samples.

What a stage finds in one sample goes to the part files of that stage at once. Samples are shared
over the processes, continue where an earlier run stopped, and no more than one batch of them is
ever in memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from mlepi.errors import MlepiError
from mlepi.pipeline.ahead import run_ahead
from mlepi.pipeline.hamiltonian import HamiltonianStage
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampling import SamplingStage
from mlepi.pipeline.stage import SampledStage, SampleKey
from mlepi.results import PartFile, hash_data

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

PARTS_FOLDER = "parts"
STOP_FILE = "stop"
GPU_BATCH_SIZE = 16
"""Samples that a GPU sees at once; a processor gains nothing from more than one."""


def describe_sample_inputs(run: Run, stage: SampledStage) -> dict[str, Any]:
    """Return everything that decides the result of one sample.

    Not how many there are, nor at which temperatures.
    """
    sampling, hamiltonian = (
        cast(SamplingStage, run.stages["sampling"]),
        cast(HamiltonianStage, run.stages["hamiltonian"]),
    )
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.sample_inputs(run)),
        "distribution": dict(sampling.distribution(run)),
        "network": dict(hamiltonian.network(run)),
        "store": hamiltonian.store,
        "records": {name: run.content(name) for name in stage.requires if name != "sampling"},
    }


@dataclass(frozen=True)
class SampleResults:
    """What one stage has found in all samples of a run; may be gone through more than once.

    Attributes:
        folder: of the part files.
        name: of the stage.
        inputs: digest of what decides the result of one sample.
        keys: the samples, in the order in which they are given out.
    """

    folder: Path
    name: str
    inputs: str
    keys: Sequence[SampleKey]

    def __iter__(self) -> Iterator[tuple[SampleKey, dict[str, NDArray[Any]]]]:
        """Yield the results one by one, whichever process made them."""
        places = {
            SampleKey(*key): (part, place)
            for part in self._parts()
            for key, place in part.places().items()
        }
        for key in self.keys:
            part, place = places[key]
            yield key, part.load(place)

    def find_done(self) -> set[SampleKey]:
        """Return the samples that are done, in whichever number of processes.

        Forget those of other inputs.
        """
        return {SampleKey(*key) for part in self._parts() for key in part.keys()}  # noqa: SIM118

    def part(self, rank: int) -> PartFile:
        """Return the file to which one process writes."""
        return PartFile(self.folder / f"{self.name}.{rank}.part", self.inputs)

    def _parts(self) -> list[PartFile]:
        return [
            PartFile(path, self.inputs) for path in sorted(self.folder.glob(f"{self.name}.*.part"))
        ]


def find_results(run: Run, stage: SampledStage) -> SampleResults:
    """Return where the results of a stage are, or will be, for the samples of a run."""
    keys = [
        SampleKey(sample, temperature)
        for sample in range(run.n_samples)
        for temperature in run.temperatures
    ]
    return SampleResults(
        run.store.folder / PARTS_FOLDER,
        stage.name,
        hash_data(describe_sample_inputs(run, stage)),
        keys,
    )


def evaluate_samples(
    run: Run, stages: Sequence[SampledStage], processes: Processes, line: StageLine
) -> None:
    """Give every displaced supercell to every stage that has not seen it.

    The results are in the part files afterwards.

    Args:
        run: settings and store.
        stages: the stages that look at samples.
        processes: the group that shares the samples.
        line: where progress goes.

    Raises:
        MlepiError: the first thing that went wrong, in every process; finished samples stay.
    """
    results = [processes.on_first(lambda stage=stage: find_results(run, stage)) for stage in stages]  # type: ignore[misc]
    folder, keys = results[0].folder, results[0].keys
    done = processes.on_first(lambda: _find_done(folder, results))
    missing = [key for key in keys if not all(key in found for found in done)]
    mine = missing[processes.rank :: processes.n_processes]
    line.start(len(mine) + len(keys) - len(missing), len(keys) - len(missing))
    todo = [
        (stage, result.part(processes.rank), set(mine) - found)
        for stage, result, found in zip(stages, results, done, strict=True)
    ]
    failures = [
        error
        for error in processes.gather(_evaluate(run, mine, todo, folder, line))
        if error is not None
    ]
    if failures:
        raise failures[0]


def _find_done(folder: Path, results: Sequence[SampleResults]) -> list[set[SampleKey]]:
    (folder / STOP_FILE).unlink(missing_ok=True)
    return [result.find_done() for result in results]


def _evaluate(
    run: Run,
    keys: Sequence[SampleKey],
    todo: Sequence[tuple[SampledStage, PartFile, set[SampleKey]]],
    folder: Path,
    line: StageLine,
) -> MlepiError | None:
    """Evaluate the samples of this process.

    An error here stops the other processes at their next sample.
    """
    stop = folder / STOP_FILE
    try:
        for stage, _, _ in todo:
            stage.begin(run)
        with closing(_predict(run, keys)) as predicted:
            for key, matrices in predicted:
                if stop.exists():
                    return None
                for stage, part, wanted in todo:
                    if key in wanted:
                        part.append(key, stage.evaluate(key, *matrices))
                line.advance()
    except MlepiError as error:
        folder.mkdir(parents=True, exist_ok=True)
        stop.touch()
        return error
    return None


def _predict(
    run: Run, keys: Sequence[SampleKey]
) -> Generator[tuple[SampleKey, tuple[BlockMatrix, BlockMatrix]]]:
    """Yield H and S of the samples in order, predicted in batches and, with a GPU, ahead of their use."""
    hamiltonian = cast(HamiltonianStage, run.stages["hamiltonian"])
    size = run.batch_size or (GPU_BATCH_SIZE if run.on_gpu else 1)

    def batches() -> Generator[tuple[SampleKey, tuple[BlockMatrix, BlockMatrix]]]:
        for start in range(0, len(keys), size):
            batch = keys[start : start + size]
            yield from zip(batch, hamiltonian.predict_samples(run, batch), strict=True)

    ahead = run.on_gpu if run.prefetch is None else run.prefetch
    return run_ahead(batches(), depth=size) if ahead else batches()
