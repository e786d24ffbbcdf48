"""The mean slope against temperature with and without the control variate."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import (
    BLUE,
    COLUMN,
    RED,
    Drawing,
    Fact,
    Headline,
    Presentation,
    house_style,
    new_figure,
)
from mlepi.observables.control_variate.record import SLOPE, ControlVariateRecord
from mlepi.results.quantities import half_interval


def plot_control(record: ControlVariateRecord) -> Figure:
    """Draw the mean slope against temperature, as averaged and with the control variate."""
    with house_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN)
        axes = figure.subplots()
        estimate = record.spectral
        for values, errors, colour, marker, label in (
            (estimate.plain, estimate.plain_errors, RED, "s", f"{record.n_samples} samples"),
            (
                estimate.values,
                estimate.errors,
                BLUE,
                "o",
                f"with {record.n_control_samples} cheap ones",
            ),
        ):
            axes.errorbar(
                record.temperatures,
                1e-5 * values[:, SLOPE],
                1e-5 * errors[:, SLOPE],
                color=colour,
                marker=marker,
                label=label,
            )
        axes.set_xlabel("temperature (K)")
        axes.set_ylabel("mean slope (10⁵ m/s)")
        axes.legend()
    return figure


def list_control_facts(record: ControlVariateRecord) -> list[Fact]:
    """Return what the control variate gave at every temperature."""
    one = record.spectral
    errors = half_interval(one, "errors")
    return [
        (
            f"mean slope at {temperature:g} K with control variate",
            f"({1e-5 * one.values[index, SLOPE]:.3f} ± {1e-5 * errors[index, SLOPE]:.3f}) "
            f"10⁵ m/s, variance divided by {one.variance_reductions[index, SLOPE]:.1f} "
            f"(correlation {one.correlations[index, SLOPE]:.3f})",
        )
        for index, temperature in enumerate(record.temperatures)
    ]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "control",
            plot_control,
            "Mean slope of spectral peaks with the noise taken off that the tight binding "
            "shares; bars: standard errors.",
        ),
    ),
    facts=list_control_facts,
    headlines=(
        Headline(
            "spectral/values",
            "Fermi velocity with the control variate",
            scale=1e-5,
            unit="10⁵ m/s",
            component=SLOPE,
            same_as="fermi_velocity/spectral/slopes",
        ),
    ),
    tab="errors",
)
