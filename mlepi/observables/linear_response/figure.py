"""Figures and tables of second-order shifts, and of what they say about an average over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mlepi.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    Comparison,
    Drawing,
    Paragraph,
    Presentation,
    Records,
    Section,
    Table,
    house_style,
    new_figure,
)
from mlepi.observables.linear_response.decomposition import Decomposition, decompose_averages
from mlepi.observables.linear_response.error_parts import second_order_parts
from mlepi.observables.linear_response.record import LinearResponseRecord, SecondOrderRecord
from mlepi.observables.near_k.velocity_tables import list_estimates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TERMS = (
    ("fan", "Fan", BLUE),
    ("debye_waller", "Debye–Waller", GREEN),
    ("nonadiabatic", "phonon energies", RED),
)
"""Field of ``SecondOrderRecord``, name and colour of each term."""

VELOCITY_HEADER = (
    "T (K)",
    "wave vectors",
    "v_F static (10⁵ m/s)",
    "v_F dynamic",
    "slope static / undisplaced",
    "slope dynamic",
    "Fan",
    "Debye–Waller",
    "phonon energies",
)

DECOMPOSITION_HEADER = (
    "T (K)",
    "second order, static",
    "second order, dynamic",
    "Fan",
    "Debye–Waller",
    "samples, all orders",
    "beyond second order",
    "phonon energies",
    "denser mesh",
    "sum",
)


MEANING = (
    "Mean slope over that of the undisplaced structure. The samples hold all orders, at rest, with "
    "the waves of the supercell: less the second order of the same waves they leave what is beyond "
    "second order. Phonon energies and the waves of a denser mesh are added to second order, where "
    "what is beyond it is small."
)
"""What the parts of an average are."""


def list_decompositions(records: Records) -> list[Decomposition]:
    """Compare every average of a run with its perturbation theory; empty when either is missing.

    Args:
        records: stage → record.
    """
    record: LinearResponseRecord | None = records.get("linear_response")
    if record is None:
        return []
    return decompose_averages(
        record,
        [
            (estimate.name, estimate.velocity, estimate.record)
            for estimate in list_estimates(records)
        ],
    )


def linear_response_section(records: Records) -> Section | None:
    """Tabulate the second-order shifts of v_F, and every average over samples beside them.

    Args:
        records: stage → record.

    Returns:
        The section; None without linear_response.
    """
    record: LinearResponseRecord | None = records.get("linear_response")
    if record is None:
        return None
    rows = [row for sums, _ in _meshes(record) for row in _velocity_rows(record, sums)]
    blocks: list[Paragraph | Table] = [
        Paragraph(_describe(record)),
        Table(VELOCITY_HEADER, rows),
    ]
    for parts in list_decompositions(records):
        name = parts.average[:1].upper() + parts.average[1:]
        heading = f"{name}: what is in the average over samples"
        blocks += [
            Paragraph(MEANING, heading),
            Table(DECOMPOSITION_HEADER, decomposition_rows(parts)),
        ]
    return Section("Second order in the displacements, and beyond", blocks)


def _describe(record: LinearResponseRecord) -> str:
    low, high = record.velocity_window
    return (
        f"Perturbation theory from derivatives of H and S ({record.derivatives}), "
        f"{record.dispersion} fit of the low bands at |k − K| = {low:g} … {high:g} Å⁻¹, "
        f"denominators broadened by {1e3 * record.broadening:.0f} meV, chemical potential "
        f"{record.chemical_potential:+g} eV from the Dirac energy. Static: atoms at rest in every "
        "sample, as in an average over displaced supercells; dynamic: with the phonon energies in "
        "the denominators. Changes are those of the mean slope over that of the undisplaced "
        f"structure, {1e-5 * record.equilibrium_slope:.3f} × 10⁵ m/s, and add up."
    )


def _velocity_rows(record: LinearResponseRecord, sums: SecondOrderRecord) -> list[list[str]]:
    slope = record.equilibrium_slope
    return [
        [
            f"{temperature:g}",
            _mesh_name(sums),
            f"{1e-5 * sums.static_velocities[i]:.3f}",
            f"{1e-5 * sums.dynamic_velocities[i]:.3f}",
            f"{sums.static_slopes[i] / slope:.3f}",
            f"{sums.dynamic_slopes[i] / slope:.3f}",
            *(
                f"{values[i] / slope:+.3f}"
                for values in (sums.fan_slopes, sums.debye_waller_slopes, sums.nonadiabatic_slopes)
            ),
        ]
        for i, temperature in enumerate(record.temperatures)
    ]


def decomposition_rows(parts: Decomposition) -> list[list[str]]:
    """Write a decomposition as rows of ``DECOMPOSITION_HEADER``."""
    return [
        [
            f"{temperature:g}",
            f"{parts.second_order[i]:.3f}",
            f"{parts.dynamic[i]:.3f}",
            f"{parts.fan[i]:+.3f}",
            f"{parts.debye_waller[i]:+.3f}",
            f"{parts.all_orders[i]:.3f} ± {parts.all_orders_errors[i]:.3f}",
            f"{parts.beyond[i]:+.3f} ± {parts.all_orders_errors[i]:.3f}",
            f"{parts.nonadiabatic[i]:+.3f}",
            f"{parts.size[i]:+.3f}" if np.isfinite(parts.size[i]) else "—",
            f"{parts.total[i]:.3f} ± {parts.all_orders_errors[i]:.3f}"
            if np.isfinite(parts.total[i])
            else "—",
        ]
        for i, temperature in enumerate(parts.temperatures)
    ]


def plot_second_order(record: LinearResponseRecord) -> Figure:
    """Draw the terms of the shift of half the gap against k, and slope ratios against temperature.

    The gap is that between the low bands.

    Args:
        record: of the linear_response stage.
    """
    with house_style():
        figure = new_figure(1.9 * COLUMN, 1.1 * COLUMN)
        shifts, slopes = figure.subplots(1, 2)
        for sums, style in _meshes(record):
            _draw_shifts(shifts, record, sums, style)
            _draw_slopes(slopes, record, sums, style)
        shifts.axhline(0.0, color=GREY, linewidth=0.6)
        shifts.xaxis.set_major_locator(MaxNLocator(nbins=5))
        shifts.set_xlabel("M ←  k − K (Å⁻¹)  → Γ")
        shifts.set_ylabel(f"shift of (E$_c$ − E$_v$)/2 at {record.temperatures[0]:g} K (meV)")
        slopes.axhline(1.0, color=GREY, linestyle="--")
        slopes.set_xlabel("temperature (K)")
        slopes.set_ylabel("mean slope / undisplaced")
        for axes in (shifts, slopes):
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(_meshes(record)))
    return figure


def _draw_shifts(
    axes: Axes, record: LinearResponseRecord, sums: SecondOrderRecord, style: str
) -> None:
    distances = record.map_distances
    for field, name, colour in TERMS:
        values = 1e3 * _half_gap(getattr(sums, field)[0])
        label: str | None = f"{name}, {_mesh_name(sums)}"
        for side in (distances < 0, distances >= 0):  # no line across K, where the low bands touch
            axes.plot(
                distances[side],
                values[side],
                color=colour,
                linestyle=style,
                marker=".",
                label=label,
            )
            label = None


def _draw_slopes(
    axes: Axes, record: LinearResponseRecord, sums: SecondOrderRecord, style: str
) -> None:
    for values, name, colour in (
        (sums.static_slopes, "static", BLUE),
        (sums.dynamic_slopes, "dynamic", RED),
    ):
        axes.plot(
            record.temperatures,
            values / record.equilibrium_slope,
            color=colour,
            linestyle=style,
            marker=".",
            label=f"{name}, {_mesh_name(sums)}",
        )


def plot_decomposition(records: Records) -> Figure:
    """Draw slope ratios against temperature.

    Second order, all orders with error bars, and corrected for the rest.

    Args:
        records: stage → record, for which ``list_decompositions`` is not empty.
    """
    with house_style():
        found = list_decompositions(records)
        figure = new_figure(1.1 * COLUMN * len(found), 1.1 * COLUMN)
        panels = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
        for axes, parts in zip(panels, found, strict=True):
            _draw_decomposition(axes, records["linear_response"], parts)
        figure.axes[0].set_ylabel("mean slope / undisplaced")
    return figure


def _draw_decomposition(axes: Axes, record: LinearResponseRecord, parts: Decomposition) -> None:
    cell = _mesh_name(record.in_supercell)
    denser = f", {_mesh_name(record.interpolated)}" if record.interpolated else ""
    axes.axhline(1.0, color=GREY, linestyle="--", label="undisplaced")
    for values, colour, marker, name in (
        (parts.second_order, BLUE, "o", f"second order, static, {cell}"),
        (parts.dynamic, GREEN, "v", f"second order, dynamic, {cell}"),
    ):
        axes.plot(parts.temperatures, values, color=colour, marker=marker, label=name)
    for values, colour, marker, name in (
        (parts.all_orders, "black", "s", f"all orders, {cell}"),
        (parts.total, RED, "^", f"all orders, corrected for phonon energies{denser}"),
    ):
        axes.errorbar(
            parts.temperatures,
            values,
            parts.all_orders_errors,
            color=colour,
            marker=marker,
            label=name,
        )
    axes.set_title(parts.average)
    axes.set_xlabel("temperature (K)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _half_gap(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shift of half the gap between the low bands.

    (n_points, n_bands) → (n_points,), eV.
    """
    middle = shifts.shape[1] // 2
    return np.asarray(0.5 * (shifts[:, middle] - shifts[:, middle - 1]))


def _meshes(record: LinearResponseRecord) -> list[tuple[SecondOrderRecord, str]]:
    found = [(record.in_supercell, "-")]
    return found if record.interpolated is None else [*found, (record.interpolated, "--")]


def _mesh_name(sums: SecondOrderRecord) -> str:
    return "×".join(str(n) for n in sums.mesh)


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "second_order",
            plot_second_order,
            "Second-order perturbation theory of the low bands: shift of half their gap term by "
            "term, and slope against temperature.",
        ),
    ),
    sections=(linear_response_section,),
    comparisons=(
        Comparison(
            "decomposition",
            plot_decomposition,
            "Slope of the low bands to second order, to all orders of the samples (bars: their "
            "errors), and corrected for phonon energies and size.",
            possible=lambda records: bool(list_decompositions(records)),
        ),
    ),
    error_parts=(second_order_parts,),
    tab="estimates",
)
