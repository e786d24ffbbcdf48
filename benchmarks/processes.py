"""Measure what a second process gains: samples of an inference, and epochs of a training.

``python benchmarks/processes.py [--n-samples 60] [--epochs 3] [--rounds 2] [--parts inference]``.

One thread per process, on a machine that should have two cores to itself. Inference: the demo's
6×6 cell at 300 K with one electron network, by one process, two ranks, and one and two workers of
dask; everything before the samples is there already, and what the same command takes once its
samples are there too is taken off, so that what is left is their time. Training: an epoch of the
phonon network on the shipped set, by one process and by two (DDP); the first epoch is left out.
Wall-clock seconds, all sides in turn, the fastest round of each.

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
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import torch
from speed_settings import describe_machine

from mlepi.project_files import find_commit

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
TRAINING: Mapping[str, Sequence[str]] = {
    "one process": ("trainer.accelerator=cpu",),
    "two processes": ("trainer=ddp_cpu", "trainer.devices=2"),
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
BATCH = ("data.batch_size=2", "test=false")
"""Both sides take steps of two structures: two processes share them."""
EPOCH_LINE = r"^\[([-\d]+ [:\d]+,\d+)\].* - epoch \d+"
"""A line of the log of a training which says when an epoch has ended."""


def run(script: str, *words: str) -> float:
    """Run a script of the project; return its wall-clock seconds."""
    begin = time.monotonic()
    command = [sys.executable, str(ROOT / script), *words]
    subprocess.run(command, check=True, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.monotonic() - begin


def time_samples(words: Sequence[str], prepared: Path, folder: Path, n_samples: int) -> float:
    """Return the seconds that samples take, beyond those of a run that has them."""
    shutil.copytree(prepared, folder)
    given = [*DEMO, *words, f"folder={folder}", f"n_samples={n_samples}"]
    first, again = run("infer.py", *given), run("infer.py", *given)
    shutil.rmtree(folder)
    return first - again


def measure_inference(folder: Path, n_samples: int, rounds: int) -> dict[str, float]:
    """Return side → seconds of all samples."""
    prepared = folder / "prepared"
    run("infer.py", *DEMO, "trainer.devices=1", f"folder={prepared}", "n_samples=2")
    sides: dict[str, Callable[[], float]] = {
        name: partial(time_samples, words, prepared, folder / "run", n_samples)
        for name, words in INFERENCE.items()
    }
    return take_turns(sides, rounds)


def time_epoch(words: Sequence[str], folder: Path, epochs: int) -> float:
    """Return the seconds of the fastest epoch but the first."""
    given = ["experiment=ship_phonon", f"optimizer.max_epochs={epochs}", *BATCH, *words]
    run("train.py", *given, f"hydra.run.dir={folder}")
    log = (folder / "train.log").read_text(encoding="utf-8")
    ends = [
        datetime.fromisoformat(text) for text in re.findall(EPOCH_LINE, log, flags=re.MULTILINE)
    ]
    shutil.rmtree(folder)
    return min((b - a).total_seconds() for a, b in itertools.pairwise(ends))


def measure_training(folder: Path, epochs: int, rounds: int) -> dict[str, float]:
    """Return side → seconds of an epoch."""
    sides: dict[str, Callable[[], float]] = {
        name: partial(time_epoch, words, folder / "run", epochs) for name, words in TRAINING.items()
    }
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
    """Return the rows of one part."""
    reference = seconds["one process"]
    return "\n".join(
        f"| {part} | {name} | {value:.1f} | {reference / value:.2f} |"
        for name, value in seconds.items()
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Measure what a second process gains.")
    parser.add_argument("--parts", nargs="+", default=["inference", "training"])
    parser.add_argument("--n-samples", type=int, default=60, help="of the inference")
    parser.add_argument("--epochs", type=int, default=3, help="of the training")
    parser.add_argument("--rounds", type=int, default=2, help="of all sides in turn")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        if "inference" in chosen.parts:
            found["inference"] = measure_inference(Path(name), chosen.n_samples, chosen.rounds)
        if "training" in chosen.parts:
            found["training"] = measure_training(Path(name), chosen.epochs, chosen.rounds)
    command = " ".join(["python benchmarks/processes.py", *sys.argv[1:]])
    machine = describe_machine()
    rows = "\n".join(tabulate(part, seconds) for part, seconds in found.items())
    table = f"| part | side | seconds | one process / side |\n|---|---|---|---|\n{rows}\n"
    print(table)
    text = (
        f"# What a second process gains\n\n`{command}`, {machine['processor']}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}; wall-clock seconds of "
        f"{chosen.n_samples} samples of a 6×6 bilayer, and of an epoch of the phonon network on "
        f"the shipped set.\n\n{table}"
    )
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "processes.md").write_text(text, encoding="utf-8")
    record = {
        "command": command,
        "commit": find_commit(ROOT / "mlepi"),
        "machine": machine,
        "seconds": found,
    }
    (chosen.output / "processes.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
