"""The fitted tight binding beside the network."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import BLUE, COLUMN, GREY, Drawing, Presentation, house_style, new_figure
from mlepi.observables.tight_binding.record import TightBindingRecord


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


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "tight_binding",
            plot_tight_binding,
            "Levels of displaced supercells around the Dirac energy: fitted tight binding against "
            "the network.",
        ),
    ),
    tab="errors",
)
