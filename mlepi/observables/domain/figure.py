"""Where the samples lie in the range of the training structures.

Histograms of distances and of the spread of networks.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.plots.style import COLUMN, GREY, house_style, new_figure, temperature_colours
from mlepi.results import DomainRecord

N_BINS = 24


def plot_domain(record: DomainRecord) -> Figure:
    """Draw histograms of every quantity at every temperature over the training range (grey), and of the networks' spread."""
    panels: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = [
        (f"{name} (Å)", record.values[..., number], record.training_values[:, number])
        for number, name in enumerate(record.quantities)
        if np.any(np.isfinite(record.values[..., number]))
    ]
    for name, factor, samples, training in (
        ("spread of H (meV)", 1e3, record.hamiltonian_spreads, record.training_hamiltonian_spreads),
        ("spread of forces (eV/Å)", 1.0, record.force_spreads, record.training_force_spreads),
    ):
        if samples.size:
            panels.append((name, factor * samples, factor * training))
    with house_style():
        n_columns = min(3, len(panels))
        n_rows = -(-len(panels) // n_columns)
        figure = new_figure(0.85 * COLUMN * n_columns, 0.62 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        colours = temperature_colours(record.temperatures)
        for axes, (name, samples, training) in zip(grid.flat, panels, strict=False):
            known = training[np.isfinite(training)]
            if known.size:
                axes.axvspan(
                    known.min(), known.max(), color=GREY, alpha=0.2, linewidth=0, label="training"
                )
            everything = np.concatenate([samples.ravel(), known])
            margin = 0.02 * np.ptp(everything) + 1e-6
            bins = np.linspace(everything.min() - margin, everything.max() + margin, N_BINS)
            for index, colour in enumerate(colours):
                label = f"{record.temperatures[index]:g} K"
                axes.hist(
                    samples[:, index],
                    bins=bins,
                    histtype="step",
                    color=colour,
                    linewidth=1.0,
                    label=label,
                )
            axes.set_xlabel(name)
            axes.set_ylabel("samples")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        grid.flat[0].legend()
    return figure


def list_domain_facts(record: DomainRecord) -> list[list[str]]:
    """Return rows (quantity, value) for the report.

    Shares outside the training data, and the worst samples.
    """
    rows = []
    if record.source:
        rows.append(["training structures", f"{record.n_training} of {record.source}"])
        for temperature, share in zip(record.temperatures, record.outside_shares, strict=True):
            rows.append([f"samples outside their range, {temperature:g} K", f"{100 * share:.0f} %"])
    rows.append(
        [
            "samples with ghost states",
            f"{np.count_nonzero(record.ghosts.any(axis=1))} of {record.n_samples}",
        ]
    )
    for sample, temperature in zip(record.worst_samples, record.worst_temperatures, strict=True):
        index = int(np.flatnonzero(record.temperatures == temperature)[0])
        row = min(int(sample), len(record.distances) - 1)
        reason = f"{record.ghosts[row, index]} ghost states"
        if record.worst_quantities[row, index] >= 0:
            name = record.quantities[int(record.worst_quantities[row, index])]
            reason += (
                f", {record.distances[row, index]:+.1f} standard deviations from the range ({name})"
            )
        files = [
            file
            for file in record.label_files
            if f"sample_{int(sample):06d}_{temperature:g}K" in file
        ]
        rows.append([f"sample {int(sample)} at {temperature:g} K", "; ".join([reason, *files])])
    return rows
