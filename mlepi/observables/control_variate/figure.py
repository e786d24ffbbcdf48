"""v_F(T) with and without the control variate."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import BLUE, COLUMN, RED, Drawing, Fact, Presentation, house_style, new_figure
from mlepi.observables.control_variate.record import ControlVariateRecord
from mlepi.results.quantities import half_interval


def plot_control(record: ControlVariateRecord) -> Figure:
    """Draw v_F of spectral peaks against temperature, as averaged and with the control variate."""
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
                1e-5 * values[:, 0],
                1e-5 * errors[:, 0],
                color=colour,
                marker=marker,
                label=label,
            )
        axes.set_xlabel("temperature (K)")
        axes.set_ylabel("v$_F$ (10⁵ m/s)")
        axes.legend()
    return figure


def list_control_facts(record: ControlVariateRecord) -> list[Fact]:
    """Return what the control variate gave at every temperature."""
    one = record.spectral
    errors = half_interval(one, "errors")
    return [
        (
            f"v_F at {temperature:g} K with control variate",
            f"({1e-5 * one.values[index, 0]:.3f} ± {1e-5 * errors[index, 0]:.3f}) 10⁵ m/s, "
            f"variance divided by {one.variance_reductions[index, 0]:.1f} (correlation "
            f"{one.correlations[index, 0]:.3f})",
        )
        for index, temperature in enumerate(record.temperatures)
    ]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "control",
            plot_control,
            "Fermi velocity from spectral peaks with the noise taken off that the tight binding "
            "shares; bars: standard errors.",
        ),
    ),
    facts=list_control_facts,
    tab="errors",
)
