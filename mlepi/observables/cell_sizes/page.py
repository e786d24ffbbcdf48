"""The tables of ``docs/headline.md`` from finished series of cell sizes, as Markdown.

A series is one choice of structure (as built, or relaxed) and of modes (rigid-layer modes of Γ in
or frozen); the tables put the choices beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.figures.tables import tabulate
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.cell_sizes.tables import write_size
from mlepi.observables.near_k.velocity_tables import with_error

PATHS = {
    "spectral peak": "fermi_velocity.spectral",
    "self-energy": "self_energy.velocity",
    "velocity operator": "fermi_velocity.velocity_operator",
    "sorted average": "fermi_velocity.sorted_average",
}
"""Estimator → where its quantities are."""

QUOTED = (("mean slope", "slope_ratios"), ("v, γ₁ pinned", "pinned.ratios"))
"""What is quoted of an estimator, and its quantity."""

CHANGES = (("mean slope", "slope_changes"), ("v, γ₁ pinned", "pinned.changes"))
"""The same for differences to the first temperature."""

MODES = {"none": "in", "interlayer_gamma": "frozen"}

CHOICE = ("structure", "Γ modes")

NOTE = (
    "Velocities are over those of the undisplaced structure by the same estimator, window and "
    "model; ± are standard errors. 1/N → 0: straight line in 1/N."
)


def format_page(records: Sequence[CellSizesRecord]) -> str:
    """Write the tables of several series side by side.

    Args:
        records: a series per choice of structure and modes.
    """
    sizes = sorted({int(n) for record in records for n in record.sizes})
    cells = [f"{n}×{n}" for n in sizes]
    lines = [NOTE]
    for title, header, rows in (
        ("Structures at rest", STRUCTURE, _structure_rows(records)),
        (
            "Velocity over that of the undisplaced structure",
            ("T (K)", *CHOICE, "estimator", "", *cells, "1/N → 0", "χ² / dof"),
            _velocity_rows(records, sizes),
        ),
        (
            "Cell part of the error: distance from 1/N → 0, or its standard error if larger",
            ("T (K)", *CHOICE, "estimator", "", *cells),
            _cell_part_rows(records, sizes),
        ),
        (
            "Change from the first to the last temperature, over the undisplaced velocity",
            (*CHOICE, "estimator", "", *cells, "1/N → 0"),
            _change_rows(records, sizes),
        ),
        (
            "Windows and models, spectral peak; the last row of each is half the range outside "
            "the parabolic core",
            ("T (K)", *CHOICE, "window (Å⁻¹)", "model", *cells),
            _window_rows(records, sizes),
        ),
        (
            "Folded finite difference over that of the undisplaced structure: an opening of K, "
            "not a velocity",
            ("T (K)", *CHOICE, "", *cells),
            _opening_rows(records, sizes),
        ),
        (
            "Layers against each other in plane, ⟨d²⟩ (Å²)",
            ("T (K)", *CHOICE, "", *cells),
            _shear_rows(records, sizes),
        ),
        (
            "Samples per temperature, and those with ghost states",
            ("T (K)", *CHOICE, "", *cells),
            _sample_rows(records, sizes),
        ),
    ):
        found = list(rows)
        if found:
            lines += ["", f"**{title}**", "", *tabulate(header, found)]
    return "\n".join(lines) + "\n"


STRUCTURE = (
    "structure",
    "networks",
    "a (Å)",
    "spacing (Å)",
    "largest force left (meV/Å)",
    "force that holds a layer (meV/Å per atom)",
)


def _structure_rows(records: Iterable[CellSizesRecord]) -> Iterator[list[str]]:
    """Yield one row per structure; forces that were not asked for are dashes."""
    told = set()
    for record in records:
        name = _choice(record)[0]
        if name in told or not record.structure:
            continue
        told.add(name)
        lattice, spacing, residual, pushed = record.structure
        numbers = [f"{lattice:.4f}", write_size(spacing)]
        forces = [f"{1e3 * x:.1f}" if np.isfinite(x) else "—" for x in (residual, pushed)]
        yield [name, ", ".join(record.networks), *numbers, *forces]


def _velocity_rows(records: Iterable[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield slope and pinned fit of every estimator, temperatures outermost."""
    for estimator, quantity, path, record, i in _quoted(records):
        found = record.quantities[path]
        degrees = int(found.degrees_of_freedom[i])
        yield [
            f"{record.temperatures[i]:g}",
            *_choice(record),
            estimator,
            quantity,
            *_by_size(record, sizes, found.values[:, i], found.errors[:, i]),
            with_error(float(found.limits[i]), float(found.limit_errors[i])),
            f"{found.chi_squared[i]:.1f} / {degrees}" if np.isfinite(found.limits[i]) else "—",
        ]


def _cell_part_rows(
    records: Iterable[CellSizesRecord], sizes: Sequence[int]
) -> Iterator[list[str]]:
    """Yield the cell part of the same quantities at every size."""
    for estimator, quantity, path, record, i in _quoted(records):
        parts = record.quantities[path].cell_parts()[:, i]
        first = [f"{record.temperatures[i]:g}", *_choice(record), estimator, quantity]
        yield [*first, *_by_size(record, sizes, parts)]


