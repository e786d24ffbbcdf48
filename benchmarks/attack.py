"""Attack the package with everything there is, and print what it stood: ``make attack``.

Doctored files and configs, faults of the file system at every call, kills of runs, ranks, trainings
and workers, two runs in one folder, and signals of schedulers. Every run is repeated after it was
disturbed, and must end with the records of an undisturbed one. All is drawn from the seed.

    python benchmarks/attack.py --share 0.1 --parts kills signals
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("", "tests", "tests/attacks")]

import numpy as np  # noqa: E402 - after the environment
from doctored import attack_configs, attack_content, attack_structures  # noqa: E402
from fault_scenarios import list_runs, list_writers, throw  # noqa: E402
from forks import call  # noqa: E402
from kills import (  # noqa: E402
    OTHER,
    Attempt,
    Program,
    kill_once,
    kill_workers,
    list_programs,
    meet,
    remove,
    run_whole,
    stop_once,
)
from mutations import attack  # noqa: E402
from small_files import OWN, make_all  # noqa: E402
from warm_python import import_everything  # noqa: E402

from mlepi.reference_systems.generate import DataSettings, generate  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
COUNTS: Mapping[str, Mapping[str, int]] = {
    "kills": {"inference": 30, "ranks": 10, "training": 14, "ddp": 4, "dask": 4, "workers": 4},
    "signals": {"inference": 12, "training": 9, "ranks": 3},
    "races": {"inference": 50},
    "faults": {"writers": 8, "runs": 20},
    "inputs": {"bytes": 165, "content": 60, "configs": 1200},
}
"""Part → how often at the full size; bytes and content of every format, faults of every writer."""
SECONDS: Mapping[str, float] = {
    **{"kills": 5.0, "signals": 6.0, "races": 4.0, "faults": 1.0, "inputs": 0.07},
}
"""Processor time of one, roughly, for the first word of the time that is left."""
BESIDE = ("faults", "inputs")
"""Parts whose outcome does not depend on how busy the machine is."""
WORKERS = 3
"""Workers that are killed in one run."""
BAD = ("silent", "raw", "hang", "large")


@dataclass
class Tally:
    """What was found so far.

    Attributes:
        counts: part → result → number.
        findings: everything that went wrong, as plain data.
        numbers: further figures.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)

    def add(self, part: str, result: str, fine: bool, content: Mapping[str, Any]) -> None:
        """Note one outcome, and show it if it is not fine."""
        self.counts.setdefault(part, Counter())[result] += 1
        if not fine:
            self.findings.append({"part": part, **content})
            text = ", ".join(f"{k}: {str(v)[-700:]}" for k, v in content.items() if v)
            print(f"  FOUND {part}: {text}", flush=True)


class Clock:
    """Says how far the attack is, and how long it will take."""

    def __init__(self, plan: Mapping[str, int]) -> None:
        self.plan, self.done = dict(plan), Counter[str]()
        self.spent = dict.fromkeys(plan, 0.0)
        self.begin = self.last = self.before = time.monotonic()

    def tick(self, part: str, n: int = 1) -> None:
        """Note that something of a part is done; print a line every ten seconds."""
        now = time.monotonic()
        self.done[part] += n
        self.spent[part] += now - self.before
        self.before = now
        if now - self.last < 10.0:
            return
        self.last = now
        left = 0.0
        for name, total in self.plan.items():
            done = self.done[name]
            rate = self.spent[name] / done if done else SECONDS[name]
            left += max(0, total - done) * rate
        where = f"{part} {self.done[part]}/{self.plan[part]}"
        print(f"{now - self.begin:6.0f} s  {where}, about {left / 60:.1f} min left", flush=True)


def scale(part: str, share: float) -> dict[str, int]:
    """Return how often each kind is done at a size."""
    return {name: max(1, round(n * share)) for name, n in COUNTS[part].items()}


def count_plan(parts: Sequence[str], share: float) -> dict[str, int]:
    """Return how many outcomes each part gives, roughly."""
    found: dict[str, int] = {}
    for part in parts:
        counts = scale(part, share)
        found[part] = sum(counts.values())
        if part == "inputs":
            found[part] = 22 * counts["bytes"] + 13 * counts["content"] + counts["configs"]
        if part == "faults":
            found[part] = len(list_writers()) * counts["writers"] + 2 * counts["runs"]
    return found


