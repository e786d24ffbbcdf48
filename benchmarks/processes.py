"""Measure what a second process gains: samples of an inference, and epochs of a training.

``python benchmarks/processes.py [--n-samples 96] [--epochs 4] [--rounds 2] [--parts inference]``.

One thread per process, on a machine that should have two cores to itself. Inference: the demo's
6×6 cell at 300 K with one electron network, by one process, two ranks, and one and two workers of
dask; everything before the samples is there already, and the seconds are those that the run tells
for them, in which workers of dask start. Training: an epoch of the phonon network in steps of eight
structures, by one process and by two (DDP), on 192 structures of 64 atoms each and on the shipped
set, whose structures have 4 to 64 atoms and few of which fit together evenly; the first epoch is
left out. What the machine has to give: two inferences of half of the
samples each beside one another, and two trainings on 64 atoms in steps of four structures.
Wall-clock seconds, all sides in turn, the fastest round.

Writes ``results/processes.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from speed_settings import describe_machine

from mlepi.project_files import find_commit
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.structures import build_graphene

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DEMO = (
    *("experiment=demo", "electron=data/checkpoints/hedgenet_electron.ckpt"),
    *("temperature=300", "report=false", "logger=csv"),
)
INFERENCE: Mapping[str, Sequence[str]] = {
    "one process": ("trainer.devices=1",),
    "two ranks": ("trainer.devices=2",),
    "one worker of dask": ("trainer.devices=1", "engine=dask", "engine.workers=1"),
    "two workers of dask": ("trainer.devices=1", "engine=dask", "engine.workers=2"),
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
STEPS = {"one process": 8, "two processes": 8, "one beside another": 4}
"""Structures per step: two processes share them, and two trainings take half of them each."""
N_EQUAL = 240
"""Structures of 64 atoms, eight tenths of which are trained on."""
SAMPLES_LINE = r"\] - samples +([.\d]+) s  "
"""The line of the log of an inference which says how long its samples took."""
EPOCH_LINE = r"^\[([-\d]+ [:\d]+,\d+)\].* - epoch \d+"
"""A line of the log of a training which says when an epoch has ended."""


def run(script: str, *words: str) -> None:
    """Run a script of the project."""
    command = [sys.executable, str(ROOT / script), *words]
    subprocess.run(command, check=True, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603


def time_samples(words: Sequence[str], prepared: Path, folder: Path, n_samples: int) -> float:
    """Return the seconds that samples take, those that are there already left out."""
    shutil.copytree(prepared, folder)
    run("infer.py", *DEMO, *words, f"folder={folder}", f"n_samples={n_samples}")
    seconds = re.findall(SAMPLES_LINE, (folder / "infer.log").read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return float(seconds[-1])


def time_samples_beside_another(prepared: Path, folder: Path, n_samples: int) -> float:
    """Return the seconds of so many samples, half of them by each of two runs at a time."""
    words = INFERENCE["one process"]
    with ThreadPoolExecutor() as pool:
        both = [
            pool.submit(time_samples, words, prepared, folder / name, n_samples // 2)
            for name in "ab"
        ]
        return max(one.result() for one in both)


def measure_inference(folder: Path, n_samples: int, rounds: int) -> dict[str, float]:
    """Return side → seconds of all samples."""
    prepared = folder / "prepared"
    run("infer.py", *DEMO, "trainer.devices=1", f"folder={prepared}", "n_samples=2")
    sides: dict[str, Callable[[], float]] = {
        name: partial(time_samples, words, prepared, folder / "run", n_samples)
        for name, words in INFERENCE.items()
    }
    sides["one beside another"] = partial(
        time_samples_beside_another, prepared, folder / "run", n_samples
    )
    return take_turns(sides, rounds)


def write_equal(path: Path) -> None:
    """Write structures of 64 atoms, displaced at random, with the forces of springs."""
    ideal = build_graphene(stacking="AB", spacing=3.35).repeat((4, 4, 1))
    springs, frames = HoneycombSprings(), []
    for seed in range(N_EQUAL):
        atoms = ideal.copy()
        atoms.rattle(0.03, seed=seed)
        springs.calculate(atoms)
        atoms.calc = SinglePointCalculator(atoms, **springs.results)
        frames.append(atoms)
    write(path, frames)


def time_epoch(words: Sequence[str], folder: Path, epochs: int, side: str) -> float:
    """Return the seconds of the fastest epoch but the first."""
    size = f"data.batch_size={STEPS[side]}"
    given = ["experiment=ship_phonon", f"optimizer.max_epochs={epochs}", size, "test=false", *words]
    run("train.py", *given, f"hydra.run.dir={folder}")
    log = (folder / "train.log").read_text(encoding="utf-8")
    ends = [
        datetime.fromisoformat(text) for text in re.findall(EPOCH_LINE, log, flags=re.MULTILINE)
    ]
    shutil.rmtree(folder)
    return min((b - a).total_seconds() for a, b in itertools.pairwise(ends))


def time_beside_another(words: Sequence[str], folder: Path, epochs: int, side: str) -> float:
    """Return half the seconds of an epoch while another process does the same."""
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(time_epoch, words, folder / name, epochs, side) for name in "ab"]
        return max(one.result() for one in both) / 2.0


def measure_training(folder: Path, epochs: int, rounds: int, equal: bool) -> dict[str, float]:
    """Return side → seconds of an epoch.

    Args:
        folder: for what comes out.
        epochs: of every training.
        rounds: of all sides in turn.
        equal: whether on structures of 64 atoms each, else on the shipped set.
    """
    data = ("data=forces", f"data.path={folder / 'equal.extxyz'}") if equal else ()
    if equal:
        write_equal(folder / "equal.extxyz")
    alone, shared = (*data, "trainer.accelerator=cpu"), (*data, "trainer=ddp_cpu")
    sides: dict[str, Callable[[], float]] = {
        "one process": partial(time_epoch, alone, folder / "run", epochs, "one process"),
        "two processes": partial(time_epoch, shared, folder / "run", epochs, "two processes"),
    }
    if equal:
        name = "one beside another"
        sides[name] = partial(time_beside_another, alone, folder, epochs, name)
    return take_turns(sides, rounds)


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the fastest round of every side; they run one after the other."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
            print(f"{name}: {found[name][-1]:.1f} s", flush=True)
    return {name: min(seconds) for name, seconds in found.items()}


def tabulate(part: str, seconds: Mapping[str, float]) -> str:
    """Return the rows of one part; workers of dask are compared with one worker."""
    rows = []
    for name, value in seconds.items():
        reference = seconds["one worker of dask" if "dask" in name else "one process"]
        rows.append(f"| {part} | {name} | {value:.1f} | {reference / value:.2f} |")
    return "\n".join(rows)


def describe(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of all parts."""
    rows = "\n".join(tabulate(part, found["seconds"]) for part, found in parts.items())
    commands = ", ".join(sorted({f"`{found['command']}`" for found in parts.values()}))
    machine = describe_machine()["processor"]
    return (
        f"# What a second process gains\n\n{commands}; {machine}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}. Wall-clock seconds: of samples of a 6×6 bilayer, and of an epoch of "
        "the phonon network in steps of eight structures. "
        "One beside another: two runs at a time which share nothing, each with half of the work; "
        "what the machine has to give. Workers of dask are compared with one of them, and what "
        "they need to start is in their time.\n\n"
        f"| part | side | seconds | one / side |\n|---|---|---|---|\n{rows}\n"
    )


