"""Electron bands, spectral functions, Fermi velocity and its convergence."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    Drawing,
    Fact,
    Headline,
    Paragraph,
    Presentation,
    Records,
    Section,
    Table,
    draw_convergence,
    house_style,
    label_path,
    new_figure,
)
from mlepi.figures.panels import Panel, build_map
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord, PeakWidthRecord
from mlepi.observables.near_k.estimates_panel import build_estimates, describe_window
from mlepi.observables.near_k.record import VelocityRecord
from mlepi.observables.near_k.velocity_tables import velocity_section, with_error
from mlepi.observables.near_k.window_models import estimator_parts
from mlepi.results.quantities import half_interval

ESTIMATORS = (
    ("spectral", "spectral peak", BLUE, "o"),
    ("sorted_average", "sorted average", RED, "s"),
    ("velocity_operator", "velocity operator", GREEN, "^"),
)
"""Field of the record, name, colour and marker of each estimator."""

ENERGY_ESTIMATORS = ESTIMATORS[:2]
"""Those whose velocities come from energies of their own."""


def plot_bands(record: FermiVelocityRecord) -> Figure:
    """Draw the equilibrium bands and density of states, energies from the Fermi energy in eV."""
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.9 * COLUMN)
        bands, dos = figure.subplots(1, 2, sharey=True, width_ratios=(3.0, 1.0))
        bands.plot(record.band_distances, record.bands - record.fermi_energy, color=BLUE)
        label_path(bands, record.band_label_distances, record.band_labels)
        bands.set_ylim(record.dos_energies[0], record.dos_energies[-1])
        bands.set_ylabel("E − E$_F$ (eV)")
        dos.fill_betweenx(record.dos_energies, record.dos, color=BLUE, alpha=0.25, linewidth=0)
        dos.plot(record.dos, record.dos_energies, color=BLUE)
        dos.set_xlim(left=0.0)
        dos.set_xlabel("DOS (1/eV per spin)")
        for axes in (bands, dos):
            axes.axhline(0.0, color="0.5", linewidth=0.6, zorder=0)
    return figure


def draw_spectrum(
    axes: Axes, record: FermiVelocityRecord, spectrum: NDArray[np.float64]
) -> QuadMesh:
    """Draw one A(k, E) of a record, (n_kpoints, n_energies), on the colour scale of all."""
    return axes.pcolormesh(
        record.map_distances,
        record.energies,
        spectrum.T,
        shading="gouraud",
        vmin=0.0,
        vmax=float(np.max(record.spectral_functions)),
        rasterized=True,
    )


def plot_spectral_functions(record: FermiVelocityRecord) -> Figure:
    """Draw A(k, E) along M–K–Γ at rest and at every temperature, with the peaks of the low bands.

    One colour scale for all.
    """
    with house_style():
        n_panels = 1 + len(record.temperatures)
        n_columns = n_panels if n_panels <= 4 else -(-n_panels // 2)
        n_rows = -(-n_panels // n_columns)
        figure = new_figure(0.55 * COLUMN * n_columns + 0.4, 0.75 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        spectra = [record.equilibrium_spectral_function, *record.spectral_functions]
        titles = ["equilibrium", *(f"{t:g} K" for t in record.temperatures)]
        for axes, title, spectrum in zip(panels, titles, spectra, strict=False):
            image = draw_spectrum(axes, record, spectrum)
            axes.set_title(title)
            left, right = axes.get_xlim()
            axes.set_xticks([left, 0.0, right], ["M ←", "K", "→ Γ"])
        for axes in panels[n_panels:]:
            axes.set_axis_off()
        for axes, energies in zip(panels[1:], record.spectral.energies, strict=False):
            _draw_cone(axes, record, energies)
        for axes in grid[:, 0]:
            axes.set_ylabel("E − E$_D$ (eV)")
        figure.colorbar(image, ax=grid, label="A (1/eV per spin)", shrink=0.8)
    return figure


def plot_fermi_velocity(record: FermiVelocityRecord) -> Figure:
    """Draw the mean slope and v with γ₁ pinned against temperature by every estimator.

    With error bars, and the values at rest; the second only where there are split-off bands.
    """
    with house_style():
        pinned = record.spectral.pinned
        figure = new_figure(COLUMN * (1 if pinned is None else 2), 0.85 * COLUMN)
        panels = figure.subplots(1, 1 if pinned is None else 2, squeeze=False)[0]
        at_rest = [record.spectral.equilibrium_slope]
        if pinned is not None:
            at_rest.append(pinned.equilibrium_velocity)
        for axes, rest in zip(panels, at_rest, strict=True):
            axes.axhline(1e-5 * rest, color=GREY, linestyle="--", label="undisplaced")
            axes.set_xlabel("temperature (K)")
        for field, name, colour, marker in ESTIMATORS:
            estimate: VelocityRecord = getattr(record, field)
            drawn = [(estimate.slopes, estimate.slope_errors)]
            if estimate.pinned is not None:
                drawn.append((estimate.pinned.velocities, estimate.pinned.velocity_errors))
            for axes, (values, errors) in zip(panels, drawn, strict=False):
                axes.errorbar(
                    record.temperatures,
                    1e-5 * values,
                    1e-5 * errors,
                    color=colour,
                    marker=marker,
                    label=name,
                )
        panels[0].set_ylabel("mean slope (10⁵ m/s)")
        if pinned is not None:
            panels[1].set_ylabel("v with γ₁ pinned (10⁵ m/s)")
        panels[0].set_title(
            f"{'×'.join(str(n) for n in record.supercell[:2])} cell, {record.n_samples} samples, "
            f"|k−K| {record.velocity_window[0]:g}–{record.velocity_window[1]:g} Å⁻¹"
        )
        panels[0].legend()
    return figure


def plot_low_bands(record: FermiVelocityRecord) -> Figure:
    """Draw the low bands inside the window at the first and the last temperature, with error bars.

    One panel per estimator that follows energies. Points towards M have k < K, those towards Γ
    k > K.
    """
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.85 * COLUMN)
        panels = figure.subplots(1, 2, sharey=True)
        signed = record.map_distances[record.fitted]
        for axes, (field, name, _, marker) in zip(panels, ENERGY_ESTIMATORS, strict=True):
            estimate: VelocityRecord = getattr(record, field)
            axes.plot(
                signed,
                estimate.equilibrium_energies,
                linestyle="",
                marker="_",
                markersize=7,
                color="0.3",
            )
            axes.plot(
                [], [], linestyle="", marker="_", markersize=7, color="0.3", label="undisplaced"
            )
            last = len(record.temperatures) - 1
            for index, colour in {0: GREEN, last: RED}.items():
                for band in range(estimate.energies.shape[2]):
                    axes.errorbar(
                        signed,
                        estimate.energies[index, :, band],
                        estimate.energy_errors[index, :, band],
                        color=colour,
                        linestyle="",
                        marker=marker,
                        label=f"{record.temperatures[index]:g} K" if band == 0 else None,
                    )
            axes.set_title(name)
            axes.set_xlabel("M ←  k − K (Å⁻¹)  → Γ")
        panels[0].set_ylabel("E − E$_D$ (eV)")
        panels[1].legend()
    return figure


def plot_convergence(record: FermiVelocityRecord) -> Figure:
    """Draw the slope from the first n samples against n, a line per temperature and estimator.

    Older records have v of the free fit in its place.
    """
    by_slope = record.spectral.convergence_slopes.size > 0
    with house_style():
        figure = new_figure(2.1 * COLUMN, 0.85 * COLUMN)
        panels = figure.subplots(1, len(ESTIMATORS), sharey=True)
        for axes, (field, name, _, marker) in zip(panels, ESTIMATORS, strict=True):
            estimate: VelocityRecord = getattr(record, field)
            values, errors, rest = (
                (
                    estimate.convergence_slopes,
                    estimate.convergence_slope_errors,
                    estimate.equilibrium_slope,
                )
                if by_slope
                else (
                    estimate.convergence_velocities,
                    estimate.convergence_errors,
                    estimate.equilibrium_velocity,
                )
            )
            draw_convergence(
                axes,
                estimate.convergence_counts,
                1e-5 * values,
                1e-5 * errors,
                record.temperatures,
                marker,
            )
            axes.axhline(1e-5 * rest, color=GREY, linestyle="--")
            axes.set_title(name)
        panels[0].set_ylabel(f"{'mean slope' if by_slope else 'v$_F$, free fit'} (10⁵ m/s)")
        panels[1].legend()
    return figure


def _draw_cone(axes: Axes, record: FermiVelocityRecord, energies: NDArray[np.float64]) -> None:
    """Mark the peaks of the low bands; the fitted points are those of the map, in its order."""
    axes.plot(
        record.map_distances[record.fitted],
        energies,
        linestyle="",
        marker="x",
        markersize=2.5,
        color=BLUE,
    )


def list_facts(record: FermiVelocityRecord) -> list[Fact]:
    """List what the report tells of the electrons at rest."""
    return [
        (
            "Fermi energy, undisplaced",
            f"{record.fermi_energy:.4f} eV at {record.electronic_temperature:g} K smearing",
        ),
        ("Dirac energy, undisplaced", f"{record.dirac_energy:.4f} eV"),
        (
            "weight of low bands inside the energy window",
            f"{100 * record.captured_weights.min():.1f} % at least",
        ),
    ]


def width_section(records: Records) -> Section | None:
    """Tabulate what wider lines do to the spectral peaks; None for files that do not say."""
    record = records.get("fermi_velocity")
    if record is None or record.peak_widths is None:
        return None
    found: PeakWidthRecord = record.peak_widths
    bars = [
        half_interval(found, name, around=record.spectral)
        for name in ("slope_ratio_errors", "pinned_ratio_errors")
    ]
    header = ["T (K)"]
    for name in ("slope", "v pinned"):
        header += [f"{name} / undisplaced, {1e3 * width:.0f} meV" for width in found.widths]
    rows = [
        [f"{temperature:g}"]
        + [
            with_error(value, error)
            for values, errors in (
                (found.slope_ratios[:, i], bars[0][:, i]),
                (found.pinned_ratios[:, i], bars[1][:, i]),
            )
            for value, error in zip(values, errors, strict=True)
        ]
        for i, temperature in enumerate(record.temperatures)
    ]
    text = (
        "The maximum of a broadened spectrum is pulled by the weight beside it. The first width "
        "is that of the run (stage.fermi_velocity.peak_width); wider lines are the same spectra "
        "convolved once more. What still changes with the width is no property of the band."
    )
    low, high = record.velocity_window
    title = f"Spectral peaks by the width of the lines, |k−K| = {low:g}–{high:g} Å⁻¹"
    return Section(
        "Width of the spectral lines", [Paragraph(text), Table(header, rows, title)], "estimates"
    )


def build_map_panel(records: Records) -> Panel:
    """Return A(k, E) with a slider over temperatures, and the peaks of the low bands on it."""
    record: FermiVelocityRecord = records["fermi_velocity"]
    names = [f"{temperature:g} K" for temperature in record.temperatures]
    spectra = dict(zip(names, record.spectral_functions, strict=True))
    places = record.map_distances[record.fitted]
    peaks = {
        name: (places, energies)
        for name, energies in zip(names, record.spectral.energies, strict=True)
    }
    ends = record.map_distances[[0, -1]]
    return build_map(
        record.map_distances,
        record.energies,
        {"undisplaced": record.equilibrium_spectral_function, **spectra},
        ("k − K (Å⁻¹)", "E − E$_D$ (eV)", "A (1/eV per spin)"),
        {"undisplaced": (places, record.spectral.equilibrium_energies), **peaks},
        ((ends[0], "M ←"), (0.0, "K"), (ends[1], "→ Γ")),
    )


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "bands",
            plot_bands,
            "Electron bands and density of states of the undisplaced structure.",
        ),
        Drawing(
            "spectral_function",
            plot_spectral_functions,
            "Unfolded spectral function along M–K–Γ, averaged over the samples; crosses: peaks of "
            "the low bands.",
            interactive=build_map_panel,
        ),
        Drawing(
            "fermi_velocity",
            plot_fermi_velocity,
            "Mean slope of the low bands, and v with γ₁ pinned by the split-off bands, against "
            "temperature; bars: bootstrap standard deviation.",
            tab="estimates",
            interactive=build_estimates,
        ),
        Drawing(
            "low_bands",
            plot_low_bands,
            "Low bands in the fitted window by the estimators that follow energies.",
            tab="estimates",
        ),
        Drawing(
            "convergence",
            plot_convergence,
            "Mean slope from the first n samples.",
            tab="errors",
        ),
    ),
    facts=list_facts,
    sections=(velocity_section, width_section),
    error_parts=(estimator_parts,),
    headlines=(
        Headline(
            "spectral/slopes",
            "Fermi velocity",
            lambda record: record.spectral.equilibrium_slope,
            scale=1e-5,
            unit="10⁵ m/s",
            detail=describe_window,
        ),
    ),
)
