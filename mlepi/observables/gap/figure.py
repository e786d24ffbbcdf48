"""Gap, effective masses and density of states against temperature."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlepi.plots.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.results.dos import DosRecord
from mlepi.results.effective_mass import EffectiveMassRecord
from mlepi.results.gap import GapRecord


def plot_gap(record: GapRecord) -> Figure:
    """Draw the gap by both estimators, and the shifts of the edges at every k-point, with error bars."""
    with house_style():
        figure = new_figure(1.6 * COLUMN, 0.85 * COLUMN)
        gap, edges = figure.subplots(1, 2)
        gap.axhline(1e3 * record.equilibrium_gap, color=GREY, linestyle="--", label="undisplaced")
        for values, errors, name, colour, marker in (
            (record.gaps, record.gap_errors, "spectral peaks", BLUE, "o"),
            (
                record.supercell_edges[:, 2],
                record.supercell_edge_errors[:, 2],
                "supercells' own",
                RED,
                "s",
            ),
        ):
            gap.errorbar(
                record.temperatures,
                1e3 * values,
                1e3 * errors,
                color=colour,
                marker=marker,
                label=name,
            )
        gap.set_ylabel("gap (meV)")
        gap.set_title(
            f"{'×'.join(str(n) for n in record.supercell[:2])} cell, {record.n_samples} samples"
        )
        shifts = record.band_energies - record.equilibrium
        for point, kpoint in enumerate(record.kpoints):
            for band, (name, colour) in enumerate((("valence", GREEN), ("conduction", BLUE))):
                edges.errorbar(
                    record.temperatures,
                    1e3 * shifts[:, point, band],
                    1e3 * record.band_errors[:, point, band],
                    color=colour,
                    marker="os^vD"[point % 5],
                    label=f"{name} at ({', '.join(f'{x:.2g}' for x in kpoint)})",
                )
        edges.axhline(0.0, color=GREY, linestyle="--")
        edges.set_ylabel("shift of the band (meV)")
        for axes in (gap, edges):
            axes.set_xlabel("temperature (K)")
            axes.legend()
    return figure


def plot_effective_masses(record: EffectiveMassRecord) -> Figure:
    """Draw the peaks along the line at the first and the last temperature, and the masses against temperature."""
    with house_style():
        figure = new_figure(1.6 * COLUMN, 0.85 * COLUMN)
        bands, masses = figure.subplots(1, 2)
        bands.plot(record.distances, 1e3 * record.equilibrium, color=GREY, linestyle="--")
        colours = temperature_colours(record.temperatures)
        for index in {0: None, len(record.temperatures) - 1: None}:
            for band in range(2):
                bands.errorbar(
                    record.distances,
                    1e3 * record.band_energies[index, :, band],
                    1e3 * record.band_errors[index, :, band],
                    color=colours[index],
                    linestyle="",
                    marker="o",
                    label=f"{record.temperatures[index]:g} K" if band else None,
                )
        bands.set_xlabel("distance from the k-point (Å⁻¹)")
        bands.set_ylabel("E (meV)")
        bands.legend()
        for band, (name, colour) in enumerate((("valence", GREEN), ("conduction", BLUE))):
            masses.axhline(record.equilibrium_masses[band], color=colour, linestyle="--")
            masses.errorbar(
                record.temperatures,
                record.masses[:, band],
                record.mass_errors[:, band],
                color=colour,
                marker="o",
                label=name,
            )
        masses.set_xlabel("temperature (K)")
        masses.set_ylabel("effective mass (m$_e$)")
        masses.set_title(
            f"{'×'.join(str(n) for n in record.supercell[:2])} cell, {record.n_samples} samples"
        )
        masses.legend()
    return figure


def plot_dos(record: DosRecord) -> Figure:
    """Draw the density of states at every temperature, and its projections at the highest one against those at rest."""
    with house_style():
        figure = new_figure(2.0 * COLUMN, 0.9 * COLUMN)
        total, parts = figure.subplots(1, 2, sharex=True)
        total.plot(
            record.energies, record.equilibrium, color=GREY, linestyle="--", label="undisplaced"
        )
        colours = temperature_colours(record.temperatures)
        for index, temperature in enumerate(record.temperatures):
            total.plot(
                record.energies, record.dos[index], color=colours[index], label=f"{temperature:g} K"
            )
            low, high = (record.dos[index] + sign * record.dos_errors[index] for sign in (-1, 1))
            total.fill_between(
                record.energies, low, high, color=colours[index], alpha=0.3, linewidth=0
            )
        hottest = int(np.argmax(record.temperatures))
        for number, channel in enumerate(record.channels):
            (line,) = parts.plot(
                record.energies, record.projections[hottest, number], label=channel
            )
            parts.plot(
                record.energies,
                record.equilibrium_projections[number],
                color=line.get_color(),
                linestyle="--",
            )
        parts.set_title(f"{record.temperatures[hottest]:g} K, dashed: undisplaced")
        total.set_ylabel("DOS (1/eV per cell and spin)")
        for axes in (total, parts):
            axes.set_xlabel("E − E$_F$ (eV)")
            axes.axvline(0.0, color="0.5", linewidth=0.6, zorder=0)
            axes.set_ylim(bottom=0.0)
            axes.legend()
    return figure
