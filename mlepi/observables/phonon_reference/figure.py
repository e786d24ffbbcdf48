"""Phonon bands under the frequencies of a reference, and their errors as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
from mlepi.observables.phonon_reference.errors import root_mean_square
from mlepi.observables.phonon_reference.record import PhononReferenceRecord
from mlepi.units import THZ_TO_INVERSE_CM

CENTRES = ("G", "Γ", "GAMMA")
"""Names of the centre of the zone on a path."""


def plot_reference(record: PhononReferenceRecord) -> Figure:
    """Draw the bands of the run, the reference over them, and rigid layers at Γ.

    Args:
        record: of the phonon_reference stage.

    Returns:
        The figure, frequencies in cm⁻¹.
    """
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.95 * COLUMN)
        axes = figure.subplots()
        bands = record.band_frequencies * THZ_TO_INVERSE_CM
        axes.plot(record.band_distances, bands, color=BLUE)[0].set_label("network")
        points = record.reference[record.place_qpoints] * THZ_TO_INVERSE_CM
        lines = axes.plot(
            record.places,
            points,
            "o",
            color="black",
            markerfacecolor="none",
            markersize=3.5,
            clip_on=False,
        )
        if lines:
            lines[0].set_label("reference")
        _draw_rigid_layers(axes, record)
        axes.axhline(0.0, color="0.5", linewidth=0.6, zorder=0)
        label_path(axes, record.band_label_distances, record.band_labels)
        axes.set_ylabel("frequency (cm⁻¹)")
        axes.legend(loc="lower center")
    return figure


def _draw_rigid_layers(axes: Any, record: PhononReferenceRecord) -> None:
    """Draw the ranges of shear and breathing wherever the path meets Γ."""
    named = zip(record.band_label_distances, record.band_labels, strict=True)
    centres = [place for place, name in named if name in CENTRES]
    label = "reference, rigid layers"
    for ends in record.rigid_reference.values():
        low, high = ends * THZ_TO_INVERSE_CM
        axes.errorbar(
            centres,
            np.full(len(centres), (low + high) / 2.0),
            yerr=(high - low) / 2.0,
            fmt="s",
            color=RED,
            markersize=2.5,
            capsize=2.0,
            clip_on=False,
            label=label,
        )
        label = "_"


def _write(values: NDArray[np.float64], digits: int = 0) -> str:
    return ", ".join("–" if np.isnan(x) else f"{x * THZ_TO_INVERSE_CM:.{digits}f}" for x in values)


def _write_range(values: NDArray[np.float64]) -> str:
    return "–".join(f"{x * THZ_TO_INVERSE_CM:.1f}" for x in (values.min(), values.max()))


def build_table(record: PhononReferenceRecord) -> Table:
    """Return both frequencies and the error at every wave vector, of groups and of rigid layers."""
    rows = []
    for number, (name, error) in enumerate(zip(record.names, record.rmse_by_qpoint(), strict=True)):
        known = np.isfinite(record.reference[number])
        wanted, found = (x[number][known] for x in (record.reference, record.frequencies))
        rows.append((name, _write(wanted), _write(found), _write(np.array([error]), 1)))
    for group, error in record.rmse_by_group().items():
        if record.groups.count(group) > 1:
            rows.append((f"all of {group}", "", "", _write(np.array([error]), 1)))
    rows.append(("all", "", "", _write(np.array([record.rmse()]), 1)))
    for mode, ends in record.rigid_reference.items():
        found = record.rigid_frequencies[mode]
        error = root_mean_square(found - ends.mean())
        rows.append(
            (
                f"rigid layers, {mode}",
                _write_range(ends),
                _write_range(found),
                _write(np.array([error]), 1),
            )
        )
    return Table(
        ("q", "reference (cm⁻¹)", "network (cm⁻¹)", "RMSE (cm⁻¹)"),
        tuple(rows),
        title="Phonons against the reference",
        screen_columns=(0, 3),
    )


def build_section(records: Records) -> Section | None:
    """Return the comparison as a part of the report."""
    record: PhononReferenceRecord | None = records.get("phonon_reference")
    if record is None:
        return None
    text = f"Reference: {record.source}. Branches are paired by their order."
    if record.rigid_frequencies:
        steps = " and ".join(f"{step:g}" for step in record.rigid_steps)
        text += (
            f" Rigid layers: lowest and highest frequency for displacements of {steps} Å along all "
            "directions of the mode; their RMSE is from the middle of the reference."
        )
    return Section("Phonons against the reference", (Paragraph(text), build_table(record)))


def list_facts(record: PhononReferenceRecord) -> list[Fact]:
    """Return the errors at wave vectors and of rigid layers, and what the reference is."""
    groups = ", ".join(
        f"{error * THZ_TO_INVERSE_CM:.1f} at {group}"
        for group, error in record.rmse_by_group().items()
    )
    total = f"{record.rmse() * THZ_TO_INVERSE_CM:.1f} cm⁻¹"
    facts = [("frequencies against the reference, RMSE", f"{total}: {groups}")]
    if record.rigid_frequencies:
        modes = "; ".join(
            f"{mode} {_write_range(values)} cm⁻¹, reference "
            f"{_write_range(record.rigid_reference[mode])}"
            for mode, values in record.rigid_frequencies.items()
        )
        facts.append(("rigid layers", modes))
    return [*facts, ("phonon reference", record.source)]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "phonon_reference",
            plot_reference,
            "Phonon bands, and over them the frequencies of the reference.",
        ),
    ),
    facts=list_facts,
    sections=(build_section,),
    tab="phonons",
)
