"""Count the ghost states of many displaced supercells, with the networks and the cell of the demo.

    OMP_NUM_THREADS=1 python benchmarks/ghosts.py --samples 500 --temperatures 0 300

A ghost lies ``stage.hamiltonian.ghost_margin`` below the lowest level of the crystal at rest; it is
counted by inertia at Γ and at a general k-point, for H as it is predicted and with the level shift.
The networks are one network, the first, and all of them, whose mean drives the demo. Temperatures
share their random numbers. Writes ``ghosts.json`` and ``ghosts.md`` into ``--output``
(``benchmarks/results``), rows of other temperatures and networks kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pipeline import ONE, PROJECT, prepare

from mlepi.figures.tables import tabulate
from mlepi.pipeline import Run, SampleKey
from mlepi.pipeline.ghosts import count_ghosts

ELECTRONS = {"first": ONE, "mean": None}
"""Name of a choice of networks → override of the demo's config, None for none."""


def count(run: Run, temperature: float, n_samples: int) -> dict[str, float]:
    """Count samples with ghosts at one temperature.

    Returns:
        Samples, and those with a ghost without and with the level shift; seconds of all.
    """
    ensemble, start = run.ensemble(), time.monotonic()
    with_ghosts = [0, 0]
    for number in range(n_samples):
        (sample,) = ensemble.predict([SampleKey(number, temperature)])
        found = count_ghosts(sample, ensemble.ghost_energy)
        with_ghosts = [n + int(ghosts > 0) for n, ghosts in zip(with_ghosts, found, strict=True)]
        if number % 50 == 49:
            left = (time.monotonic() - start) / (number + 1) * (n_samples - number - 1)
            print(
                f"{temperature:g} K: {number + 1} of {n_samples}, {with_ghosts}, {left:.0f} s left",
                flush=True,
            )
    return {
        "samples": n_samples,
        "plain": with_ghosts[0],
        "shifted": with_ghosts[1],
        "seconds": time.monotonic() - start,
    }


def join(kept: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows in order, one in the place of that of the same networks and temperature."""
    rows = {(each["networks"], each["temperature"]): each for each in [*kept, row]}
    return [rows[key] for key in sorted(rows)]


def write(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows, as numbers and as a table."""
    (output / "ghosts.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    head = ["networks", "T (K)", "samples", "with a ghost", "with the level shift"]
    keys = ("networks", "temperature", "samples", "plain", "shifted")
    table = "\n".join(tabulate(head, [[f"{row[key]}" for key in keys] for row in rows]))
    text = (
        "# Ghost states of displaced supercells\n\n"
        "`python benchmarks/ghosts.py`, the demo's 6×6 cell, 144 atoms; definitions in its head. "
        f"Made by the script.\n\n{table}\n"
    )
    (output / "ghosts.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description="Ghost states of many displaced supercells.")
    parser.add_argument("--samples", type=int, default=500, help="per temperature")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 300.0], help="K")
    parser.add_argument("--networks", choices=sorted(ELECTRONS), default="mean")
    parser.add_argument("--output", type=Path, default=PROJECT / "benchmarks" / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder) / "run", given.samples, ELECTRONS[given.networks])
        for temperature in given.temperatures:
            found = count(run, temperature, given.samples)
            row = {"networks": given.networks, "temperature": temperature, **found}
            path = given.output / "ghosts.json"
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            write(given.output, join(kept, row))


if __name__ == "__main__":
    main()
