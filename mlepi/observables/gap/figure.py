"""Gap and band edges against temperature."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    Drawing,
    Headline,
    Presentation,
    house_style,
    new_figure,
)
from mlepi.observables.gap.error_parts import width_parts
from mlepi.observables.gap.record import GapRecord


def plot_gap(record: GapRecord) -> Figure:
    """Draw the gap by both estimators and the shifts of the edges at every k-point."""
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


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "gap",
            plot_gap,
            "Gap and shifts of the band edges against temperature; bars: standard errors.",
        ),
    ),
    error_parts=(width_parts,),
    headlines=(
        Headline("gaps", "gap", lambda record: record.equilibrium_gap, scale=1e3, unit="meV"),
        Headline(
            "direct_gaps",
            "smallest direct gap",
            lambda record: record.equilibrium_direct_gap,
            scale=1e3,
            unit="meV",
        ),
    ),
)
