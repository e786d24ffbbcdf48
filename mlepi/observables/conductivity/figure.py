"""Optical conductivity and joint density of states against photon energy, and their convergence."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Headline,
    Presentation,
    draw_convergence,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.observables.conductivity.record import ConductivityRecord
from mlepi.results.quantities import half_interval


def plot_conductivity(record: ConductivityRecord) -> Figure:
    """Draw σ(ω) and J(ω) per layer at rest and at every temperature, with their standard errors."""
    with house_style():
        figure = new_figure(1.7 * COLUMN, 0.85 * COLUMN)
        sigma, joint = figure.subplots(1, 2)
        sigma.axhline(1.0, color="0.85", zorder=0)
        sigma.plot(
            record.energies,
            record.equilibrium_conductivity,
            color=GREY,
            linestyle="--",
            label="undisplaced",
        )
        joint.plot(
            record.energies, 1e3 * record.equilibrium_joint_density, color=GREY, linestyle="--"
        )
        for index, colour in enumerate(temperature_colours(record.temperatures)):
            label = f"{record.temperatures[index]:g} K"
            for axes, factor, values, errors in (
                (sigma, 1.0, record.conductivities[index], record.conductivity_errors[index]),
                (joint, 1e3, record.joint_densities[index], record.joint_density_errors[index]),
            ):
                axes.plot(record.energies, factor * values, color=colour, label=label)
                low, high = factor * (values - errors), factor * (values + errors)
                axes.fill_between(record.energies, low, high, color=colour, alpha=0.2, linewidth=0)
        siemens = 1e6 * record.universal_conductivity
        right = sigma.secondary_yaxis(
            "right", functions=(lambda x: siemens * x, lambda x: x / siemens)
        )
        right.set_ylabel("µS")
        sigma.set_ylabel("Re σ per layer (e²/4ħ)")
        joint.set_ylabel("joint density per layer (10⁻³/(eV Å²))")
        for axes in (sigma, joint):
            axes.set_xlim(record.energies[0], record.energies[-1])
            axes.set_ylim(bottom=0.0)
            axes.set_xlabel("photon energy (eV)")
        sigma.legend()
    return figure


def plot_conductivity_convergence(record: ConductivityRecord) -> Figure:
    """Draw the mean conductivity in the window from the first n samples against n."""
    with house_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN)
        axes = figure.subplots()
        axes.axhline(record.equilibrium_mean, color=GREY, linestyle="--", label="undisplaced")
        draw_convergence(
            axes,
            record.convergence_counts,
            record.convergence_means,
            record.convergence_errors,
            record.temperatures,
        )
        axes.set_ylabel(f"mean σ, {record.window[0]:g}–{record.window[1]:g} eV (e²/4ħ)")
        axes.legend()
    return figure


def list_facts(record: ConductivityRecord) -> list[Fact]:
    """Say the mean conductivity in the window, undisplaced and at every temperature."""
    siemens = 1e6 * record.universal_conductivity
    where = f"mean conductivity per layer, {record.window[0]:g}–{record.window[1]:g} eV"
    facts = [("mean conductivity per layer, undisplaced", f"{record.equilibrium_mean:.3f} e²/4ħ")]
    return facts + [
        (
            f"{where}, {temperature:g} K",
            f"{mean:.3f} ± {error:.3f} e²/4ħ = {siemens * mean:.2f} ± {siemens * error:.2f} µS",
        )
        for temperature, mean, error in zip(
            record.temperatures, record.means, half_interval(record, "mean_errors"), strict=True
        )
    ]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "conductivity",
            plot_conductivity,
            "Optical conductivity and joint density of vertical transitions per layer; bands: "
            "standard errors.",
        ),
        Drawing(
            "conductivity_convergence",
            plot_conductivity_convergence,
            "Mean conductivity from the first n samples.",
            tab="errors",
        ),
    ),
    facts=list_facts,
    headlines=(
        Headline(
            "means",
            "optical conductivity per layer",
            lambda record: record.equilibrium_mean,
            unit="e²/4ħ",
            detail=lambda record: f"mean over {record.window[0]:g}–{record.window[1]:g} eV",
        ),
    ),
)
