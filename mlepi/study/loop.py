"""The loop: design, label, train, infer, judge, choose, label … until the error is small enough.

A round is done when it stands in ``study.json``; before that, what its steps have left is found and
gone on with. Whatever kills the process, only the piece of the step in progress is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ase import Atoms

from mlepi.errors import DataError, message
from mlepi.labelling import LabelledSet, read_structures
from mlepi.labelling.job import DONE
from mlepi.labelling.structure_files import NamedStructure
from mlepi.litter import remove_litter
from mlepi.pipeline import Run
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.progress import write_time
from mlepi.project_files import write_json
from mlepi.run_lock import acquire
from mlepi.stopping import Stopped, stop_if_requested
from mlepi.structures import read_forces_dataset, split_structures, write_split
from mlepi.study.card import describe_round, write_card
from mlepi.study.choice import Chosen, choose_at_random, choose_informative
from mlepi.study.files import (
    describe_settings,
    extend_split,
    keep_file,
    list_split,
    write_structure,
    write_structures,
)
from mlepi.study.progress import GO_ON, PATIENCE, REACHED, SPENT, Decision, decide
from mlepi.study.rounds import (
    Finished,
    Memory,
    check_same,
    read_memory,
)
from mlepi.study.settings import (
    CHOSEN,
    DATA,
    OVERLAP,
    RANDOM,
    SPLIT,
    StudySettings,
    build_design,
    build_infer,
    build_label,
    build_trainings,
    write_word,
)
from mlepi.study.steps import (
    Record,
    Start,
    Step,
    read_record,
    run_step,
    start_child,
    sum_seconds,
    write_record,
)
from mlepi.study.targets import choose_target, find_stage, look_at
from mlepi.untrusted import read_json

CHOICE, SAMPLE = "choice.json", "sample"
HOUR = 3600.0
SAMPLING = 0.7
"""Part of the wanted error that is left to the samples: as many are taken, once the networks allow
it. 0.7² is half of its square."""


@dataclass(frozen=True)
class Limits:
    """When a study stops; all of it may change while it goes on.

    Attributes:
        target_error: half width of the 68 % interval that is wanted, in the unit of the target;
            None takes ``relative_error``.
        relative_error: the same in parts of the target.
        hours: that may be spent; None for no bound.
        max_labels: that may be made.
        max_samples: displaced supercells per temperature at the end, at most, where the networks
            are good enough.
        patience: rounds after which labels that did not help stop it.
    """

    target_error: float | None
    relative_error: float
    hours: float | None
    max_labels: int
    max_samples: int
    patience: int = PATIENCE

    def find_error(self, value: float) -> float:
        """Return the error that is wanted of a value of the target."""
        return self.relative_error * abs(value) if self.target_error is None else self.target_error


@dataclass(frozen=True)
class Outcome:
    """How a study stands.

    Attributes:
        target: observable.
        rounds: that are finished.
        decision: why it stops.
    """

    target: str
    rounds: Sequence[Finished]
    decision: Decision


class _SpentError(Exception):
    """The hours are spent in the middle of a round, or the candidates."""


class Study:
    """A study in its folder.

    Args:
        settings: that decide it.
        limits: when it stops.
        atoms: primitive cell of the material, Å, with layers.
        stages: all that there are.
        open_run: returns the run of a folder of ``mlepi infer`` from the words of that command.
        tell: says one line.
        start: runs the command of a step.
    """

    def __init__(
        self,
        settings: StudySettings,
        limits: Limits,
        atoms: Atoms,
        stages: Stages,
        open_run: Callable[[Sequence[str]], Run],
        tell: Callable[[str], None],
        start: Start = start_child,
    ) -> None:
        self.settings, self.limits, self._atoms, self._stages = settings, limits, atoms, stages
        self._open_run, self._tell, self._start = open_run, tell, start
        self._memory = Memory({})

    def run(self) -> Outcome:
        """Do what is left to do.

        Raises:
            DataError: the folder holds another study, or another process is at work in it.
            MlepiError: a step failed.
            Stopped: a signal has asked for it.
        """
        folder = self.settings.folder
        with acquire(folder):
            remove_litter(folder, deep=False)
            self._begin()
            try:
                decision = self.judge()
                while not decision.stop:
                    if decision.action == SAMPLE:
                        self._take_samples(len(self._memory.rounds) - 1)
                    else:
                        self._do_round(len(self._memory.rounds))
                    decision = self.judge()
                    self._remember(decision)
            except _SpentError as spent:
                decision = Decision(SPENT, str(spent), None)
            except Stopped as stopped:
                stopped.add_note(f"The study is kept in {folder}; the same command goes on there.")
                raise
            write_card(folder, self._memory, decision)
        return Outcome(self._memory.target, self._memory.rounds, decision)

    def judge(self) -> Decision:
        """Decide what is to be done after the rounds so far."""
        rounds = self._memory.rounds
        if not rounds:
            return Decision(GO_ON, "nothing is labelled yet", None)
        last, options = rounds[-1], (self.limits.hours, self.limits.patience)
        wanted = self.limits.find_error(last.values[last.worst])
        more = last.n_samples < self.limits.max_samples
        known = [each.to_round(SAMPLING * wanted if more else None) for each in rounds]
        decision = decide(known, wanted, max_hours=options[0], patience=options[1])
        error = last.to_round().error
        if decision.action == REACHED and error > wanted:
            why = f"error {error:.3g} of {wanted:.3g}, which more samples can reach"
            return Decision(SAMPLE, why, decision.forecast)
        if decision.stop:
            return decision
        if last.n_labels >= self.limits.max_labels:
            return replace(
                decision, action=SPENT, reason=f"{decision.reason}; max_labels is reached"
            )
        next_hours, left = self._forecast_round(), self._hours_left()
        if next_hours > left:
            why = f"the next round takes about {next_hours:.2g} h, {max(left, 0.0):.2g} h are left"
            return replace(decision, action=SPENT, reason=f"{decision.reason}; {why}")
        return decision

    def _begin(self) -> None:
        """Read what the folder remembers, or begin."""
        settings = self.settings
        made_from = describe_settings(settings, self._atoms)
        stored = read_memory(settings.folder)
        if stored is not None:
            check_same(settings.folder, stored.made_from, made_from)
            self._memory = stored
            done = f"{len(stored.rounds)} rounds" if stored.rounds else "no round"
            self._tell(f"goes on          {done} finished, {self._hours():.3g} h spent")
            return
        write_structure(settings.structure, self._atoms)
        self._memory = Memory(made_from)
        self._memory.write(settings.folder)

    def _remember(self, decision: Decision) -> None:
        """Keep what was decided after the last round, and tell it."""
        *before, last = self._memory.rounds
        last = replace(last, action=decision.action, reason=decision.reason)
        self._memory = replace(self._memory, rounds=(*before, last))
        self._memory.write(self.settings.folder)
        write_card(self.settings.folder, self._memory, decision)
        for line in describe_round(len(before), self._memory.target, last):
            self._tell(line)

    def _do_round(self, number: int) -> None:
        """Do what is left of a round; at its end it is remembered."""
        settings, folder = self.settings, self.settings.round_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        self._choose(number)
        self._do(number, build_label(settings, number))
        names = self._keep_labels(number)
        for step in build_trainings(settings, number):
            self._do(number, step)
        targets = (self._memory.target,) if self._memory.target else settings.targets
        stages = list(dict.fromkeys(find_stage(target, self._stages) for target in targets))
        step = build_infer(settings, number, stages)
        self._do(number, step)
        run = self._open_run(step.words[1:])
        target = self._memory.target or choose_target(run, targets, self._stages)
        look = look_at(run, target, self._stages)
        others = [
            look_at(run, other, self._stages)
            for name in stages
            for other in getattr(self._stages[name], "targets", ())
            if other != target
        ]
        done = Finished.of(look, len(names), self._hours(), others, settings.n_samples)
        self._memory = replace(self._memory, target=target, rounds=(*self._memory.rounds, done))
        self._memory.write(settings.folder)

    def _take_samples(self, number: int) -> None:
        """Take as many samples of a finished round as the wanted error asks for."""
        settings, last = self.settings, self._memory.rounds[number]
        target = self._memory.target
        wanted = SAMPLING * self.limits.find_error(last.values[last.worst])
        step = build_infer(settings, number, [find_stage(target, self._stages)])
        words = [
            write_word("n_samples", self.limits.max_samples),
            write_word("stage.sampling.target", target),
            write_word("target_error", wanted),
        ]
        step = Step(f"samples_{self.limits.max_samples}", (*step.words, *words), step.result)
        self._do(number, step)
        look = look_at(self._open_run(step.words[1:]), target, self._stages)
        done = Finished.of(look, last.n_labels, self._hours(), (), self.limits.max_samples)
        done = replace(done, spreads=last.spreads)
        rounds = (*self._memory.rounds[:number], done)
        self._memory = replace(self._memory, rounds=rounds)
        self._memory.write(settings.folder)

    def _do(self, number: int, step: Step) -> None:
        """Do a step, unless the hours are spent or it is done."""
        folder = self.settings.round_folder(number)
        if read_record(folder, step.name).done and step.result.exists():
            return
        if self._hours_left() <= 0.0:
            left = f"{self._hours():.3g} h spent; round {number} is not finished"
            raise _SpentError(f"{left}, and goes on with more hours")
        name = step.name.replace("_", " ")
        self._tell(f"round {number:<2}         {name} …")
        seconds = run_step(folder, step, self._start)
        self._tell(f"round {number:<2}         {name} done, {write_time(seconds)}")

    def _choose(self, number: int) -> None:
        """Write the structures that a round labels; they stay as they were once chosen."""
        settings, folder = self.settings, self.settings.round_folder(number)
        if (folder / CHOICE).is_file():
            return
        if settings.candidates:
            known = {job.name for job in LabelledSet(settings.labels).jobs()}
            candidates = read_structures(list(settings.candidates))
            candidates = [one for one in candidates if one.name not in known]
        else:
            step = build_design(settings, number)
            self._do(number, step)
            candidates = [
                replace(one, name=f"r{number:02d}_{one.name}")
                for one in read_structures([step.result])
            ]
        n_wanted = settings.n_more if number else settings.n_first
        n_wanted = min(n_wanted, self.limits.max_labels - self._count_labels())
        if not candidates:
            raise _SpentError("no candidate is left; candidates=[FILE,FILE] gives more")
        before = read_record(folder, "choose").seconds
        begin = time.monotonic()
        if number and settings.select != RANDOM:
            chosen = self._choose_informative(number, candidates, n_wanted)
        elif number or settings.candidates:
            chosen = choose_at_random(len(candidates), n_wanted, (settings.seed, number))
        else:  # a design has its most different structures first
            chosen = Chosen(range(min(n_wanted, len(candidates))))
        write_structures(folder / CHOSEN, [candidates[place] for place in chosen.order])
        write_json(folder / CHOICE, chosen.to_plain([one.name for one in candidates]))
        write_record(folder, "choose", Record(True, before + time.monotonic() - begin))
        fall = ""
        if len(chosen.variances) > 1 and chosen.variances[0] > 0.0:
            share = 1.0 - (chosen.variances[-1] / chosen.variances[0]) ** 0.5
            fall = f"; they should lower the networks' error by {100.0 * share:.0f} %"
        count = f"{len(chosen.order)} of {len(candidates)} structures"
        self._tell(f"round {number:<2}         chose {count}{fall}")

    def _choose_informative(
        self, number: int, candidates: Sequence[NamedStructure], n_wanted: int
    ) -> Chosen:
        """Choose by what the networks of the round before say."""
        settings, target = self.settings, self._memory.target
        step = build_infer(settings, number - 1, [find_stage(target, self._stages)])
        run = self._open_run(step.words[1:])
        look = look_at(run, target, self._stages)
        return choose_informative(
            run, look, candidates, n_wanted, settings.n_compared, stop_if_requested
        )

    def _count_labels(self) -> int:
        """Return how many structures are labelled."""
        jobs = LabelledSet(self.settings.labels).jobs()
        return sum(job.read_state().status == DONE for job in jobs)

    def _keep_labels(self, number: int) -> list[str]:
        """Keep the labels as they are now for the trainings of a round, and divide them."""
        settings, folder = self.settings, self.settings.round_folder(number)
        names = [one.name for one in read_forces_dataset(settings.labels / DATA["phonon"])]
        if (folder / SPLIT).is_file():
            return list_split(folder / SPLIT)
        for name in (*DATA.values(), OVERLAP):
            if (settings.labels / name).is_file():
                keep_file(settings.labels / name, folder / name)
        for kind in settings.trained:
            if not (folder / DATA[kind]).is_file():
                got, fix = f"labels without {DATA[kind]}", f"Give {kind}=FILE, or another dft=."
                raise DataError(message(str(settings.labels), got, "what it trains on", fix))
        if number:
            earlier = read_json(settings.round_folder(number - 1) / SPLIT)["split"]
            split = extend_split(earlier, names, settings.fractions)
        else:
            structures = read_forces_dataset(folder / DATA["phonon"])
            split, _ = split_structures(structures, self._first_fractions(len(names)))
        write_split(folder / SPLIT, split, {"round": number})
        return names

    def _first_fractions(self, n_labels: int) -> tuple[float, float, float] | None:
        """Return fractions that leave no subset empty; None lets few labels choose their own."""
        smallest = min(self.settings.fractions)
        return self.settings.fractions if smallest * n_labels >= 1.0 else None

    def _hours(self) -> float:
        return sum_seconds(self.settings.folder) / HOUR

    def _hours_left(self) -> float:
        hours = self.limits.hours
        return float("inf") if hours is None else hours - self._hours()

    def _forecast_round(self) -> float:
        """Return the hours of the next round: those of the last, with more labels to train on."""
        rounds = self._memory.rounds
        before = rounds[-2].hours if len(rounds) > 1 else 0.0
        last = rounds[-1]
        return (last.hours - before) * (last.n_labels + self.settings.n_more) / last.n_labels
