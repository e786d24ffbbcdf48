"""Density of states and its projections at temperature."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Presentation,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.observables.dos.record import DosRecord


def plot_dos(record: DosRecord) -> Figure:
    """Draw the density of states at every temperature, and its projections when hot and at rest."""
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


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "dos",
            plot_dos,
            "Density of states of the displaced supercells and its projections; bands: standard "
            "errors.",
        ),
    )
)
