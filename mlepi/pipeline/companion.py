"""Whether an error bar is reached sooner with a cheap companion of the samples, by measured cost.

After the pilot of a growing ensemble one sample of the network and one of the cheap Hamiltonian are
timed, and the correlation of the two is measured on the pilot. What costs less is taken: more
samples of the network, or the correction of a ``CompanionStage``. The choice depends on a clock;
it is therefore written into the run folder, and a run that goes on keeps it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from mlepi.errors import ConfigError, PhysicsError, StructureError
from mlepi.physics.averages.control_variate import plan_sizes
from mlepi.physics.vibrations.samplers import HarmonicSampler
from mlepi.pipeline.companion_stage import CompanionStage, TakenSamples
from mlepi.pipeline.engines import Task, Work
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import StageLine, write_time
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.pipeline.samples import Pass, find_results
from mlepi.pipeline.stage import Stage
from mlepi.pipeline.stages.sampling.stage import SamplingStage
from mlepi.project_files import write_json
from mlepi.results import hash_data

CHOICE_FILE = "companion.json"
"""In the run folder: ``Choice`` as JSON."""

TIMED = 2
"""Samples that are evaluated to time the last of them; the first one may build what the others
use."""

MOST_CHEAP = 50
"""Cheap samples for each sample that the network may take, at most."""

WORTH = 0.8
"""Share of the time of the network alone below which the cheap samples are taken: a pilot knows
correlations to some per cent."""

Result = TypeVar("Result")

RunNested = Callable[[Run, Sequence[str], Stage | None], None]
"""Runs stages of a run, in all processes and in silence.