class Wholes:
    """Programs and what they leave when nothing disturbs them; each is run once."""

    def __init__(self, folder: Path) -> None:
        data = folder / "data"
        ended = call(lambda: generate(data, DataSettings(n_structures=20)))
        if ended.status:
            raise RuntimeError(ended.text)
        self.folder, self.programs = folder, list_programs(data)
        self._found: dict[str, tuple[str, float]] = {}

    def get(self, name: str) -> tuple[Program, str, float]:
        """Return a program, the digest of its results, and its duration."""
        program = self.programs[name]
        if name not in self._found:
            self._found[name] = run_whole(program, self.folder / f"whole {name}")
            seconds = self._found[name][1]
            print(f"  {program.name} takes {seconds:.1f} s undisturbed", flush=True)
        return (program, *self._found[name])


def attack_by_kills(wholes: Wholes, rng: np.random.Generator, share: float) -> Iterator[Attempt]:
    """Kill runs, ranks, trainings, and workers of dask, and their first processes."""
    for name, n in scale("kills", share).items():
        program, whole, seconds = wholes.get("dask" if name == "workers" else name)
        victims = cycle(["first"] if name in ("inference", "training") else ["child", "first"])
        for k in range(n):
            folder = wholes.folder / f"kill {name} {k}"
            if name == "workers":
                yield kill_workers(program, folder, whole, rng, WORKERS)
            else:
                delay = float(rng.uniform(0.0, 1.05 * seconds))
                victim, choice = next(victims), float(rng.random())
                yield kill_once(program, folder, whole, delay, victim, choice)
            remove(folder)


def attack_by_signals(wholes: Wholes, rng: np.random.Generator, share: float) -> Iterator[Attempt]:
    """Send the signals of schedulers and of users at random times."""
    signals = cycle(["SIGTERM", "SIGUSR1", "SIGINT"])
    for name, n in scale("signals", share).items():
        program, whole, seconds = wholes.get(name)
        ready = "train.log" if name == "training" else "run.lock"
        for k in range(n):
            folder = wholes.folder / f"signal {name} {k}"
            delay = float(rng.uniform(0.0, 0.8 * seconds))
            yield stop_once(program, folder, whole, delay, next(signals), ready)
            remove(folder)


def attack_by_races(wholes: Wholes, rng: np.random.Generator, share: float) -> Iterator[Attempt]:
    """Start two runs of different seeds in one folder, every other time at the same moment."""
    program, whole, seconds = wholes.get("inference")
    both = (whole, run_whole(program, wholes.folder / "whole other", OTHER)[0])
    for k in range(scale("races", share)["inference"]):
        folder = wholes.folder / f"race {k}"
        yield meet(program, folder, both, k % 2 * float(rng.uniform(0.0, 0.8 * seconds)))
        remove(folder)


def attack_by_faults(folder: Path, seed: int, share: float) -> Iterator[Any]:
    """Throw faults at everything that writes."""
    counts = scale("faults", share)
    for n, scenarios in ((counts["writers"], list_writers()), (counts["runs"], list_runs())):
        for number, scenario in enumerate(scenarios):
            place = folder / f"faults {scenario.name}"
            yield from throw(scenario, place, np.random.default_rng([seed, number]), n)
            remove(place)


def attack_by_inputs(folder: Path, seed: int, share: float) -> Iterator[Any]:
    """Read doctored files and configs."""
    counts = scale("inputs", share)
    place = folder / "inputs"
    place.mkdir()
    yield from attack_structures(place)
    yield from attack_configs(place / "data", np.random.default_rng(seed), counts["configs"])
    for number, (name, small) in enumerate(make_all(place).items()):
        rng = np.random.default_rng([seed, number])
        yield from attack(name, small, rng, counts["bytes"])
        yield from attack_content(name, small, rng, counts["content"])


def is_acceptable(name: str, result: str) -> bool:
    """Tell whether an outcome of reading is what it should be.

    Foreign files without checksums may read as other content where a digit is another digit.
    """
    return result not in BAD or (result == "silent" and name not in (*OWN, *STRICT))


STRICT = ("structures", "config of an inference", "config of a training")
"""Beside mlepi's own formats, what must not be accepted with other content."""


