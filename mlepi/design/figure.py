"""The figure of a design: how wide the cells are, how near and how far atoms are, how different."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlepi.design.table import Design
from mlepi.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    house_style,
    new_figure,
    temperature_colours,
)

COLOURS = {"thermal": BLUE, "slide": RED, "spacing": GREEN, "strain": "#6b46c1", "twist": "#b7791f"}
"""Kind → colour."""


def draw_design(design: Design) -> Figure:
    """Draw widths, shortest distances, displacements and variety.

    Args:
        design: with at least one structure.
    """
    with house_style():
        figure = new_figure(2.2 * COLUMN, 1.7 * COLUMN)
        panels = figure.subplots(2, 2)
        _draw_widths(panels[0, 0], design)
        _draw_distances(panels[0, 1], design)
        _draw_displacements(panels[1, 0], design)
        _draw_variety(panels[1, 1], design)
    return figure


def _draw_widths(axes: Axes, design: Design) -> None:
    for kind in dict.fromkeys(row.kind for row in design.rows):
        own = [row for row in design.rows if row.kind == kind]
        atoms, widths = [row.n_atoms for row in own], [row.width for row in own]
        axes.plot(atoms, widths, "o", color=COLOURS[kind], label=kind, alpha=0.7)
    axes.axhline(design.reach, color=GREY, linestyle="--", label="receptive field")
    axes.set_xlabel("atoms")
    axes.set_ylabel("width (Å)")
    axes.legend()


def _draw_distances(axes: Axes, design: Design) -> None:
    values = [row.shortest for row in design.rows]
    axes.hist(values, bins=max(5, min(30, len(values))), color=BLUE, alpha=0.8)
    axes.set_xlabel("distance of the nearest atoms (Å)")
    axes.set_ylabel("structures")


def _draw_displacements(axes: Axes, design: Design) -> None:
    axes.plot(design.temperatures, design.expected, color=GREY, label="theory")
    points = [(row.temperature, row.rms_displacement) for row in design.rows]
    axes.plot(*np.array(points).T, "o", color=BLUE, alpha=0.6, label="selected")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("temperature (K)")
    axes.set_ylabel("RMS displacement (Å)")
    axes.legend()


def _draw_variety(axes: Axes, design: Design) -> None:
    axes.plot(*np.array(design.map_drawn).T, ".", color="0.75", label="drawn")
    chosen = np.array(design.map_chosen)
    temperatures = np.array([row.temperature for row in design.rows])
    scale = np.array(sorted(set(design.temperatures)))
    for temperature, colour in zip(scale, temperature_colours(scale), strict=True):
        own = temperatures == temperature
        if own.any():
            axes.plot(*chosen[own].T, "o", color=colour, label=f"{temperature:g} K")
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second")
    axes.legend()
