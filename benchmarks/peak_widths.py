"""How the width of the lines pulls the velocity of spectral peaks.

``python benchmarks/peak_widths.py`` takes minutes.

Bilayer graphene by tight binding, in cells of two sizes. Every run repeats the fit with lines √2
and 2 times as wide; two runs over the same samples join into a row of widths. The extrapolation is
that of 100 and 141 meV to zero, linear in the square of the width. Writes results/peak_widths.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.results import ResultsStore

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "peak_widths.md"
CELLS = {6: 256, 12: 32}
"""Primitive cells along each vector → samples."""

NARROWEST = (0.05, 0.1)
"""eV, of the two runs: 50, 71, 100 and 100, 141, 200 meV together."""

SHOWN = (0.05, 0.0707, 0.1, 0.1414)


def scan(cell: int, samples: int, width: float, folder: Path) -> Any:
    """Run or continue one scan and return its comparison of widths."""
    command = [
        sys.executable,
        str(ROOT / "infer.py"),
        "experiment=toy_bilayer",
        "stage=fermi_velocity",
        f"folder={folder}",
        f"supercell=[{cell},{cell},1]",
        f"n_samples={samples}",
        f"stage.fermi_velocity.peak_width={width}",
        "stage.fermi_velocity.dos_mesh=[6,6,1]",
        "report=false",
        "logger=csv",
    ]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603
    record = ResultsStore(folder).read("fermi_velocity", FermiVelocityRecord)
    return record.peak_widths, record.temperatures


def measure(folder: Path) -> list[str]:
    """Return the rows of the table."""
    rows = []
    for cell, samples in CELLS.items():
        found: dict[float, tuple[Any, Any]] = {}
        for width in NARROWEST:
            widths, temperatures = scan(cell, samples, width, folder / f"{cell}")
            for number, each in enumerate(widths.widths):
                ratios, errors = widths.slope_ratios[number], widths.slope_ratio_errors[number]
                found[round(float(each), 4)] = (ratios, errors)
        for number, temperature in enumerate(temperatures):
            values = [found[width] for width in SHOWN]
            texts = [f"{ratio[number]:.3f} ± {error[number]:.3f}" for ratio, error in values]
            narrow, wide = (found[width][0][number] for width in (0.1, 0.1414))
            zero = narrow - (wide - narrow)  # the square of the width doubles
            cells = [f"{cell}×{cell}, {samples}, {temperature:g} K", *texts, f"{zero:.3f}"]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "peak_widths")
    rows = measure(parser.parse_args(arguments).folder)
    names = [f"{1e3 * width:.0f} meV" for width in SHOWN]
    lines = [
        "# Width of the lines",
        "",
        "`python benchmarks/peak_widths.py`: slope of the spectral peaks over that of the "
        "undisplaced structure,",
        "tight-binding bilayers (`experiment=toy_bilayer`), |k − K| = 0.04–0.10 Å⁻¹; standard "
        "errors.",
        "",
        f"| cell, samples, T | {' | '.join(names)} | from 100 and 141 meV to zero |",
        "|" + "---|" * (len(names) + 2),
        *rows,
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
