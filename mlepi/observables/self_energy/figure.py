"""Self-energies, spectral functions and quasiparticles of the bands near K."""

from __future__ import annotations

import numpy as np
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
    temperature_colours,
)
from mlepi.observables.near_k.estimates_panel import describe_window
from mlepi.observables.near_k.velocity_tables import velocity_section
from mlepi.observables.near_k.window_models import estimator_parts
from mlepi.observables.self_energy.record import SelfEnergyRecord

BAND_NAMES = {
    2: ("valence", "conduction"),
    4: ("split-off valence", "valence", "conduction", "split-off conduction"),
}


def plot_self_energies(record: SelfEnergyRecord) -> Figure:
    """Draw A, Re Σ with the line ω − ε, and −Im Σ of every band.

    At the point furthest towards Γ, at the highest temperature.
    """
    with house_style():
        names = BAND_NAMES[record.bare_energies.shape[1]]
        figure = new_figure(0.9 * COLUMN * len(names), 1.1 * COLUMN)
        panels = figure.subplots(2, len(names), sharex=True, sharey="row")
        hottest, point = int(np.argmax(record.temperatures)), int(np.argmax(record.map_distances))
        for band, name in enumerate(names):
            spectrum, sigma = panels[:, band]
            energy = record.quasiparticle_energies[hottest, point, band]
            spectrum.plot(
                record.energies, record.spectral_functions[hottest, point, band], color=BLUE
            )
            spectrum.axvline(
                record.bare_energies[point, band], color=GREY, linestyle="--", label="undisplaced"
            )
            spectrum.axvline(energy, color=RED, label="quasiparticle")
            spectrum.set_title(f"{name}, {record.temperatures[hottest]:g} K")
            values = record.self_energies[hottest, point, band]
            sigma.plot(record.energies, values.real, color=BLUE, label="Re Σ")
            sigma.plot(record.energies, -values.imag, color=GREEN, label="−Im Σ")
            reach = 1.1 * float(np.max(np.abs(values)))
            sigma.plot(
                record.energies,
                record.energies - record.bare_energies[point, band],
                color=GREY,
                label="ω − ε",
            )
            sigma.plot(
                [energy],
                [energy - record.bare_energies[point, band]],
                color=RED,
                marker="o",
                linestyle="",
            )
            sigma.set_ylim(-reach, reach)
            sigma.set_xlabel("ω − E$_D$ (eV)")
        panels[0, 0].set_ylabel(f"A at K + {record.map_distances[point]:g} Å⁻¹ (1/eV)")
        panels[1, 0].set_ylabel("Σ (eV)")
        for axes in panels[:, -1]:
            axes.legend()
    return figure


def plot_quasiparticles(record: SelfEnergyRecord) -> Figure:
    """Draw shifts from the undisplaced bands, weights Z and widths along M–K–Γ.

    One colour per temperature, one row per low band.
    """
    with house_style():
        middle = record.bare_energies.shape[1] // 2
        figure = new_figure(2.1 * COLUMN, 1.3 * COLUMN)
        panels = figure.subplots(2, 3, sharex=True, sharey="col")
        columns = (
            (
                "E$_{QP}$ − ε (meV)",
                1e3 * record.quasiparticle_shifts,
                1e3 * record.quasiparticle_errors,
            ),
            ("Z", record.weights, record.weight_errors),
            ("full width (meV)", 1e3 * record.widths, 1e3 * record.width_errors),
        )
        colours = temperature_colours(record.temperatures)
        for row, name in enumerate(("valence", "conduction")):
            for axes, (label, values, errors) in zip(panels[row], columns, strict=True):
                for index, temperature in enumerate(record.temperatures):
                    axes.errorbar(
                        record.map_distances,
                        values[index, :, middle - 1 + row],
                        errors[index, :, middle - 1 + row],
                        color=colours[index],
                        marker="o",
                        linestyle="",
                        label=f"{temperature:g} K",
                    )
                axes.set_ylabel(label)
                axes.set_title(name)
        for axes in panels[1]:
            axes.set_xlabel("M ←  k − K (Å⁻¹)  → Γ")
        panels[0, 2].legend()
    return figure


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "self_energies",
            plot_self_energies,
            "Averaged spectral functions and self-energies of the bands near K; quasiparticles "
            "where Re Σ meets ω − ε.",
        ),
        Drawing(
            "quasiparticles",
            plot_quasiparticles,
            "Quasiparticle shifts, weights and widths near K; bars: standard errors.",
        ),
    ),
    sections=(velocity_section,),
    error_parts=(estimator_parts,),
    headlines=(
        Headline(
            "velocity/slopes",
            "Fermi velocity of the quasiparticles",
            lambda record: record.velocity.equilibrium_slope,
            scale=1e-5,
            unit="10⁵ m/s",
            detail=describe_window,
        ),
    ),
)
