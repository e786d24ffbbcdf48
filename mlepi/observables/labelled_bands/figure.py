"""Bands of labelled supercells: levels, unfolded spectral functions, and errors as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    RED,
    Drawing,
    Fact,
    Paragraph,
    Presentation,
    Records,
    Section,
    Table,
    house_style,
    label_path,
    new_figure,
)
from mlepi.observables.labelled_bands.record import LabelledBandsRecord, LevelErrors, SampleBands

SHOWN = 1.0
"""eV, half height of the panel with the levels."""
MOST = 4
"""Supercells that are drawn; all are in the table."""
HEADER = (
    *("supercell", "atoms", "k-points", "levels", "H", "RMS (meV)", "aligned (meV)"),
    *("median (meV)", "ghosts", "k-points with ghosts"),
)


def plot_bands(record: LabelledBandsRecord) -> Figure:
    """Draw levels, and A(k, E) of labels and network, one row per supercell.

    Args:
        record: of the labelled_bands stage.

    Returns:
        The figure, energies in eV from the Fermi energy of the labels.
    """
    samples = list(record.samples.values())[:MOST]
    with house_style():
        figure = new_figure(2.4 * COLUMN, COLUMN * len(samples))
        panels = figure.subplots(len(samples), 3, width_ratios=(1.3, 1.0, 1.0), squeeze=False)
        for row, sample in zip(panels, samples, strict=True):
            _draw_levels(row[0], sample, record.window)
            image = _draw_spectra(row[1:], sample)
            figure.colorbar(image, ax=list(row[1:]), label="A (1/eV per spin)", shrink=0.8)
            for axes in row:
                label_path(axes, sample.label_distances, sample.labels)
                axes.axhline(0.0, color=BLUE, linewidth=0.4, zorder=0)
    return figure


def _draw_levels(axes: Any, sample: SampleBands, window: float) -> None:
    fermi_energy, errors = sample.fermi_energy, sample.best
    shown = np.abs(sample.labelled_levels - fermi_energy).min(axis=0) < SHOWN
    for levels, name, zero, style in (
        (sample.labelled_levels, "labels", 0.0, {"color": "black", "linewidth": 0.9}),
        (
            sample.levels,
            "network",
            errors.median,
            {"color": RED, "linewidth": 0.7, "linestyle": (0, (3, 2))},
        ),
    ):
        lines = axes.plot(sample.distances, levels[:, shown] - fermi_energy - zero, **style)
        if lines:
            lines[0].set_label(name)
    axes.set_ylim(-SHOWN, SHOWN)
    axes.set_ylabel("E − E$_F$ (eV)")
    axes.legend(loc="upper right", frameon=True, framealpha=0.9)
    axes.set_title(
        f"{sample.name}: RMS within {window:g} eV {1e3 * errors.rms:.1f} meV, "
        f"{1e3 * errors.aligned:.1f} aligned"
    )


def _draw_spectra(panels: Any, sample: SampleBands) -> Any:
    """Draw both spectral functions on one scale, and return the last image."""
    highest = float(sample.labelled_spectrum.max())
    for axes, title, spectrum in zip(
        panels,
        ("A(k, E), labels", "network"),
        (sample.labelled_spectrum, sample.spectrum),
        strict=True,
    ):
        image = axes.pcolormesh(
            sample.distances,
            sample.energies,
            spectrum.T,
            shading="nearest",
            vmin=0.0,
            vmax=highest,
            rasterized=True,
        )
        axes.set_title(title)
    return image


def build_table(record: LabelledBandsRecord) -> Table:
    """Return the errors of every supercell, without and with the level shift."""
    rows = []
    for sample in record.samples.values():
        head = (sample.name, str(sample.n_atoms), str(len(sample.kpoints)), str(sample.n_levels))
        rows.append((*head, "as predicted", *_write(sample.plain)))
        if sample.shifted is not None:
            rows.append((*head, "with the level shift", *_write(sample.shifted)))
    return Table(
        HEADER,
        tuple(rows),
        title=f"Levels within ±{record.window:g} eV of the labels' Fermi energy",
        screen_columns=(0, 4, 5, 6, 8),
    )


def _write(errors: LevelErrors) -> tuple[str, ...]:
    energies = (errors.rms, errors.aligned, errors.median)
    return (*(f"{1e3 * x:.1f}" for x in energies), str(errors.ghosts), str(errors.ghost_kpoints))


def build_section(records: Records) -> Section | None:
    """Return the comparison as a part of the report."""
    record: LabelledBandsRecord | None = records.get("labelled_bands")
    if record is None:
        return None
    cell = "×".join(str(n) for n in record.supercell)
    text = (
        f"H and S of the labels of {record.data} and of the network for the same {cell} cells, "
        f"diagonalised along the path of the primitive zone. Levels within ±{record.window:g} eV "
        "of the labels' Fermi energy are paired by number; aligned is less their median, since H "
        "is defined up to a multiple of S. A ghost lies 1 eV below the lowest level of the labels."
    )
    if record.potentials is not None:
        text += f" The potentials of {record.potentials} are added to the labels, as in training."
    return Section("Labelled supercells", (Paragraph(text), build_table(record)))


def list_facts(record: LabelledBandsRecord) -> list[Fact]:
    """Return the errors of every supercell, without and with the level shift."""
    facts = []
    for sample in record.samples.values():
        told = [_tell("as predicted", sample.plain)]
        if sample.shifted is not None:
            told.append(_tell("with the level shift", sample.shifted))
        name = f"levels of {sample.name} within ±{record.window:g} eV, RMS"
        facts.append((name, "; ".join(told)))
    return facts


def _tell(words: str, errors: LevelErrors) -> str:
    rms, aligned = 1e3 * errors.rms, 1e3 * errors.aligned
    return f"{words} {rms:.1f} meV ({aligned:.1f} less the median), {errors.ghosts} ghosts"


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "labelled_bands",
            plot_bands,
            "Levels and unfolded spectral functions of labelled supercells, of labels and network.",
        ),
    ),
    facts=list_facts,
    sections=(build_section,),
)