PARTS: Mapping[str, Callable[[Path, argparse.Namespace], dict[str, float]]] = {
    "inference": lambda folder, chosen: measure_inference(folder, chosen.n_samples, chosen.rounds),
    "training": lambda folder, chosen: measure_training(folder, chosen.epochs, chosen.rounds, True),
    "shipped": lambda folder, chosen: measure_training(folder, chosen.epochs, chosen.rounds, False),
}
"""Name of a part → what measures it: samples, equal structures, and the shipped set."""


def main() -> None:
    """Measure, print and write; parts that were measured before stay."""
    parser = argparse.ArgumentParser(description="Measure what a second process gains.")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--n-samples", type=int, default=96, help="of the inference")
    parser.add_argument("--epochs", type=int, default=4, help="of the training")
    parser.add_argument("--rounds", type=int, default=2, help="of all sides in turn")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / "processes.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    for part in chosen.parts:
        with tempfile.TemporaryDirectory() as name:
            seconds = PARTS[part](Path(name), chosen)
        parts[part] = {
            "command": " ".join(["python benchmarks/processes.py", *sys.argv[1:]]),
            "commit": find_commit(ROOT / "mlepi"),
            "machine": describe_machine(),
            "seconds": seconds,
        }
        path.write_text(json.dumps({"parts": parts}, indent=1) + "\n", encoding="utf-8")
    page = describe(parts)
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
