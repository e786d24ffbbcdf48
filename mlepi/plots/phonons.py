"""Phonon bands and density of states, and how well the samples reproduce the distribution that they stand for."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlepi.plots.style import (
    BLUE,
    COLUMN,
    GREY,
    house_style,
    label_path,
    new_figure,
    temperature_colours,
)
from mlepi.results import PhononRecord, SamplingRecord
from mlepi.units import THZ_TO_INVERSE_CM


def plot_phonons(record: PhononRecord) -> Figure:
    """Draw bands and density of states side by side; imaginary frequencies lie below zero.

    Args:
        record: of the phonon stage.

    Returns:
        The figure, frequencies in cm⁻¹.
    """
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.9 * COLUMN)
        bands, dos = figure.subplots(1, 2, sharey=True, width_ratios=(3.0, 1.0))
        bands.plot(record.band_distances, record.band_frequencies * THZ_TO_INVERSE_CM, color=BLUE)
        bands.axhline(0.0, color="0.5", linewidth=0.6, zorder=0)
        label_path(bands, record.band_label_distances, record.band_labels)
        bands.set_ylabel("frequency (cm⁻¹)")
        dos.fill_betweenx(
            record.dos_frequencies * THZ_TO_INVERSE_CM,
            record.dos,
            color=BLUE,
            alpha=0.25,
            linewidth=0,
        )
        dos.plot(record.dos, record.dos_frequencies * THZ_TO_INVERSE_CM, color=BLUE)
        dos.set_xlim(left=0.0)
        dos.set_xlabel("DOS (1/THz)")
    return figure


def plot_sampling(record: SamplingRecord) -> Figure:
    """Draw ⟨u²⟩ of the first n samples over that of the harmonic distribution, in plane and out of plane.

    Args:
        record: of the sampling stage.

    Returns:
        The figure; bars are standard errors by groups of independent samples. Without motion
        (classical, 0 K) nothing is drawn.
    """
    exact = record.mean_square_displacements.mean(axis=1)
    parts = np.stack([exact[:, 0] + exact[:, 1], exact[:, 2]], axis=1)
    colours = temperature_colours(record.temperatures)
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.85 * COLUMN)
        panels = figure.subplots(1, 2, sharey=True)
        for direction, (axes, name) in enumerate(
            zip(panels, ("in plane", "out of plane"), strict=True)
        ):
            axes.axhline(1.0, color=GREY, linestyle="--")
            for i, temperature in enumerate(record.temperatures):
                if parts[i, direction] > 0:
                    axes.errorbar(
                        record.convergence_counts,
                        record.convergence[:, i, direction] / parts[i, direction],
                        record.convergence_errors[:, i, direction] / parts[i, direction],
                        color=colours[i],
                        marker="o",
                        label=f"{temperature:g} K",
                    )
            axes.set_xscale("log")
            axes.set_xlabel("samples")
            axes.set_title(name)
        panels[0].set_ylabel("⟨u²⟩ / harmonic ⟨u²⟩")
        if np.any(parts > 0):
            panels[1].legend()
    return figure
