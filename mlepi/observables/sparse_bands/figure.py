"""States of a twisted bilayer around its Fermi level beside the continuum model."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Presentation,
    house_style,
    label_path,
    new_figure,
)
from mlepi.observables.sparse_bands.record import SparseBandsRecord

MARGIN = 1.15
"""Energy range of the figure relative to that of the states."""


def plot_moire_bands(record: SparseBandsRecord) -> Figure:
    """Draw the states at the k-points that were solved, and the continuum bands behind.

    Energies are counted from the Fermi energy, in meV. The continuum model is aligned to the mean
    of the four states around neutrality where both have their Dirac points, at the first K.

    Args:
        record: of the sparse_bands stage.

    Returns:
        The figure.
    """
    with house_style():
        figure = new_figure(1.3 * COLUMN, 1.1 * COLUMN)
        axes = figure.subplots()
        scale = 1e3 if record.moire else 1.0
        energies = scale * (record.energies - record.fermi_energy)
        if record.continuum is not None:
            offset = 1e3 * (record.dirac_energy() - record.fermi_energy)
            lines = axes.plot(
                record.continuum.distances,
                1e3 * record.continuum.energies + offset,
                color=GREY,
                linewidth=0.8,
            )
            lines[0].set_label(f"continuum model, {record.continuum.twist:.2f}°")
        points = axes.plot(
            record.distances, energies, color=BLUE, linestyle="none", marker="o", markersize=2.5
        )
        points[0].set_label("network")
        axes.axhline(0.0, color="0.5", linewidth=0.6, zorder=0)
        label_path(axes, record.label_distances, record.labels)
        if record.moire:
            reach = MARGIN * min(float(energies[:, -1].min()), -float(energies[:, 0].max()))
            axes.set_ylim(-reach, reach)
        axes.set_ylabel("E − E$_F$ (meV)" if record.moire else "E − E$_F$ (eV)")
        axes.legend(loc="upper right")
    return figure


def list_band_facts(record: SparseBandsRecord) -> list[Fact]:
    """Return the quantities that a report shows of the states of a large cell."""
    if not record.moire:
        gap = record.band_gap()
        return [
            (
                f"gap along {'-'.join(record.labels)}",
                f"{gap:.4f} eV" if gap > 0.0 else f"none: bands overlap by {-gap:.4f} eV",
            ),
            ("Fermi energy", f"{record.fermi_energy:.4f} eV, {record.n_electrons:g} electrons"),
        ]
    below, above = (1e3 * gap for gap in record.gaps())
    seconds = ", ".join(f"{seconds:.0f}" for seconds in record.cpu_seconds)
    facts = [
        ("width of the four bands around neutrality", f"{1e3 * record.flat_width():.2f} meV"),
        (
            "Fermi energy of the large cell",
            f"{record.fermi_energy:.4f} eV with {record.n_electrons:g} electrons",
        ),
        ("gaps below and above them", f"{below:.2f} and {above:.2f} meV"),
        (
            "bound of the errors of these energies",
            f"{record.error_bound:.1e} eV ({record.backend})",
        ),
        ("CPU time per k-point", f"{seconds} s"),
    ]
    if (continuum := record.continuum) is not None:
        magic = f"{continuum.magic_angle:.3f}°" if math.isfinite(continuum.magic_angle) else "none"
        facts += [
            (
                "continuum model",
                f"{continuum.twist:.3f}°, ħv {continuum.velocity:.3f} eV·Å, w_AA "
                f"{1e3 * continuum.w_aa:.1f} meV, w_AB {1e3 * continuum.w_ab:.1f} meV "
                f"({continuum.source})",
            ),
            (
                "its flat bands and magic angle",
                f"{1e3 * continuum.flat_width():.2f} meV wide, {magic}",
            ),
        ]
    return facts


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "moire_bands",
            plot_moire_bands,
            "States around the Fermi level; lines, where there are any: the continuum model.",
        ),
    ),
    facts=list_band_facts,
)
