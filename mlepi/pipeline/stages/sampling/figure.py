"""How well the samples reproduce the distribution that they stand for."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Presentation,
    house_style,
    new_figure,
    temperature_colours,
)
from mlepi.pipeline.stages.sampling.record import SamplingRecord


def plot_sampling(record: SamplingRecord) -> Figure:
    """Draw ⟨u²⟩ of the first n samples over that of the harmonic distribution.

    In plane and out of plane side by side.

    Args:
        record: of the sampling stage.

    Returns:
        The figure; bars are standard errors by groups of independent samples. Without motion
        (classical, 0 K) nothing is drawn.
    """
    exact = record.mean_square_displacements.mean(axis=1)
    parts = np.stack([exact[:, 0] + exact[:, 1], exact[:, 2]], axis=1)
    colours = temperature_colours(record.temperatures)
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.85 * COLUMN)
        panels = figure.subplots(1, 2, sharey=True)
        for direction, (axes, name) in enumerate(
            zip(panels, ("in plane", "out of plane"), strict=True)
        ):
            axes.axhline(1.0, color=GREY, linestyle="--")
            for i, temperature in enumerate(record.temperatures):
                if parts[i, direction] > 0:
                    axes.errorbar(
                        record.convergence_counts,
                        record.convergence[:, i, direction] / parts[i, direction],
                        record.convergence_errors[:, i, direction] / parts[i, direction],
                        color=colours[i],
                        marker="o",
                        label=f"{temperature:g} K",
                    )
            axes.set_xscale("log")
            axes.set_xlabel("samples")
            axes.set_title(name)
        panels[0].set_ylabel("⟨u²⟩ / harmonic ⟨u²⟩")
        if np.any(parts > 0):
            panels[1].legend()
    return figure


def list_facts(record: SamplingRecord) -> list[Fact]:
    """Return what the samples are and how far they go."""
    shares = zip(record.temperatures, record.za_shares, strict=False)
    left_out = " (left out)" if record.project_out == "ZA" else ""
    return [
        ("statistics", f"{record.statistics}, seed {record.seed}"),
        (
            "samples",
            f"{record.sampler}, {record.n_samples} in {record.n_groups} independent groups, "
            f"effective sample size {record.effective_sample_size:.1f}",
        ),
        ("largest displacement of an atom", f"{record.max_displacements.max():.3f} Å"),
        (
            f"ZA share of ⟨u²⟩{left_out}",
            ", ".join(f"{100 * share:.0f} % at {t:g} K" for t, share in shares),
        ),
    ]


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "sampling",
            plot_sampling,
            "⟨u²⟩ of the first n samples over that of the harmonic distribution.",
        ),
    ),
    facts=list_facts,
)
