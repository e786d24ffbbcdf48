"""Processor seconds of the inference pipeline per sample and stage, on the demo's supercell.

    OMP_NUM_THREADS=1 python benchmarks/pipeline.py

One core, medians over samples at the highest temperature.
``fermi_velocity, every k afresh`` solves each k-point without help from its neighbours. Writes
``benchmarks/results/pipeline.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mlepi.command_line import compose_config
from mlepi.observables import all_stages
from mlepi.physics.eigenstates import state_follower
from mlepi.pipeline import Ensemble, Run, SampleKey
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.ghosts import count_ghosts
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages

PROJECT = Path(__file__).resolve().parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "pipeline.json"
ONE = "electron=data/checkpoints/hedgenet_electron.ckpt"
"""Override that leaves one electron network of the demo's committee."""

PREPARATION = ("structure", "phonon", "sampling", "hamiltonian")


def measure_processor_seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of this process during a call, and its result."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def measure_command(*arguments: str) -> float:
    """Return the processor seconds of ``python infer.py …``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(PROJECT / "infer.py"), "logger=csv", *arguments]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path, n_samples: int, electron: str | None = ONE) -> Run:
    """Run the stages of the demo before the samples; without ``electron`` with its committee."""
    overrides = ["experiment=demo", f"n_samples={n_samples}", *([electron] if electron else [])]
    config = compose_config(PROJECT / "conf", "infer", overrides)
    run = check_config(config, all_stages()).build_run(folder)
    run_stages(run, PREPARATION, Processes(), ProgressReport(quiet=True))
    return run


def measure_samples(run: Run) -> dict[str, float]:
    """Measure every step of a sample; the first sample warms up."""
    seconds: dict[str, list[float]] = {}
    ensemble, settings = run.ensemble(), run.settings
    stage: Any = run.stages["fermi_velocity"]
    prepared, model = stage.prepare(ensemble), run.networks.electron
    followed = state_follower.FOLLOWED_ORBITALS
    for number in range(ensemble.n_samples):
        key = SampleKey(number, max(ensemble.temperatures))
        steps = {}
        steps["displacements"], atoms = measure_processor_seconds(partial(ensemble.displaced, key))
        predict = partial(model.hamiltonian, atoms, device="cpu", dtype=settings.dtype)
        steps["H"], h = measure_processor_seconds(predict)
        steps["S"], s = measure_processor_seconds(partial(model.overlap, atoms))
        build = partial(ensemble.build_sample, key, atoms, h, s)
        steps["level shift"], sample = measure_processor_seconds(build)
        ghosts = partial(count_ghosts, sample, ensemble.ghost_energy)
        steps["ghost states"], _ = measure_processor_seconds(ghosts)
        evaluate = partial(stage.evaluate, prepared, sample)
        steps["fermi_velocity"], _ = measure_processor_seconds(evaluate)
        state_follower.FOLLOWED_ORBITALS = sample.overlap.n_orbitals + 1
        try:
            steps["fermi_velocity, every k afresh"], _ = measure_processor_seconds(evaluate)
        finally:
            state_follower.FOLLOWED_ORBITALS = followed
        for name, value in steps.items():
            seconds.setdefault(name, []).append(value)
    return {name: median(values[1:]) for name, values in seconds.items()}


def measure_batches(run: Run, sizes: tuple[int, ...] = (1, 4)) -> dict[str, float]:
    """Measure the network per sample in batches of several sizes."""
    ensemble: Ensemble = run.ensemble()
    structures = [
        ensemble.displaced(SampleKey(number % ensemble.n_samples, max(ensemble.temperatures)))
        for number in range(max(sizes))
    ]
    model: Any = run.networks.electron
    seconds = {}
    for size in sizes:
        predict = partial(model.hamiltonians, structures[:size], dtype=run.settings.dtype)
        seconds[f"H in batches of {size}"] = median(
            measure_processor_seconds(predict)[0] / size for _ in range(3)
        )
    return seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description="Processor seconds of the inference pipeline per sample and stage."
    )
    parser.add_argument("--samples", type=int, default=6, help="samples, one of them to warm up")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        quiet = (f"folder={folder}/start", "report=false")
        commands = {
            "start, --help": measure_command("--help"),
            "start, to the end of stage=structure": measure_command("stage=structure", *quiet),
        }
        run = prepare(Path(folder) / "run", arguments.samples)
        seconds = commands | measure_samples(run) | measure_batches(run)
        n_atoms = len(run.ensemble().displaced(SampleKey(0, 0.0)))
    result = {
        "n_atoms": n_atoms,
        "dtype": run.settings.dtype,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "processor_seconds": seconds,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, value in seconds.items():
        print(f"{name:<40} {value:8.3f} s")


if __name__ == "__main__":
    main()
