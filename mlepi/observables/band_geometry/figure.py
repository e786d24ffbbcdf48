"""Quantum metric and Berry curvature near K.

Along M–K–Γ, as maps, and their convergence with the number of samples.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Presentation,
    draw_convergence,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.observables.band_geometry.record import BandGeometryRecord
from mlepi.results.quantities import half_interval


def plot_band_geometry(record: BandGeometryRecord) -> Figure:
    """Draw tr g and Ω along M–K–Γ, undisplaced and at every temperature, with error bars."""
    with house_style():
        figure = new_figure(1.6 * COLUMN, 0.85 * COLUMN)
        metric, curvature = figure.subplots(1, 2)
        metric.plot(
            record.distances,
            record.equilibrium_traces,
            color=GREY,
            linestyle="",
            marker="_",
            markersize=8,
            label="undisplaced",
        )
        curvature.plot(
            record.distances,
            record.equilibrium_curvatures,
            color=GREY,
            linestyle="",
            marker="_",
            markersize=8,
        )
        for index, colour in enumerate(temperature_colours(record.temperatures)):
            style = {
                "color": colour,
                "linestyle": "",
                "marker": "o",
                "label": f"{record.temperatures[index]:g} K",
            }
            metric.errorbar(
                record.distances, record.traces[index], record.trace_errors[index], **style
            )
            curvature.errorbar(
                record.distances, record.curvatures[index], record.curvature_errors[index], **style
            )
        metric.set_yscale("log")
        metric.set_ylabel("tr g (Å²)")
        curvature.set_ylabel("Ω$_z$ (Å²)")
        for axes in (metric, curvature):
            axes.set_xlabel("M ←  k − K (Å⁻¹)  → Γ")
        metric.legend()
    return figure


def plot_geometry_maps(record: BandGeometryRecord) -> Figure:
    """Draw tr g around K, undisplaced and at every temperature, one logarithmic colour scale."""
    with house_style():
        titles = ["undisplaced", *(f"{t:g} K" for t in record.temperatures)]
        maps = [record.equilibrium_maps[1], *record.maps[:, 1]]
        n_columns = min(4, len(maps))
        n_rows = -(-len(maps) // n_columns)
        figure = new_figure(0.6 * COLUMN * n_columns + 0.5, 0.62 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        finite = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in maps])
        norm = LogNorm(np.quantile(finite, 0.02), np.quantile(finite, 0.98))
        for axes, title, values in zip(grid.flat, titles, maps, strict=False):
            image = axes.pcolormesh(
                record.map_steps,
                record.map_steps,
                values.T,
                norm=norm,
                shading="nearest",
                rasterized=True,
            )
            axes.set_aspect("equal")
            axes.set_title(title)
        for axes in list(grid.flat)[len(maps) :]:
            axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel("k$_x$ − K$_x$ (Å⁻¹)")
        for axes in grid[:, 0]:
            axes.set_ylabel("k$_y$ − K$_y$ (Å⁻¹)")
        figure.colorbar(image, ax=grid, label="tr g (Å²)", shrink=0.8)
    return figure


def plot_geometry_convergence(record: BandGeometryRecord) -> Figure:
    """Draw the mean of |k − K|² tr g from the first n samples against n."""
    with house_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN)
        axes = figure.subplots()
        axes.axhline(record.equilibrium_mean_trace, color=GREY, linestyle="--", label="undisplaced")
        draw_convergence(
            axes,
            record.convergence_counts,
            record.convergence_traces,
            record.convergence_errors,
            record.temperatures,
        )
        axes.set_ylabel("mean of |k − K|² tr g")
        axes.legend()
    return figure


def list_facts(record: BandGeometryRecord) -> list[Fact]:
    """Say the Berry phase of the circle, undisplaced and at every temperature."""
    where = f"Berry phase of |k − K| = {record.loop_radius:g} Å⁻¹"
    facts = [(f"{where}, undisplaced", f"{record.equilibrium_berry_phase / np.pi:.3f} π")]
    return facts + [
        (f"{where}, {temperature:g} K", f"{phase / np.pi:.3f} ± {error / np.pi:.3f} π")
        for temperature, phase, error in zip(
            record.temperatures,
            record.berry_phases,
            half_interval(record, "berry_phase_errors"),
            strict=True,
        )
    ]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "band_geometry",
            plot_band_geometry,
            "Quantum metric and Berry curvature of the averaged Bloch Hamiltonian along M–K–Γ; "
            "bars: standard errors.",
        ),
        Drawing("geometry_maps", plot_geometry_maps, "Trace of the quantum metric around K."),
        Drawing(
            "geometry_convergence",
            plot_geometry_convergence,
            "Quantum metric from the first n samples.",
            tab="errors",
        ),
    ),
    facts=list_facts,
)
