"""Tables of one series of cell sizes: every number of its record, as Markdown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.figures.tables import tabulate
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.near_k.velocity_tables import with_error
from mlepi.physics.averages.size_series import extrapolate_sizes

QUANTITIES = ("v_F, free fit", "mean slope")
"""Of ``CellSizesRecord.values``."""


def format_series(record: CellSizesRecord) -> str:
    """Write what every estimator says at every size, with limits, windows, openings and shear.

    Velocities are in 10⁵ m/s, ratios are those to the undisplaced structure.
    """
    low, high = record.velocity_window
    choices = [] if record.project_out == "none" else [f"left out: {record.project_out}"]
    if record.relaxation:
        choices.append(f"structure relaxed: {record.relaxation}")
    lines = [
        f"Mean slope, v with γ₁ pinned by the split-off bands, and free fit, 10⁵ m/s, "
        f"{record.dispersion} at |k−K| = {low:g}–{high:g} Å⁻¹{'; '.join(['', *choices])}; in "
        "brackets the samples. The limit is that of a straight line in 1/N by weighted least "
        "squares.",
        "",
        *tabulate(*velocity_table(record)),
    ]
    for title, header, rows in (
        (
            "Velocity over that of the undisplaced structure, by window and model.",
            ["estimator", "window (Å⁻¹)", "model", "T (K)", *size_headers(record)],
            _window_rows(record),
        ),
        (
            f"Folded finite difference, [⟨E_sorted(K + dk)⟩ − ⟨E_sorted(K)⟩]/dk at dk = "
            f"{record.difference_step:g} Å⁻¹: an opening of K, not a velocity.",
            ["", "T (K)", *size_headers(record)],
            _opening_rows(record),
        ),
        (
            "Layers against each other in plane, ⟨d²⟩, Å², in the samples and on a dense mesh of "
            "wave vectors by the force constants of the same cell.",
            ["", "T (K)", *size_headers(record)],
            _shear_rows(record),
        ),
    ):
        if rows:
            lines += ["", title, "", *tabulate(header, rows)]
    return "\n".join(lines) + "\n"


def velocity_table(record: CellSizesRecord) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what every estimator says at every size, 10⁵ m/s."""
    ends = ["1/N → 0", "χ² / dof"]
    header = ["estimator", "", "T (K)", "undisplaced", *size_headers(record), *ends]
    return header, _velocity_rows(record)


def size_headers(record: CellSizesRecord) -> list[str]:
    """Return a header per size, in brackets the samples."""
    return [f"{n}×{n} ({count})" for n, count in zip(record.sizes, record.n_samples, strict=True)]


def write_size(value: float) -> str:
    """Return a number with three decimals, or a dash where there is none."""
    return f"{value:.3f}" if np.isfinite(value) else "—"


def write_cells(
    values: NDArray[np.float64], errors: NDArray[np.float64], scale: float
) -> list[str]:
    """Return "value ± error" of every size, both multiplied by ``scale``."""
    pairs = zip(values, errors, strict=True)
    return [with_error(scale * value, scale * error) for value, error in pairs]


def _velocity_rows(record: CellSizesRecord) -> list[list[str]]:
    """Return slope, pinned fit and free fit of every estimator and temperature."""
    rows = []
    for row, name in enumerate(record.estimators):
        for i, temperature in enumerate(record.temperatures):
            first = [name, QUANTITIES[1], f"{temperature:g}"]
            rows.append(first + _with_limit(record, (row, 1, i)))
        known = record.pinned.size > 0 and np.isfinite(record.equilibrium_pinned[row])
        for i, temperature in enumerate(record.temperatures if known else ()):
            rest = f"{1e-5 * record.equilibrium_pinned[row]:.3f}"
            values, errors = record.pinned[row, :, i], record.pinned_errors[row, :, i]
            cells = [*write_cells(values, errors, 1e-5), *_limit_of(record.sizes, values, errors)]
            rows.append([name, "v, γ₁ pinned", f"{temperature:g}", rest, *cells])
        for i, temperature in enumerate(record.temperatures):
            first = [name, QUANTITIES[0], f"{temperature:g}"]
            rows.append(first + _with_limit(record, (row, 0, i)))
    return rows


def _with_limit(record: CellSizesRecord, place: tuple[int, int, int]) -> list[str]:
    """Return the cells of one estimator, quantity and temperature from the undisplaced value on."""
    row, kind, i = place
    limit = with_error(1e-5 * record.limits[place], 1e-5 * record.limit_errors[place])
    quality = f"{record.chi_squared[place]:.1f} / {record.degrees_of_freedom[place]}"
    return [
        f"{1e-5 * record.equilibrium[row, kind]:.3f}",
        *write_cells(record.values[row, kind, :, i], record.errors[row, kind, :, i], 1e-5),
        limit,
        quality if np.isfinite(record.limits[place]) else "—",
    ]


def _limit_of(
    sizes: NDArray[np.int64], values: NDArray[np.float64], errors: NDArray[np.float64]
) -> list[str]:
    """Return limit and χ² of values that the record keeps without them."""
    told = np.isfinite(values) & (errors > 0)
    if np.count_nonzero(told) < 2:
        return ["—", "—"]
    fit = extrapolate_sizes(sizes[told], values[told], errors[told])
    return [
        with_error(1e-5 * fit.limit, 1e-5 * fit.limit_error),
        f"{fit.chi_squared:.1f} / {fit.degrees_of_freedom}",
    ]


def _window_rows(record: CellSizesRecord) -> list[list[str]]:
    """Return the ratios by window and model, those that any size tells."""
    rows = []
    for place in np.ndindex(record.window_ratios.shape[:3]):
        ratios, errors = record.window_ratios[place], record.window_ratio_errors[place]
        if not np.any(np.isfinite(ratios)):
            continue
        row, window, model = place
        low, high = record.windows[window]
        for i, temperature in enumerate(record.temperatures):
            first = [record.estimators[row], f"{low:g}–{high:g}", record.models[model]]
            rows.append([*first, f"{temperature:g}", *write_cells(ratios[:, i], errors[:, i], 1.0)])
    for row, name in enumerate(record.estimators[: len(record.spreads)]):
        for i, temperature in enumerate(record.temperatures):
            cells = [write_size(spread) for spread in record.spreads[row, :, i]]
            rows.append([name, "outside the core", "half the range", f"{temperature:g}", *cells])
    return rows


def _opening_rows(record: CellSizesRecord) -> list[list[str]]:
    """Return the folded finite difference and the opening of K at every temperature."""
    if not record.differences.size:
        return []
    rows = [["K folds onto Γ", "", *("yes" if each else "no" for each in record.folds)]]
    for i, temperature in enumerate(record.temperatures):
        cells = write_cells(record.differences[:, i], record.difference_errors[:, i], 1.0)
        rows.append(["ΔE/dk over undisplaced, not a velocity", f"{temperature:g}", *cells])
    for i, temperature in enumerate(record.temperatures):
        pairs = zip(record.openings[:, i], record.opening_errors[:, i], strict=True)
        cells = [f"{1e3 * value:.1f} ± {1e3 * error:.1f}" for value, error in pairs]
        rows.append(["opening of K (meV)", f"{temperature:g}", *cells])
    return rows


def _shear_rows(record: CellSizesRecord) -> list[list[str]]:
    """Return the interlayer shear of samples and dense mesh at every temperature."""
    return [
        [name, f"{temperature:g}", *(f"{value:.4f}" for value in values[:, i])]
        for name, values in (("samples", record.shear), ("dense mesh", record.mesh_shear))
        if values.size
        for i, temperature in enumerate(record.temperatures)
    ]
