"""The fitted tight binding beside the network, and v_F(T) with and without the control variate."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.plots.style import BLUE, COLUMN, GREY, RED, house_style, new_figure
from mlepi.results import ControlRecord, TightBindingRecord


def plot_tight_binding(record: TightBindingRecord) -> Figure:
    """Draw the levels of displaced supercells by tight binding against those of the network, eV."""
    with house_style():
        figure = new_figure(COLUMN, 0.9 * COLUMN)
        axes = figure.subplots()
        limits = [float(record.levels.min()), float(record.levels.max())]
        axes.plot(limits, limits, color=GREY, linewidth=0.7)
        axes.plot(
            record.levels.ravel(),
            record.fitted_levels.ravel(),
            "o",
            color=BLUE,
            markersize=2.0,
            alpha=0.6,
        )
        axes.set_xlabel("level of the network (eV)")
        axes.set_ylabel("level of the tight binding (eV)")
        axes.set_title(f"root mean square misfit {1e3 * record.rms:.0f} meV")
    return figure


def plot_control(record: ControlRecord) -> Figure:
    """Draw v_F against temperature from spectral peaks, as averaged and with the control variate."""
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


def list_control_facts(record: ControlRecord) -> list[list[str]]:
    """Return rows (quantity, value) of what the control variate gave, for the report."""
    rows = []
    for index, temperature in enumerate(record.temperatures):
        one = record.spectral
        rows.append(
            [
                f"v_F at {temperature:g} K with control variate",
                f"({1e-5 * one.values[index, 0]:.3f} ± {1e-5 * one.errors[index, 0]:.3f}) 10⁵ "
                "m/s, variance divided by "
                f"{one.variance_reductions[index, 0]:.1f} (correlation "
                f"{one.correlations[index, 0]:.3f})",
            ]
        )
    return rows
