"""How well the samples reproduce the distribution that they stand for."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlepi.figures import (
    COLUMN,
    GREY,
    Drawing,
    Fact,
    Paragraph,
    Presentation,
    Records,
    Section,
    Table,
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


def interlayer_section(records: Records) -> Section | None:
    """Tabulate how far layers move against each other in this cell, and in a large crystal.

    None for a single layer, and for files that do not say.
    """
    record = records.get("sampling")
    if record is None or not record.interlayer_motion.size:
        return None
    cell, mesh = (
        "×".join(str(n) for n in size) for size in (record.supercell, record.interlayer_mesh)
    )
    frozen = record.project_out == "interlayer_gamma"
    rows = []
    for t, pair in np.ndindex(record.interlayer_motion.shape[:2]):
        motions = (
            record.interlayer_motion[t, pair],
            record.harmonic_interlayer_motion[t, pair],
            record.mesh_interlayer_motion[t, pair],
        )
        rows.append(
            [
                f"{record.temperatures[t]:g}",
                f"{pair + 1}–{pair + 2}",
                *(f"{motion[0]:.4f}" for motion in motions),
                *(f"{motion[1]:.5f}" for motion in motions),
            ]
        )
    header = ["T (K)", "layers"]
    for name in ("shear² (Å²)", "spacing² (Å²)"):
        header += [f"{name}, samples", f"{name}, {cell} cell", f"{name}, {mesh} mesh"]
    soft = (
        f" {record.n_soft_mesh_modes} modes of the mesh have no positive frequency and are at rest."
        if record.n_soft_mesh_modes
        else ""
    )
    text = (
        "Mean square motion of neighbouring layers against each other, cell by cell: in plane "
        "(shear) and along the normal (spacing). A small supercell gives the rigid-layer modes of "
        "Γ, the softest of their branches, a weight of one over its number of cells; the dense "
        "mesh, interpolated from the same force constants, shows what a large crystal does. "
        + (
            "The samples are those of the cell with these modes frozen."
            if frozen
            else "The samples hold these modes; stage.sampling.project_out=interlayer_gamma "
            "freezes them."
        )
        + soft
    )
    title = f"Layers against each other, Γ modes {'frozen' if frozen else 'in'}"
    return Section(
        "Motion of layers against each other",
        [Paragraph(text), Table(header, rows, title=title)],
    )


PRESENTATION = Presentation(
    drawings=(
        Drawing(
            "sampling",
            plot_sampling,
            "⟨u²⟩ of the first n samples over that of the harmonic distribution.",
        ),
    ),
    facts=list_facts,
    sections=(interlayer_section,),
    tab="phonons",
)
