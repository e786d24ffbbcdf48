"""Phonon bands and density of states."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.plots.style import BLUE, COLUMN, house_style, label_path, new_figure
from mlepi.results import PhononRecord
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
        dos.fill_betweenx(record.dos_frequencies * THZ_TO_INVERSE_CM, record.dos, color=BLUE, alpha=0.25, linewidth=0)
        dos.plot(record.dos, record.dos_frequencies * THZ_TO_INVERSE_CM, color=BLUE)
        dos.set_xlim(left=0.0)
        dos.set_xlabel("DOS (1/THz)")
    return figure
