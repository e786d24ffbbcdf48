"""Processor seconds of v_F per sample against the size of the cell, on one core.

With the shipped checkpoints.

    OMP_NUM_THREADS=1 python benchmarks/fermi_velocity.py --sizes 6 9 12

At 21 k-points near K (11 of the supercell where K folds onto Γ), all estimators of
``fermi_velocity`` and that of ``self_energy``. In the smallest cell every level inside the energy
window is compared with a complete diagonalisation. Writes
``benchmarks/results/fermi_velocity.md`` and ``fermi_velocity.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mlepi.command_line import compose_config
from mlepi.observables import all_stages
from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline import Run, SampledStage, SampleKey
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages

PROJECT = Path(__file__).resolve().parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "fermi_velocity.json"
DISTANCES = [round(0.01 * n, 2) for n in range(11)]
TEMPERATURE = 300.0
ALL_STATES = "seconds, complete diagonalisation"
"""Key of the time of complete diagonalisation, with eigenvectors, at the same k-points."""

LIMITS = {"seconds": 5.0, "error (eV)": 1e-4}
"""What is asked of a 6×6 bilayer (1,152 orbitals)."""


def prepare(folder: Path, size: int, n_samples: int) -> Run:
    """Run the stages before the samples."""
    overrides = [
        "experiment=demo",
        "electron=data/checkpoints/hedgenet_electron.ckpt",  # one network
        f"supercell=[{size},{size},1]",
        f"temperature=[{TEMPERATURE:g}]",
        f"n_samples={max(2, n_samples)}",
        f"stage.fermi_velocity.distances={DISTANCES}",
        f"stage.self_energy.distances={DISTANCES}",
    ]
    config = compose_config(PROJECT / "conf", "infer", overrides)
    run = check_config(config, all_stages()).build_run(folder)
    run_stages(
        run,
        ("structure", "phonon", "sampling", "hamiltonian"),
        Processes(),
        ProgressReport(quiet=True),
    )
    return run


STAGES = ("fermi_velocity", "self_energy")
LARGEST_COMPARED = 9
"""N beyond which the levels are not compared with those of complete diagonalisation, which grows
with the sixth power of N."""


def measure(run: Run, n_samples: int) -> dict[str, Any]:
    """Measure both stages on some samples.

    The smallest time of each counts, since other programs can only add to it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in STAGES}
    ensemble, stages = run.ensemble(), cast(Mapping[str, SampledStage[Any]], run.stages)
    prepared = {name: stages[name].prepare(ensemble) for name in STAGES}
    n_orbitals = 0
    for number in range(n_samples):
        (sample,) = ensemble.predict([SampleKey(number, TEMPERATURE)])
        n_orbitals = sample.hamiltonian.n_orbitals
        for name, times in seconds.items():
            start = time.process_time()
            stages[name].evaluate(prepared[name], sample)
            times.append(time.process_time() - start)
    reference: ReferenceBands = prepared["fermi_velocity"].reference
    return {
        "n_orbitals": n_orbitals,
        "n_points": len(reference.kpoints),
        "n_solved": len(reference.solved),
        "n_samples": n_samples,
        "seconds": {name: min(times) for name, times in seconds.items()},
        "peak memory (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def compare(run: Run) -> dict[str, float]:
    """Compare one sample with complete diagonalisation at every k-point of the supercell.

    Returns:
        Largest errors, and its seconds.
    """
    stage: Any = run.stages["fermi_velocity"]
    ensemble = run.ensemble()
    reference: ReferenceBands = stage.prepare(ensemble).reference
    (sample,) = ensemble.predict([SampleKey(0, TEMPERATURE)])
    h, s = sample.hamiltonian, sample.overlap
    found = unfold_sample(reference, h, s, stage.energy_window)
    layouts, worst, total = (h.lay_out(), s.lay_out()), 0.0, 0.0
    for number, kpoint in enumerate(reference.solved):
        start = time.process_time()
        values = (
            solve_bands(layouts[0].at(kpoint), layouts[1].at(kpoint), vectors=True)[0]
            - reference.centre
        )
        total += time.process_time() - start
        levels = found["levels"][number][np.isfinite(found["levels"][number])]
        first = int(found["first"][number])
        worst = max(worst, float(np.abs(levels - values[first : first + len(levels)]).max()))
    return {"error (eV)": worst, ALL_STATES: total}


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Write the numbers, and a table with the exponent of the growth."""
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    lines = [
        "# Fermi velocity: processor seconds per sample, one core",
        "",
        "AB bilayer graphene at 300 K with the shipped checkpoints, `python "
        "benchmarks/fermi_velocity.py`. All estimators of a",
        "stage, without the prediction of H and S; the smallest time of the samples.",
        "",
        "| cell | orbitals | k-points (solved) | `fermi_velocity` (s) | `self_energy` (s) | all "
        "states (s) | largest error |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, row in sorted(rows.items(), key=lambda item: int(item[0])):
        seconds = row["seconds"]
        cells = [f"{size}×{size}", row["n_orbitals"], f"{row['n_points']} ({row['n_solved']})"]
        cells += [f"{seconds[name]:.1f}" if name in seconds else "—" for name in STAGES]
        compared = "error (eV)" in row
        cells += (
            [f"{row[ALL_STATES]:.1f}", f"{1e3 * row['error (eV)']:.4f} meV"]
            if compared
            else ["—", "—"]
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    if "6" in rows and "error (eV)" in rows["6"]:
        seconds, error = rows["6"]["seconds"]["fermi_velocity"], rows["6"]["error (eV)"]
        met = seconds <= LIMITS["seconds"] and error <= LIMITS["error (eV)"]
        lines += [
            "",
            f"Asked of 6×6: at most {LIMITS['seconds']:g} s and {1e3 * LIMITS['error (eV)']:g} "
            "meV: "
            f"{'met' if met else '**not met**'}.",
        ]
    if len(rows) > 1:
        for name in STAGES:
            known = [row for row in rows.values() if name in row["seconds"]]
            if len(known) > 1:
                orbitals = np.log([row["n_orbitals"] for row in known])
                exponent = float(
                    np.polyfit(
                        orbitals,
                        np.log([row["seconds"][name] / row["n_solved"] for row in known]),
                        1,
                    )[0]
                )
                lines.append(
                    f"Per solved k-point, `{name}` grows with the power {exponent:.2f} of the "
                    "number of orbitals."
                )
    RESULT.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write; the table is written after every size."""
    parser = argparse.ArgumentParser(
        description="Processor seconds of v_F per sample against the size of the cell."
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[6, 9, 12], help="N of N × N cells")
    parser.add_argument(
        "--samples", type=int, default=3, help="samples of the smallest cell; larger ones take one"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = (
        json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    )
    for size in sorted(arguments.sizes):
        smallest = size == min(arguments.sizes)
        with tempfile.TemporaryDirectory() as folder:
            run = prepare(Path(folder), size, arguments.samples if smallest else 1)
            rows[str(size)] = measure(run, arguments.samples if smallest else 1)
            if smallest and size <= LARGEST_COMPARED:
                rows[str(size)] |= compare(run)
        write(rows)
        print(size, json.dumps(rows[str(size)]), flush=True)


if __name__ == "__main__":
    main()
