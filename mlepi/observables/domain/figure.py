"""Where the samples lie in the range of the training structures.

Histograms of distances and of the spread of networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Presentation,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.observables.domain.record import DomainRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_BINS = 24


class Panel(NamedTuple):
    """One histogram.

    Attributes:
        name: of the quantity, with its unit.
        samples: (n_samples, n_temperatures).
        training: (n_training,); NaN where a structure has no such quantity.
    """

    name: str
    samples: NDArray[np.float64]
    training: NDArray[np.float64]


def plot_domain(record: DomainRecord) -> Figure:
    """Draw histograms of every quantity and spread at every temperature over the training range."""
    panels = list(_list_panels(record))
    with house_style():
        n_columns = min(3, len(panels))
        n_rows = -(-len(panels) // n_columns)
        figure = new_figure(0.85 * COLUMN * n_columns, 0.62 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, record.temperatures)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        grid.flat[0].legend()
    return figure


def _list_panels(record: DomainRecord) -> Iterator[Panel]:
    for number, name in enumerate(record.quantities):
        values = record.values[..., number]
        if np.any(np.isfinite(values)):
            yield Panel(f"{name} (Å)", values, record.training_values[:, number])
    for name, factor, samples, training in (
        ("spread of H (meV)", 1e3, record.hamiltonian_spreads, record.training_hamiltonian_spreads),
        ("spread of forces (eV/Å)", 1.0, record.force_spreads, record.training_force_spreads),
    ):
        if samples.size:
            yield Panel(name, factor * samples, factor * training)


def _draw(axes: Axes, panel: Panel, temperatures: NDArray[np.float64]) -> None:
    known = panel.training[np.isfinite(panel.training)]
    if known.size:
        axes.axvspan(known.min(), known.max(), color=GREY, alpha=0.2, linewidth=0, label="training")
    compared = panel.samples[np.isfinite(panel.samples)]
    everything = np.concatenate([compared, known])
    margin = 0.02 * np.ptp(everything) + 1e-6
    bins = np.linspace(everything.min() - margin, everything.max() + margin, N_BINS)
    for index, colour in enumerate(temperature_colours(temperatures)):
        axes.hist(
            panel.samples[np.isfinite(panel.samples[:, index]), index],
            bins=bins.tolist(),
            histtype="step",
            color=colour,
            linewidth=1.0,
            label=f"{temperatures[index]:g} K",
        )
    axes.set_xlabel(panel.name)
    axes.set_ylabel("samples")


def list_domain_facts(record: DomainRecord) -> list[Fact]:
    """Return shares of the samples outside the training data, and the worst samples."""
    facts = []
    if record.source:
        facts.append(("training structures", f"{record.n_training} of {record.source}"))
        for temperature, share in zip(record.temperatures, record.outside_shares, strict=True):
            name = f"samples outside their range, {temperature:g} K"
            facts.append((name, f"{100 * share:.0f} %"))
    for what, factor, unit, spreads, training in (
        ("H", 1e3, "meV", record.hamiltonian_spreads, record.training_hamiltonian_spreads),
        ("forces", 1.0, "eV/Å", record.force_spreads, record.training_force_spreads),
    ):
        if spreads.size and not training.size:
            found = [np.sqrt(np.nanmean(column**2)) for column in spreads.T]
            values = ", ".join(
                f"{factor * x:.3g} at {t:g} K"
                for x, t in zip(found, record.temperatures, strict=True)
            )
            facts.append((f"spread of the networks in {what} ({unit})", values))
    haunted = np.count_nonzero(record.ghosts.any(axis=1))
    facts.append(("samples with ghost states", f"{haunted} of {record.n_samples}"))
    for sample, temperature in zip(record.worst_samples, record.worst_temperatures, strict=True):
        facts.append(_describe_sample(record, int(sample), float(temperature)))
    return facts


def _describe_sample(record: DomainRecord, sample: int, temperature: float) -> Fact:
    index = int(np.flatnonzero(record.temperatures == temperature)[0])
    row = min(sample, len(record.distances) - 1)
    reason = f"{record.ghosts[row, index]} ghost states"
    if record.worst_quantities[row, index] >= 0:
        name = record.quantities[int(record.worst_quantities[row, index])]
        distance = f"{record.distances[row, index]:+.1f} standard deviations from the range"
        reason += f", {distance} ({name})"
    own = f"sample_{sample:06d}_{temperature:g}K"
    files = [file for file in record.label_files if own in file]
    return f"sample {sample} at {temperature:g} K", "; ".join([reason, *files])


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "domain",
            plot_domain,
            "Geometry of the samples over the range of the training structures (grey).",
        ),
    ),
    facts=list_domain_facts,
    tab="trust",
)