The third argument is the stage that another run belongs to, whose required records it takes over;
None for stages of the run itself.
"""


class Sizes(NamedTuple):
    """Samples of both Hamiltonians.

    Attributes:
        counts: of the network, (n_temperatures,).
        n_cheap: cheap ones, at every temperature; 0 where the network goes on alone.
    """

    counts: tuple[int, ...]
    n_cheap: int


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        asked: digest of what was asked for, and of what decides a sample.
        counts: samples of the network at every temperature, with which it goes on.
        n_cheap: cheap samples; 0 where the network goes on alone.
        seconds: of one sample, of the network and cheap; of one process.
        correlations: ρ at every temperature, of the pilot.
    """

    asked: str
    counts: tuple[int, ...]
    n_cheap: int
    seconds: tuple[float, float]
    correlations: tuple[float, ...]

    @classmethod
    def read(cls, file: Path, asked: str) -> Choice | None:
        """Return the choice of an earlier run; None where there is none for what is asked."""
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            network, cheap = (float(each) for each in stored["seconds"])
            found = cls(
                asked=str(stored["asked"]),
                counts=tuple(int(n) for n in stored["counts"]),
                n_cheap=int(stored["n_cheap"]),
                seconds=(network, cheap),
                correlations=tuple(float(rho) for rho in stored["correlations"]),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if found.asked == asked else None


@dataclass(frozen=True)
class Companion:
    """A stage that may take noise off the target of a growing ensemble.

    Attributes:
        stage: that does it.
        together: the pass over the samples of the network.
        judge: the stage of it that is corrected.
        run_nested: runs the cheap samples.
        processes: the group that shares the samples.
    """

    stage: CompanionStage
    together: Pass
    judge: SampledStage[Any]
    run_nested: RunNested
    processes: Processes

    @property
    def run(self) -> Run:
        """The run that both belong to."""
        return self.together.run

    def choose(self, n_pilot: int, plain: Sequence[float], line: StageLine) -> Choice | None:
        """Choose what costs less from here on; in all processes.

        Args:
            n_pilot: samples of the network so far, at every temperature.
            plain: samples that the network alone would take at every temperature.
            line: where it is told.

        Returns:
            The choice; None where the cheap Hamiltonian does not suit the structure.
        """
        file = self.run.store.folder / CHOICE_FILE
        choice = self.processes.on_first(lambda: Choice.read(file, self._asked()))
        if choice is not None and not choice.n_cheap:
            line.tell(f"{self.stage.name}: not taken, as chosen before")
            return choice
        try:
            rest = [name for name in self.stage.requires if name != self.judge.name]
            self.run_nested(self.run, rest, None)
            if choice is not None:
                line.tell(f"{self.stage.name}: {choice.n_cheap} cheap samples, as chosen before")
                return choice
            choice = self._measure(n_pilot, plain, line)
        except (ConfigError, PhysicsError, StructureError) as error:
            line.tell(f"{self.stage.name} left aside: {error}")
            return None
        self.processes.on_first(lambda: write_json(file, asdict(choice)))
        return choice

    def correlations(self, record: Any) -> tuple[float, ...]:
        """Return ρ of the target at every temperature, from a record of the stage."""
        target = str(cast(SamplingStage, self.run.stages["sampling"]).target)
        return tuple(float(rho) for rho in self.stage.correlations(record)[target])

    def announce(self, sizes: Sizes, seconds: tuple[float, float]) -> str:
        """Say what is computed next, and how long it takes where nothing of it is there."""
        n_cheap = sum(sizes.counts) + len(sizes.counts) * sizes.n_cheap
        time_ = self._write_time(n_cheap * seconds[1])
        return f"{n_cheap} samples of {self.stage.name}, {time_} where none is there"

    def correct(self, sizes: Sizes, examine: Callable[[Any, Any], Result]) -> tuple[Result, Run]:
        """Make the record of the stage for the first samples and examine it; in all processes.

        Args:
            sizes: of the samples.
            examine: called in the first process with the records of this stage and of the one that
                it corrects.

        Returns:
            What it returned, and the run of the cheap Hamiltonian on the same samples.
        """
        kept: list[Any] = []

        def take() -> TakenSamples:
            taken, plain = self._take(sizes)
            kept.append(plain)
            return taken

        taken = self.processes.on_first(take)
        (same, names), (many, _) = self.stage.cheap_runs(self.run, taken)
        for nested in (same, many):
            self.run_nested(nested, names, self.stage)
        found = self.processes.on_first(
            lambda: examine(self.stage.correct(kept[0], same, many), kept[0])
        )
        return found, same

    def plan(
        self,
        sizes: Sizes,
        plain: Sequence[float],
        correlations: Sequence[float],
        seconds: tuple[float, float],
        needed: Sequence[float] | None = None,
    ) -> Sizes | None:
        """Return the sizes that reach the error at the least cost; None where none do.

        Args:
            sizes: so far.
            plain: samples that the network alone would take at every temperature.
            correlations: ρ at every temperature.
            seconds: of one sample, of the network and cheap.
            needed: factor by which the corrected variance is larger than it may be, at every
                temperature; None: what theory says.
        """
        squares = np.asarray(correlations, dtype=np.float64) ** 2
        wanted = np.asarray(plain, dtype=np.float64)
        if needed is not None and sizes.n_cheap:
            done = np.asarray(sizes.counts, dtype=np.float64)
            theory = wanted * ((1.0 - squares) / done + squares / sizes.n_cheap)
            factors = np.divide(needed, theory, out=np.ones_like(theory), where=theory > 0.0)
            wanted = wanted * factors
        largest = self.together.ensemble.n_samples
        found = plan_sizes(
            [float(n) for n in wanted],
            correlations,
            sizes.counts,
            (largest, MOST_CHEAP * largest),
            seconds,
        )
        if found is None:
            return None
        whole = self.together.ensemble.sampler.whole
        counts = tuple(min(largest, whole(n)) for n in found.expensive)
        return Sizes(counts, max(whole(found.cheap), sizes.n_cheap))

    def _asked(self) -> str:
        sampling = cast(SamplingStage, self.run.stages["sampling"])
        results = find_results(self.run, self.judge, self.together.ensemble)
        companion = self.stage.inputs(self.run.settings)
        return hash_data([sampling.stopping(), results.inputs, results.code, companion])

    def _take(self, sizes: Sizes) -> tuple[TakenSamples, Any]:
        counts, temperatures = sizes.counts, self.together.ensemble.temperatures
        fewer = {t: n for t, n in zip(temperatures, counts, strict=True) if n < max(counts)}
        summary = self.together.find_ghosts(self.judge, counts)
        record = self.together.finish(self.judge, counts, summary)
        return TakenSamples(max(counts), fewer, summary.left_out, sizes.n_cheap), record

    def _measure(self, n_pilot: int, plain: Sequence[float], line: StageLine) -> Choice:
        """Time both, correlate them on the samples that are there, and compare."""
        pilot = Sizes((n_pilot,) * len(plain), n_pilot)
        correlations, same = self.correct(pilot, lambda record, _: self.correlations(record))
        seconds = self.processes.on_first(lambda: (self._time_sample(), self._time_cheap(same)))
        planned = self.plan(pilot, plain, correlations, seconds)
        more = sum(max(0.0, n - n_pilot) for n in plain)
        within = max(plain) <= self.together.ensemble.n_samples
        text = f"correlation {min(correlations):.3f} of {self.stage.name}"
        chosen = False
        if planned is None:
            text += ", not enough for this error"
        else:
            further = sum(planned.counts) - sum(pilot.counts)
            cheap = sum(planned.counts) + len(plain) * planned.n_cheap
            cost = seconds[0] * further + seconds[1] * cheap
            chosen = cost < WORTH * seconds[0] * more or not within
            text += (
                f": with {planned.n_cheap} cheap samples per temperature {further} more of the "
                f"network, {self._write_time(cost)}"
            )
        text += f"; without it {more:.0f} more, {self._write_time(seconds[0] * more)}"
        line.tell(f"{text}: {'taken' if chosen else 'the network goes on alone'}")
        best = planned if planned is not None and chosen else Sizes(pilot.counts, 0)
        return Choice(self._asked(), best.counts, best.n_cheap, seconds, correlations)

    def _write_time(self, seconds: float) -> str:
        """Write a time of one process as that of all."""
        return write_time(seconds / self.processes.n_processes)

    def _time_sample(self) -> float:
        """Return the seconds that this process takes for one sample, by all stages of the pass."""
        together = self.together
        return _time(Work(together.ensemble, tuple(together.stages), together.prepared, None))

    def _time_cheap(self, run: Run) -> float:
        """Return the same for one cheap sample."""
        ensemble = run.ensemble()
        stage = cast(SampledStage[Any], run.stages[self.judge.name])
        return _time(Work(ensemble, (stage,), {stage.name: stage.prepare(ensemble)}, None))


def find_companion(
    together: Pass, judge: SampledStage[Any] | None, run_nested: RunNested, processes: Processes
) -> Companion | None:
    """Return what may take noise off the target of a run; None where nothing does.

    Args:
        together: the pass over the samples.
        judge: stage whose error bar decides.
        run_nested: runs stages of the cheap Hamiltonian.
        processes: the group that shares the samples.
    """
    sampling = cast(SamplingStage, together.run.stages["sampling"])
    if judge is None or not sampling.stopping() or sampling.companion == "none":
        return None
    if not isinstance(together.ensemble.sampler, HarmonicSampler):  # there are no more samples
        return None
    stages: Mapping[str, Any] = together.run.stages
    for stage in stages.values():
        if (
            isinstance(stage, CompanionStage)
            and stage.corrects == judge.name
            and sampling.target in stage.targets
            and processes.on_first(partial(stage.suits, together.run))
        ):
            return Companion(stage, together, judge, run_nested, processes)
    return None


def _time(work: Work) -> float:
    """Return the seconds of one sample, the results of which are thrown away."""
    names = tuple(stage.name for stage in work.stages)
    keys = work.ensemble.sample_keys()
    seconds = 0.0
    for number in range(TIMED):
        begin = time.monotonic()
        with closing(work.evaluate([Task(keys[number % len(keys)], names)])) as found:
            for _ in found:
                pass
        seconds = time.monotonic() - begin
    return seconds
