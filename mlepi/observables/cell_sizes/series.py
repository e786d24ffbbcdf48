"""Table and figure of a series of cell sizes, ``python -m mlepi.plots.cell_sizes FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlepi.errors import DataError, MlepiError, message
from mlepi.observables.cell_sizes import compare_sizes
from mlepi.plots.style import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure, save_figure
from mlepi.plots.velocities import with_error
from mlepi.results import ResultsStore, collect_provenance, hash_file
from mlepi.results.cell_sizes import CellSizesRecord
from mlepi.results.store import FILE_NAME

NAME = "cell_sizes"
COLOURS = dict(
    zip(
        ("spectral peak", "self-energy", "velocity operator", "sorted average"),
        (BLUE, GREY, GREEN, RED),
        strict=True,
    )
)
QUANTITIES = ("v_F", "mean slope")


def write_series(folder: Path) -> str:
    """Compare the runs in the folders below one and write ``cell_sizes.md``, ``results.h5`` and the figure beside them.

    Args:
        folder: of the series.

    Returns:
        The table, Markdown.

    Raises:
        DataError: no runs, or runs that cannot be compared.
    """
    stores = sorted(path for path in folder.glob(f"*/{FILE_NAME}"))
    if not stores:
        raise DataError(
            message(
                str(folder),
                "no runs below it",
                "one folder per size",
                "Run experiment=cell_sizes first.",
            )
        )
    record = compare_sizes([store.parent for store in stores])
    inputs = {store.parent.name: hash_file(store) for store in stores}
    provenance = collect_provenance({}, inputs, 0)
    ResultsStore(folder).write(NAME, record, "".join(inputs.values()), provenance)
    save_figure(plot_cell_sizes(record), folder, NAME)
    table = format_series(record)
    (folder / f"{NAME}.md").write_text(table, encoding="utf-8")
    return table


def format_series(record: CellSizesRecord) -> str:
    """Write one row per estimator, quantity and temperature, 10⁵ m/s, with the limit of infinite cells and χ²."""
    low, high = record.velocity_window
    sizes = [f"{n}×{n} ({count})" for n, count in zip(record.sizes, record.n_samples, strict=True)]
    header = ["estimator", "", "T (K)", "undisplaced", *sizes, "1/N → 0", "χ² / degrees of freedom"]
    lines = [
        f"Fermi velocity and mean slope, 10⁵ m/s, {record.dispersion} at |k−K| = {low:g}–{high:g} "
        "Å⁻¹; in brackets the samples. "
        "The limit is that of a straight line in 1/N by weighted least squares.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row, name in enumerate(record.estimators):
        for kind, quantity in enumerate(QUANTITIES):
            for i, temperature in enumerate(record.temperatures):
                place = (row, kind, i)
                cells = [
                    with_error(1e-5 * value, 1e-5 * error)
                    for value, error in zip(
                        record.values[row, kind, :, i], record.errors[row, kind, :, i], strict=True
                    )
                ]
                known = np.isfinite(record.limits[place])
                quality = (
                    f"{record.chi_squared[place]:.1f} / {record.degrees_of_freedom[place]}"
                    if known
                    else "—"
                )
                limit = with_error(1e-5 * record.limits[place], 1e-5 * record.limit_errors[place])
                rest = f"{1e-5 * record.equilibrium[row, kind]:.3f}"
                lines.append(
                    "| "
                    + " | ".join([name, quantity, f"{temperature:g}", rest, *cells, limit, quality])
                    + " |"
                )
    return "\n".join(lines) + "\n"


def plot_cell_sizes(record: CellSizesRecord) -> Figure:
    """Draw v_F and the mean slope against 1/N at the last temperature by every estimator, with the lines and their limits."""
    with house_style():
        figure = new_figure(1.8 * COLUMN, 0.95 * COLUMN)
        panels = figure.subplots(1, 2)
        inverse = 1.0 / record.sizes
        for kind, (axes, quantity) in enumerate(zip(panels, ("v$_F$", "mean slope"), strict=True)):
            axes.axhline(
                1e-5 * record.equilibrium[0, kind],
                color="black",
                linestyle="--",
                linewidth=0.7,
                label="undisplaced",
            )
            for row, name in enumerate(record.estimators):
                values, errors = (
                    1e-5 * record.values[row, kind, :, -1],
                    1e-5 * record.errors[row, kind, :, -1],
                )
                limit, limit_error = (
                    1e-5 * record.limits[row, kind, -1],
                    1e-5 * record.limit_errors[row, kind, -1],
                )
                axes.errorbar(
                    inverse,
                    values,
                    errors,
                    color=COLOURS[name],
                    marker="o",
                    linestyle="",
                    label=name,
                )
                axes.errorbar(
                    [0.0], [limit], [limit_error], color=COLOURS[name], marker="D", linestyle=""
                )
            axes.set_xlim(left=-0.02)
            axes.set_xlabel("1/N")
            axes.set_ylabel(f"{quantity} (10⁵ m/s)")
            axes.set_title(f"{record.temperatures[-1]:g} K; diamonds: 1/N → 0")
        panels[0].legend()
    return figure


def main() -> None:
    """Run as a script."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mlepi.plots.cell_sizes FOLDER")
    try:
        print(write_series(Path(sys.argv[1])))
    except MlepiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