def _quoted(
    records: Iterable[CellSizesRecord],
) -> Iterator[tuple[str, str, str, CellSizesRecord, int]]:
    """Yield estimator, name and path of a quantity, series and number of the temperature."""
    some = list(records)
    for i in range(max((len(record.temperatures) for record in some), default=0)):
        for estimator, stem in PATHS.items():
            for quantity, name in QUOTED:
                for record in some:
                    path = f"{stem}.{name}"
                    if path in record.quantities and i < len(record.temperatures):
                        yield estimator, quantity, path, record, i


def _change_rows(records: Sequence[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield the change with temperature, whose errors are small by common random numbers."""
    for estimator, stem in PATHS.items():
        for quantity, name in CHANGES:
            for record in records:
                found = record.quantities.get(f"{stem}.{name}")
                if found is None or len(record.temperatures) < 2:
                    continue
                row = record.estimators.index(estimator)
                rest = (
                    record.equilibrium[row, 1]
                    if quantity == "mean slope"
                    else record.equilibrium_pinned[row]
                )
                values, errors = found.values[:, -1] / rest, found.errors[:, -1] / rest
                limit = float(found.limits[-1] / rest), float(found.limit_errors[-1] / rest)
                first = [*_choice(record), estimator, quantity]
                yield [*first, *_by_size(record, sizes, values, errors), with_error(*limit)]


def _window_rows(records: Iterable[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield the ratios of the spectral peak by window and model, with their spread."""
    for record in records:
        if "spectral peak" not in record.estimators or not record.window_ratios.size:
            continue
        row = record.estimators.index("spectral peak")
        for i, temperature in enumerate(record.temperatures):
            first = [f"{temperature:g}", *_choice(record)]
            for window, model in np.ndindex(record.window_ratios.shape[1:3]):
                values = record.window_ratios[row, window, model, :, i]
                errors = record.window_ratio_errors[row, window, model, :, i]
                if np.isfinite(values).any():
                    low, high = record.windows[window]
                    place = [f"{low:g}–{high:g}", record.models[model]]
                    yield [*first, *place, *_by_size(record, sizes, values, errors)]
            if record.spreads.size:
                cells = _by_size(record, sizes, record.spreads[row, :, i])
                yield [*first, "outside the core", "half the range", *cells]


def _opening_rows(records: Iterable[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield the folded finite difference and the opening of K."""
    for record in records:
        if not record.differences.size:
            continue
        folds = {int(n): bool(each) for n, each in zip(record.sizes, record.folds, strict=True)}
        words = {True: "yes", False: "no", None: "—"}
        yield ["", *_choice(record), "K folds onto Γ", *(words[folds.get(n)] for n in sizes)]
        for i, temperature in enumerate(record.temperatures):
            first = [f"{temperature:g}", *_choice(record)]
            values, errors = record.differences[:, i], record.difference_errors[:, i]
            yield [*first, "ΔE/dk", *_by_size(record, sizes, values, errors)]
            values, errors = 1e3 * record.openings[:, i], 1e3 * record.opening_errors[:, i]
            cells = _by_size(record, sizes, values, errors, write=_write_energy)
            yield [*first, "opening (meV)", *cells]


def _shear_rows(records: Iterable[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield the interlayer motion of samples and dense mesh."""
    for record in records:
        for name, values in (("samples", record.shear), ("dense mesh", record.mesh_shear)):
            for i, temperature in enumerate(record.temperatures if values.size else ()):
                cells = _by_size(record, sizes, values[:, i], write=_write_square)
                yield [f"{temperature:g}", *_choice(record), name, *cells]


def _sample_rows(records: Iterable[CellSizesRecord], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield numbers of samples, of those left out, and of those with ghosts."""
    for record in records:
        counts = [("samples", record.n_samples)]
        if record.left_out.size:
            counts.append(("left out of every average", record.left_out))
        for name, values in counts:
            yield ["", *_choice(record), name, *_by_size(record, sizes, values, write=_write_count)]
        if not record.ghosts.size:
            continue
        for which, name in enumerate(("with ghosts, H as predicted", "with the level shift")):
            for i, temperature in enumerate(record.temperatures):
                cells = _by_size(record, sizes, record.ghosts[:, i, which], write=_write_count)
                yield [f"{temperature:g}", *_choice(record), name, *cells]


def _choice(record: CellSizesRecord) -> tuple[str, str]:
    """Return structure and modes of a series, a word each."""
    fixed = record.relaxation in ("", "none")
    modes = MODES.get(record.project_out, f"without {record.project_out}")
    return "fixed" if fixed else "relaxed", modes


def _by_size(
    record: CellSizesRecord,
    sizes: Sequence[int],
    values: NDArray[np.generic],
    errors: NDArray[np.float64] | None = None,
    write: Callable[..., str] | None = None,
) -> list[str]:
    """Return a cell per size of the table, a dash for those that the series does not have."""
    columns = (values,) if errors is None else (values, errors)
    writer: Callable[..., str] = write or (write_size if errors is None else with_error)
    found = {
        int(n): writer(*(float(x) for x in numbers))
        for n, *numbers in zip(record.sizes, *columns, strict=True)
    }
    return [found.get(n, "—") for n in sizes]


def _write_count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "—"


def _write_square(value: float) -> str:
    return f"{value:.4f}"


def _write_energy(value: float, error: float) -> str:
    return f"{value:.1f} ± {error:.1f}"
