"""Phonon bands and density of states, and what the force constants obey."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    Drawing,
    Fact,
    Presentation,
    Records,
    house_style,
    label_path,
    new_figure,
)
from mlepi.figures.panels import Panel, Vibrations, build_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.pipeline.stages.phonon.record import PhononRecord
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


def list_facts(record: PhononRecord) -> list[Fact]:
    """Return frequencies and residuals of the rules."""
    lowest, highest = record.lowest_frequency, float(record.band_frequencies.max())
    before, after = record.raw_sum_rule_residual, record.sum_rule_residual
    facts = [
        ("lowest frequency, translations apart", f"{lowest * THZ_TO_INVERSE_CM:.1f} cm⁻¹"),
        ("highest frequency of the bands", f"{highest * THZ_TO_INVERSE_CM:.1f} cm⁻¹"),
        ("force constants", f"{record.method}; rules imposed: {record.sum_rules}"),
        ("sum-rule residual, before → after", f"{before:.1e} → {after:.1e} eV/Å²"),
    ]
    if math.isfinite(record.largest_residual_force):
        largest = f"{record.largest_residual_force:.4f} eV/Å"
        facts.append(("largest residual force on an atom", largest))
    if len(record.layer_forces):
        forces = ", ".join(f"{force:+.4f}" for force in record.layer_forces)
        facts.append(("residual out-of-plane force on each layer", f"{forces} eV/Å per atom"))
    if math.isfinite(record.rotational_residual):
        before, after = record.raw_rotational_residual, record.rotational_residual
        facts.append(("… rotational (Born–Huang)", f"{before:.1e} → {after:.1e} eV/Å"))
        before, after = record.raw_huang_residual, record.huang_residual
        facts.append(("… Huang, per cell", f"{before:.1e} → {after:.1e} eV"))
    return facts


def build_modes_panel(records: Records) -> Panel:
    """Return the bands with the motion of every mode, from the force constants of the record."""
    record: PhononRecord = records["phonon"]
    _, vectors = compute_eigenvectors(record.build_force_constants(), record.band_qpoints)
    places = zip(record.band_label_distances, record.band_labels, strict=True)
    return build_modes(
        Vibrations(
            atoms=record.atoms,
            distances=record.band_distances,
            qpoints=record.band_qpoints,
            frequencies=record.band_frequencies * THZ_TO_INVERSE_CM,
            vectors=vectors,
            ticks=[(place, {"G": "Γ", "GAMMA": "Γ"}.get(name, name)) for place, name in places],
            dos=(record.dos_frequencies * THZ_TO_INVERSE_CM, record.dos),
            labels=("frequency (cm⁻¹)", "DOS (1/THz)"),
        )
    )


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "phonons",
            plot_phonons,
            "Phonon bands and density of states; imaginary frequencies below zero.",
            interactive=build_modes_panel,
        ),
    ),
    facts=list_facts,
    tab="phonons",
)
