"""Figures and tables of second-order shifts, and of what they say about an average over samples."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mlepi.observables.decomposition import Decomposition, decompose_averages
from mlepi.plots.style import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure
from mlepi.plots.velocities import html_table, list_estimates
from mlepi.results import LinearResponseRecord, SecondOrderRecord

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


def list_decompositions(records: Mapping[str, Any]) -> list[Decomposition]:
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


def linear_response_section(records: Mapping[str, Any]) -> list[str]:
    """Tabulate the second-order shifts of v_F, and every average over samples beside them.

    Args:
        records: stage → record; without linear_response nothing is written.
    """
    record: LinearResponseRecord | None = records.get("linear_response")
    if record is None:
        return []
    low, high = record.velocity_window
    parts = [
        "<h2>Second order in the displacements, and beyond</h2>",
        f"<p>Perturbation theory from derivatives of H and S ({html.escape(record.derivatives)}), "
        f"{record.dispersion} fit of the "
        f"low bands at |k − K| = {low:g} … {high:g} Å⁻¹, denominators broadened by "
        f"{1e3 * record.broadening:.0f} meV, chemical "
        f"potential {record.chemical_potential:+g} eV from the Dirac energy. Static: atoms at "
        "rest in every sample, as in an "
        "average over displaced supercells; dynamic: with the phonon energies in the "
        "denominators. Changes are those of the mean "
        "slope over that of the undisplaced structure, "
        f"{1e-5 * record.equilibrium_slope:.3f} × 10⁵ m/s, and add up.</p>",
        html_table(
            VELOCITY_HEADER,
            [row for sums, _ in _meshes(record) for row in _velocity_rows(record, sums)],
        ),
    ]
    for parts_of_average in list_decompositions(records):
        parts += [
            f"<h3>{html.escape(parts_of_average.average.capitalize())}: what is in the average "
            "over samples</h3>",
            "<p>Mean slope over that of the undisplaced structure. The samples hold all orders, "
            "at rest, with the waves of the "
            "supercell: less the second order of the same waves they leave what is beyond second "
            "order. Phonon energies and the "
            "waves of a denser mesh are added to second order, where what is beyond it is "
            "small.</p>",
            html_table(DECOMPOSITION_HEADER, decomposition_rows(parts_of_average)),
        ]
    return parts


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
        sides = [
            np.flatnonzero(record.map_distances < 0),
            np.flatnonzero(record.map_distances >= 0),
        ]
        for sums, style in _meshes(record):
            for field, name, colour in TERMS:
                values = 1e3 * _half_gap(getattr(sums, field)[0])
                label: str | None = f"{name}, {_mesh_name(sums)}"
                for side in sides:  # no line across K, where the low bands touch
                    shifts.plot(
                        record.map_distances[side],
                        values[side],
                        color=colour,
                        linestyle=style,
                        marker=".",
                        label=label,
                    )
                    label = None
            for values, name, colour in (
                (sums.static_slopes, "static", BLUE),
                (sums.dynamic_slopes, "dynamic", RED),
            ):
                slopes.plot(
                    record.temperatures,
                    values / record.equilibrium_slope,
                    color=colour,
                    linestyle=style,
                    marker=".",
                    label=f"{name}, {_mesh_name(sums)}",
                )
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


def plot_decomposition(records: Mapping[str, Any]) -> Figure:
    """Draw slope ratios against temperature.

    Second order, all orders with error bars, and corrected for the rest.

    Args:
        records: stage → record, for which ``list_decompositions`` is not empty.
    """
    with house_style():
        found = list_decompositions(records)
        record: LinearResponseRecord = records["linear_response"]
        figure = new_figure(1.1 * COLUMN * len(found), 1.1 * COLUMN)
        for axes, parts in zip(
            np.atleast_1d(figure.subplots(1, len(found), sharey=True)), found, strict=True
        ):
            cell = _mesh_name(record.in_supercell)
            axes.axhline(1.0, color=GREY, linestyle="--", label="undisplaced")
            axes.plot(
                parts.temperatures,
                parts.second_order,
                color=BLUE,
                marker="o",
                label=f"second order, static, {cell}",
            )
            axes.plot(
                parts.temperatures,
                parts.dynamic,
                color=GREEN,
                marker="v",
                label=f"second order, dynamic, {cell}",
            )
            axes.errorbar(
                parts.temperatures,
                parts.all_orders,
                parts.all_orders_errors,
                color="black",
                marker="s",
                label=f"all orders, {cell}",
            )
            axes.errorbar(
                parts.temperatures,
                parts.total,
                parts.all_orders_errors,
                color=RED,
                marker="^",
                label="all orders, corrected for phonon energies"
                + (f", {_mesh_name(record.interpolated)}" if record.interpolated else ""),
            )
            axes.set_title(parts.average)
            axes.set_xlabel("temperature (K)")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))
        figure.axes[0].set_ylabel("mean slope / undisplaced")
    return figure


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
