"""Table, record and figure of a series of runs that differ in the size of their cells.

``python -m mlepi.observables.cell_sizes.series FOLDER``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mlepi.errors import DataError, MlepiError, message
from mlepi.figures import save_figure
from mlepi.observables.cell_sizes.compare import compare_sizes
from mlepi.observables.cell_sizes.figure import plot_cell_sizes
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.near_k.velocity_tables import with_error
from mlepi.results import ResultsStore, collect_provenance, hash_file
from mlepi.results.store import FILE_NAME

NAME = "cell_sizes"
QUANTITIES = ("v_F", "mean slope")


def write_series(folder: Path) -> str:
    """Compare the runs in the folders below one; write table, record and figure beside them.

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
    """Write one row per estimator, quantity and temperature, 10⁵ m/s, with limits and χ²."""
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


def main() -> None:
    """Run as a script."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mlepi.observables.cell_sizes.series FOLDER")
    try:
        print(write_series(Path(sys.argv[1])))
    except MlepiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
