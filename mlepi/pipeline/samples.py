"""The pass over the displaced supercells.

H and S of each are predicted once and given to every stage that looks at samples. What a stage
finds in one sample goes to the part files of that stage at once. Samples are shared over the
processes, continue where an earlier run stopped, and no more than one batch of them is ever in
memory.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mlepi.errors import MlepiError, PhysicsError, message
from mlepi.pipeline.engines import Engine, Task, Work
from mlepi.pipeline.ensemble import GHOST_MARGIN, Ensemble, SampleKey
from mlepi.pipeline.fingerprints import fingerprint_modules, fingerprint_stage
from mlepi.pipeline.ghosts import (
    KEY,
    GhostSummary,
    RenumberedResults,
    summarize_ghosts,
)
from mlepi.pipeline.needs import compare_needs, estimate_needs
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.stages.hamiltonian.sample_files import SampleFiles
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.pipeline.stages.sampling.stage import SamplingStage
from mlepi.results import hash_data
from mlepi.results.parts import PARTS_FOLDER, PartFile, choose_part, find_parts
from mlepi.results.upgrades import former_inputs
from mlepi.run_lock import FolderLostError
from mlepi.stopping import Stopped, stop_if_requested

STOP_FILE = "stop"

Counts = int | tuple[int, ...]
"""Samples at every temperature: the same number, or one for each."""


def describe_sample_inputs(run: Run, stage: SampledStage[Any]) -> dict[str, Any]:
    """Return everything that decides the result of one sample.

    Neither how many there are nor at which temperatures.
    """
    sampling = cast(SamplingStage, run.stages["sampling"])
    hamiltonian = cast(HamiltonianStage, run.stages["hamiltonian"])
    margin = hamiltonian.ghost_margin
    return {
        "stage": stage.name,
        "settings": stage.sample_inputs(run.settings),
        "distribution": sampling.distribution(run.settings),
        "network": run.settings.describe_electron(),
        "store": hamiltonian.store,
        "records": {name: run.content(name) for name in stage.requires if name != "sampling"},
        **run.networks.describe_shift(),
        **({} if margin == GHOST_MARGIN else {"ghost_margin": margin}),
    }


@dataclass(frozen=True)
class SampleResults:
    """What one stage has found in all samples of a run; may be gone through more than once.

    Attributes:
        folder: of the part files.
        name: of the stage.
        inputs: digest of what decides the result of one sample.
        former: the same as files of the first format name it.
        code: fingerprint of the code that makes the results.
        keep: serve results of other code too.
        keys: the samples, in the order in which they are given out.
    """

    folder: Path
    name: str
    inputs: str
    former: str
    code: str
    keep: bool
    keys: Sequence[SampleKey]

    def __iter__(self) -> Iterator[tuple[SampleKey, Part]]:
        """Yield the results one by one, whichever process made them."""
        parts = self._parts()
        headers = [part.header() for part in parts]
        places = {
            SampleKey(*key): (number, place)
            for number, part in enumerate(parts)
            for key, place in part.places().items()
        }
        for key in self.keys:
            number, place = places[key]
            yield key, parts[number].load(place, headers[number])

    def find_done(self) -> set[SampleKey]:
        """Return the samples that are done, in whichever number of processes.

        Those of other inputs, and of other code unless they are to be kept, are forgotten.
        """
        return {SampleKey(*key) for part in self._parts() for key in part.keys()}  # noqa: SIM118

    def count_makers(self) -> dict[str, int]:
        """Count the results by what computed them: type of processor and threads.

        Those that are beyond the samples asked for count as well, and older ones do not say it.
        """
        return dict(sum((part.count_makers() for part in self._parts()), Counter[str]()))

    def forget(self) -> None:
        """Delete all results."""
        for part in self._parts():
            part.path.unlink(missing_ok=True)

    def part(self, rank: int) -> PartFile:
        """Return the file to which one process writes."""
        return choose_part(self.folder, self.name, rank, self.inputs, self.code)

    def _parts(self) -> list[PartFile]:
        return find_parts(
            self.folder,
            self.name,
            self.inputs,
            self.code,
            self.former,
            keep_other_code=self.keep,
        )


def find_results(run: Run, stage: SampledStage[Any], ensemble: Ensemble) -> SampleResults:
    """Return where the results of a stage are, or will be, for the samples of an ensemble."""
    inputs = describe_sample_inputs(run, stage)
    return SampleResults(
        folder=run.store.folder / PARTS_FOLDER,
        name=stage.name,
        inputs=hash_data(inputs),
        former=hash_data(former_inputs(inputs)),
        code=fingerprint_stage(run, stage),
        keep=run.settings.reuse == "always",
        keys=ensemble.sample_keys(),
    )


@dataclass(frozen=True)
class Pass:
    """Stages that look at the same samples together.

    Attributes:
        run: settings and store.
        stages: that look at samples.
        ensemble: whose samples they see.
        prepared: name of a stage → what all its samples share.
        engine: where samples are computed.
    """

    run: Run
    stages: Sequence[SampledStage[Any]]
    ensemble: Ensemble
    prepared: Mapping[str, Any]
    engine: Engine

    def results(self, stage: SampledStage[Any], counts: Counts) -> SampleResults:
        """Return what a stage has found in the first samples."""
        return find_results(self.run, stage, self.ensemble.first(counts))

    def counts_for(self, stage: SampledStage[Any], counts: Counts) -> Counts:
        """Return how many samples enter the record of a stage, of those that there are."""
        return counts if stage.uneven or isinstance(counts, int) else min(counts)

    def kept(
        self, stage: SampledStage[Any], counts: Counts, summary: GhostSummary | None = None
    ) -> Ensemble:
        """Return the ensemble of the first samples that enter the record of a stage."""
        summary = self.find_ghosts(stage, counts) if summary is None else summary
        first = self.ensemble.first(self.counts_for(stage, counts))
        return first.without(summary.left_out if stage.averages else ())

    def finish(
        self, stage: SampledStage[Any], counts: Counts, summary: GhostSummary | None = None
    ) -> Any:
        """Return the record of a stage from the first samples.

        An average lacks the snapshots with ghost states.

        Args:
            stage: one of them.
            counts: snapshots at every temperature.
            summary: of ``find_ghosts``, where it is known.

        Raises:
            PhysicsError: too few snapshots without them.
        """
        counts = self.counts_for(stage, counts)
        found = self.results(stage, counts)
        summary = self.find_ghosts(stage, counts) if summary is None else summary
        left_out = summary.left_out if stage.averages else ()
        kept = self.kept(stage, counts, summary)
        if left_out and min(kept.counts) < stage.least_samples:
            raise PhysicsError(
                message(
                    "samples",
                    f"{min(kept.counts)} of {summary.n_samples} snapshots without ghost states",
                    f"at least {stage.least_samples}, for an error bar",
                    "Ask for more samples, or use a network that knows such structures.",
                )
            )
        return stage.finish(self.prepared[stage.name], kept, RenumberedResults(found, left_out))

    def find_ghosts(self, stage: SampledStage[Any], counts: Counts) -> GhostSummary:
        """Say which of the first samples have ghost states."""
        shift = self.run.networks.describe_shift().get("level_shift")
        results = self.results(stage, self.counts_for(stage, counts))
        found = ((key, part.get(KEY)) for key, part in results)
        left_out = self.run.settings.left_out
        return summarize_ghosts(found, self.ensemble.temperatures, shift, left_out)

    def forget(self) -> None:
        """Delete what was found in samples before."""
        for stage in self.stages:
            self.results(stage, 0).forget()

    def evaluate(self, counts: Counts, processes: Processes, line: StageLine) -> int:
        """Give the first samples to every stage that has not seen them.

        The results are in the part files afterwards.

        Args:
            counts: snapshots at every temperature.
            processes: the group that shares the samples.
            line: where progress goes.

        Returns:
            How many samples were new, in all processes.

        Raises:
            MlepiError: the first thing that went wrong, in every process; finished samples stay.
        """
        results = processes.on_first(lambda: [self.results(s, counts) for s in self.stages])
        folder, keys = results[0].folder, results[0].keys
        done = processes.on_first(lambda: _find_done(folder, results))
        missing = [key for key in keys if not all(key in found for found in done)]
        mine = missing[processes.rank :: processes.n_processes]
        line.start(len(mine) + len(keys) - len(missing), len(keys) - len(missing))
        names = [stage.name for stage in self.stages]
        tasks = [
            Task(key, tuple(n for n, seen in zip(names, done, strict=True) if key not in seen))
            for key in mine
        ]
        parts = {n: r.part(processes.rank) for n, r in zip(names, results, strict=True)}
        processes.on_each(lambda: self._evaluate(tasks, parts, folder, line, processes))
        return len(missing)

    def _evaluate(
        self,
        tasks: Sequence[Task],
        parts: Mapping[str, PartFile],
        folder: Path,
        line: StageLine,
        processes: Processes,
    ) -> None:
        """Have the samples of this process evaluated, and store what is found.

        An error here stops the other processes at their next sample.
        """
        stop = folder / STOP_FILE
        work = Work(self.ensemble, tuple(self.stages), self.prepared, self._sample_files())
        try:
            with closing(self.engine.evaluate(work, tasks, line.tell)) as found:
                for key, results, maker in found:
                    processes.check_folder()
                    for name, part in results.items():
                        parts[name].append(key, part, maker)
                    line.advance()
                    if stop.exists():
                        return
                    stop_if_requested()
        except FolderLostError:
            raise
        except (MlepiError, OSError, Stopped):
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                stop.touch()
            raise

    def compare_needs(self, n_processes: int) -> str:
        """Compare what the samples need with memory and disk; return what the user should know.

        Args:
            n_processes: on this machine.

        Raises:
            MachineError: the disk is too small.
        """
        hamiltonian = cast(HamiltonianStage, self.run.stages["hamiltonian"])
        keys = self.ensemble.sample_keys()
        done = self.results(self.stages[0], self.ensemble.n_samples).find_done()
        needs = estimate_needs(
            self.ensemble,
            len(set(keys) - done),
            n_processes=n_processes,
            batch=self.run.settings.largest_batch,
            solves=any(stage.solves for stage in self.stages),
            keeps=hamiltonian.store,
        )
        return compare_needs(needs, self.run.store.folder)

    def _sample_files(self) -> SampleFiles | None:
        """Return where H and S of samples are kept; None where they are not."""
        run, hamiltonian = self.run, cast(HamiltonianStage, self.run.stages["hamiltonian"])
        if not hamiltonian.store:
            return None
        sampling = cast(SamplingStage, run.stages["sampling"])
        modules = {
            "mlepi.pipeline.ensemble",
            type(run.settings.sampler).__module__,
            *run.networks.modules(["electron"]),
        }
        return SampleFiles(
            ensemble=self.ensemble,
            inputs=run.settings.describe_electron(),
            distribution=sampling.distribution(run.settings),
            phonon=run.content("phonon"),
            code=fingerprint_modules(modules),
            reuse=run.settings.reuse,
        )


def _find_done(folder: Path, results: Sequence[SampleResults]) -> list[set[SampleKey]]:
    (folder / STOP_FILE).unlink(missing_ok=True)
    return [result.find_done() for result in results]