def run(parts: Sequence[str], seed: int, share: float) -> Tally:
    """Attack; print what is found as it comes."""
    import_everything()
    tally, clock = Tally(), Clock(count_plan(parts, share))
    made = {
        "kills": attack_by_kills,
        "signals": attack_by_signals,
        "races": attack_by_races,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wholes: Wholes | None = None
        for number, (part, make) in enumerate(made.items()):
            if part in parts:
                wholes = Wholes(folder) if wholes is None else wholes
                rng = np.random.default_rng([seed, number])
                for attempt in _attempts(make(wholes, rng, share)):
                    tally.add(part, attempt.result, attempt.is_fine, asdict(attempt))
                    tally.numbers[f"{part}: processes killed"] += attempt.victims
                    tally.numbers["orphans"] += attempt.orphans
                    clock.tick(part)
        if "faults" in parts:
            for outcome in attack_by_faults(folder, seed, share):
                tally.add("faults", outcome.result, outcome.is_fine, asdict(outcome))
                clock.tick("faults")
        if "inputs" in parts:
            for found in attack_by_inputs(folder, seed, share):
                fine = is_acceptable(found.name, found.result)
                tally.add("inputs", found.result, fine, asdict(found))
                tally.numbers[f"inputs: {found.name}"] += 1
                if found.result == "silent" and fine:
                    tally.numbers["inputs: silent in foreign formats"] += 1
                clock.tick("inputs")
    return tally


def _attempts(attempts: Iterator[Attempt]) -> Iterator[Attempt]:
    """Give all attempts; what cannot even run undisturbed is one that went wrong."""
    try:
        yield from attempts
    except RuntimeError as error:
        yield Attempt("none", "", "fails by itself", str(error), 0)


def write_table(tally: Tally) -> str:
    """Return the figures as a table of Markdown."""
    empty: Counter[str] = Counter()
    inputs, kills, faults, races, signals = (
        tally.counts.get(name, empty) for name in ("inputs", "kills", "faults", "races", "signals")
    )
    foreign = tally.numbers["inputs: silent in foreign formats"]
    identical = kills["fine"] + sum(faults[name] for name in ("same", "told", "crash"))
    killed = tally.numbers["kills: processes killed"]
    rows = [
        ("inputs tried", inputs.total(), "≥ 5,000"),
        ("silent acceptance with other content", inputs["silent"] - foreign, "0"),
        ("other digits in foreign files that have no checksum", foreign, "–"),
        ("raw tracebacks", inputs["raw"] + faults["raw"], "0"),
        ("hangs", inputs["hang"] + faults["hang"] + kills["hang"], "0"),
        ("more than 200 MB", inputs["large"], "0"),
        (f"kills ({killed} processes) and faults", kills.total() + faults.total(), "≥ 160"),
        ("of these with identical results", identical, "all"),
        ("orphans > 10 s after any kill or signal", tally.numbers["orphans"], "0"),
        ("two runs on one folder, refused", f"{races['fine']} of {races.total()}", "50 of 50"),
        (
            "stop signals: right status and message, identical when resumed",
            f"{signals['fine']} of {signals.total()}",
            "all",
        ),
    ]
    lines = ["| | found | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {found} | {goal} |" for name, found, goal in rows)])


def run_all(parts: Sequence[str], seed: int, share: float, alone: bool) -> Tally:
    """Attack; what needs no time of its own runs beside the rest in a second process.

    Args:
        parts: of the attack.
        seed: of everything random.
        share: of the full size.
        alone: no second process.
    """
    beside = [part for part in parts if part in BESIDE]
    if alone or not beside or len(beside) == len(parts):
        return run(parts, seed, share)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "beside.json"
        options = ["--share", share, "--seed", seed, "--results", file, "--parts", *beside]
        command = [sys.executable, __file__, *map(str, options)]
        with subprocess.Popen(command) as process:  # noqa: S603 - this file
            tally = run([part for part in parts if part not in beside], seed, share)
        if process.returncode not in (0, 1):
            text = f"ended with status {process.returncode}"
            tally.add(" and ".join(beside), text, fine=False, content={"result": text})
            return tally
        found = json.loads(file.read_text())
    tally.counts |= {part: Counter(counts) for part, counts in found["counts"].items()}
    tally.findings += found["findings"]
    tally.numbers.update(found["numbers"])
    return tally


def main() -> int:
    """Attack, print the table, write the results, and fail where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", default=list(COUNTS), choices=list(COUNTS))
    parser.add_argument("--alone", action="store_true", help="in one process")
    parser.add_argument("--results", type=Path, default=RESULTS / "attack.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    begin = time.monotonic()
    tally = run_all(given.parts, given.seed, given.share, given.alone)
    seconds = time.monotonic() - begin
    table = write_table(tally)
    print(f"\n{table}\n\n{seconds / 60:.1f} min, {len(tally.findings)} findings")
    content = {
        "command": f"benchmarks/attack.py --share {given.share} --seed {given.seed}",
        "parts": given.parts,
        "minutes": round(seconds / 60, 2),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "counts": {part: dict(found) for part, found in tally.counts.items()},
        "numbers": dict(tally.numbers),
        "table": table.splitlines(),
        "findings": tally.findings,
    }
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"results in {given.results}")
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
