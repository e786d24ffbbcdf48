"""Bands along a line and effective masses against temperature."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    Drawing,
    Headline,
    Presentation,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.observables.effective_mass.error_parts import fit_parts
from mlepi.observables.effective_mass.record import EffectiveMassRecord


def plot_effective_masses(record: EffectiveMassRecord) -> Figure:
    """Draw the peaks along the line, coldest and hottest, and the masses against temperature."""
    with house_style():
        figure = new_figure(1.6 * COLUMN, 0.85 * COLUMN)
        bands, masses = figure.subplots(1, 2)
        bands.plot(record.distances, 1e3 * record.equilibrium, color=GREY, linestyle="--")
        colours = temperature_colours(record.temperatures)
        for index in {0: None, len(record.temperatures) - 1: None}:
            for band in range(2):
                bands.errorbar(
                    record.distances,
                    1e3 * record.band_energies[index, :, band],
                    1e3 * record.band_errors[index, :, band],
                    color=colours[index],
                    linestyle="",
                    marker="o",
                    label=f"{record.temperatures[index]:g} K" if band else None,
                )
        bands.set_xlabel("distance from the k-point (Å⁻¹)")
        bands.set_ylabel("E (meV)")
        bands.legend()
        for band, (name, colour) in enumerate((("valence", GREEN), ("conduction", BLUE))):
            masses.axhline(record.equilibrium_masses[band], color=colour, linestyle="--")
            masses.errorbar(
                record.temperatures,
                record.masses[:, band],
                record.mass_errors[:, band],
                color=colour,
                marker="o",
                label=name,
            )
        masses.set_xlabel("temperature (K)")
        masses.set_ylabel("effective mass (m$_e$)")
        masses.set_title(
            f"{'×'.join(str(n) for n in record.supercell[:2])} cell, {record.n_samples} samples"
        )
        masses.legend()
    return figure


def _mass_at_rest(component: int, record: EffectiveMassRecord) -> float:
    return float(record.equilibrium_masses[component])


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "effective_mass",
            plot_effective_masses,
            "Bands along the line and effective masses; bars: standard errors.",
        ),
    ),
    error_parts=(fit_parts,),
    headlines=tuple(
        Headline(
            "masses",
            f"effective mass of the {band} band",
            partial(_mass_at_rest, component),
            unit="mₑ",
            component=component,
        )
        for component, band in enumerate(("valence", "conduction"))
    ),
)
