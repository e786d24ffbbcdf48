"""Tables of the Fermi velocity by every estimator of a run, with cell, window and samples.

Every record that has estimates of v_F (``near_k.record.VelocityAverage``) contributes, whichever
stage made it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlepi.figures import Paragraph, Records, Section, Table
from mlepi.observables.near_k.record import Estimate
from mlepi.observables.near_k.window_models import MODELS, compare_models
from mlepi.results.quantities import half_interval

HEADER = (
    "T (K)",
    "mean slope (10⁵ m/s)",
    "slope / undisplaced",
    "change of slope from first T (10⁵ m/s)",
    "v, γ₁ pinned (10⁵ m/s)",
    "v pinned / undisplaced",
    "γ₁ of split-off bands (eV)",
    "v, free fit (10⁵ m/s)",
    "v free / undisplaced",
    "γ₁, free fit (eV)",
)
ERRORS = (
    "slope_errors",
    "slope_ratio_errors",
    "slope_change_errors",
    "velocity_errors",
    "ratio_errors",
    "gamma_1_errors",
)
PINNED_ERRORS = ("velocity_errors", "ratio_errors", "gamma_1_errors")
"""Fields of standard errors of ``VelocityRecord`` and ``PinnedRecord``."""

TERMINAL_COLUMNS = (0, 1, 2, 4, 5, 8)
"""Columns of ``HEADER`` that fit on a screen."""

MEANING = {
    "spectral peak": "Maxima of the unfolded spectral function: the estimate to use.",
    "self-energy": (
        "Zeros of ω − ε − Re Σ(ω) from the averaged Green's function, which separates shift and "
        "broadening."
    ),
    "velocity operator": (
        "Group velocities ⟨∂H/∂k − E ∂S/∂k⟩ of supercell states, averaged over those in the "
        "spectral peak. Where scattering mixes states of different velocity it averages over "
        "them, and is lowered more than the peak moves."
    ),
    "sorted average": (
        "What a supercell band plot shows, for comparison: folded states at one k-point repel "
        "each other, which rounds the cone and depends on the cell."
    ),
}
"""What every estimator is, in the order of the tables."""

CAVEAT = (
    "v_F is quoted as the mean slope in the window, which needs no model of the bands, and as v of "
    "the hyperbola with γ₁ pinned by the split-off bands, at ±γ₁ at K. The free fit of v and γ₁ "
    "stands beside them only: both are so correlated that it books a constant offset of the "
    "energies as a change of γ₁. All are adiabatic (no phonon energies "
    "in denominators) and at fixed lattice constants (no thermal expansion)."
)


FOLDED_TITLE = "Folded finite difference (an opening of K, not a velocity)"

FOLDED_MEANING = (
    "[⟨E_sorted(K + dk)⟩ − ⟨E_sorted(K)⟩]/dk, half the distance of the low bands, mean of K→Γ and "
    "K→M. Where K folds onto Γ of the supercell, sorting opens K, and the difference falls by what "
    "the opening takes: that depends on the cell and on dk. It is tabulated because a supercell "
    "band plot suggests it, and must not be quoted as v_F."
)

DIFFERENCE_HEADER = (
    "T (K)",
    "ΔE/dk (10⁵ m/s), not a velocity",
    "ΔE/dk / undisplaced",
    "opening of K (meV)",
)


def list_estimates(records: Records) -> list[Estimate]:
    """Collect all estimates of v_F of a run, in the order of ``MEANING``; unknown ones come last.

    Args:
        records: stage → record, as many as there are.
    """
    found = [
        estimate
        for record in records.values()
        if hasattr(record, "velocity_estimates")
        for estimate in record.velocity_estimates()
    ]
    order = list(MEANING)
    return sorted(
        found, key=lambda each: order.index(each.name) if each.name in order else len(order)
    )


def velocity_section(records: Records) -> Section | None:
    """Tabulate v_F(T) of every estimator, with everything that a number needs to be used.

    Args:
        records: stage → record, as many as there are.

    Returns:
        None where no record has an estimate.
    """
    estimates = list_estimates(records)
    if not estimates:
        return None
    methods = dict.fromkeys(estimate.method for estimate in estimates)
    blocks: list[Paragraph | Table] = [
        Paragraph(
            " ".join(
                [
                    "The same random numbers at every temperature; points on K→Γ and K→M together.",
                    *(method for method in methods if method),
                ]
            )
        )
    ]
    for estimate in estimates:
        name, where = estimate.name, estimate.where()
        texts = [MEANING[name]] if name in MEANING else []
        blocks += [
            Paragraph(" ".join([*texts, f"{where}."]), heading=f"{name[0].upper()}{name[1:]}"),
            Table(
                HEADER,
                _rows(estimate),
                title=f"Fermi velocity, {name}: {where}",
                screen_columns=TERMINAL_COLUMNS,
            ),
        ]
    last = estimates[0].record
    cell = "×".join(str(n) for n in last.supercell)
    windows = f"Windows and models at {last.temperatures[-1]:g} K, {cell} cells"
    blocks += [
        Paragraph("Velocity over that of the undisplaced structure.", heading=windows),
        Table(*_window_rows(estimates), title=f"{windows}: velocity / undisplaced"),
        *_difference_blocks(records),
        Paragraph(CAVEAT),
    ]
    return Section("Fermi velocity", blocks, "estimates")


def with_error(value: float, error: float, sign: str = "") -> str:
    """Return "value ± error" with three decimals, or a dash where there is no value."""
    return f"{value:{sign}.3f} ± {error:.3f}" if math.isfinite(value) else "—"


def _rows(estimate: Estimate) -> list[list[str]]:
    """Write one estimator's v_F(T) as rows of ``HEADER``, the undisplaced structure first."""
    velocity, pinned = estimate.velocity, estimate.velocity.pinned
    bars = {name: half_interval(velocity, name) for name in ERRORS}
    pinned_bars = (
        {}
        if pinned is None
        else {name: half_interval(pinned, name, around=velocity) for name in PINNED_ERRORS}
    )
    rows = [
        [
            "undisplaced",
            f"{1e-5 * velocity.equilibrium_slope:.3f}",
            "1",
            "",
            *(
                ["—"] * 3
                if pinned is None
                else [
                    f"{1e-5 * pinned.equilibrium_velocity:.3f}",
                    "1",
                    f"{pinned.equilibrium_gamma_1:.3f}",
                ]
            ),
            f"{1e-5 * velocity.equilibrium_velocity:.3f}",
            "1",
            f"{velocity.equilibrium_gamma_1:.3f}",
        ]
    ]
    changes = zip(velocity.slope_changes, bars["slope_change_errors"], strict=True)
    told = [with_error(1e-5 * change, 1e-5 * error, "+") for change, error in changes]
    for i, temperature in enumerate(estimate.record.temperatures):
        rows.append(
            [
                f"{temperature:g}",
                with_error(1e-5 * velocity.slopes[i], 1e-5 * bars["slope_errors"][i]),
                with_error(velocity.slope_ratios[i], bars["slope_ratio_errors"][i]),
                told[i] if told else "—",  # older files do not say
                *(
                    ["—"] * 3
                    if pinned is None
                    else [
                        with_error(
                            1e-5 * pinned.velocities[i], 1e-5 * pinned_bars["velocity_errors"][i]
                        ),
                        with_error(pinned.ratios[i], pinned_bars["ratio_errors"][i]),
                        with_error(pinned.gamma_1[i], pinned_bars["gamma_1_errors"][i]),
                    ]
                ),
                with_error(1e-5 * velocity.velocities[i], 1e-5 * bars["velocity_errors"][i]),
                with_error(velocity.ratios[i], bars["ratio_errors"][i]),
                with_error(velocity.gamma_1[i], bars["gamma_1_errors"][i]),
            ]
        )
    return rows


def _window_rows(estimates: Sequence[Estimate]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row per window and model, at the last temperature."""
    header = ["|k−K| (Å⁻¹)", "model", *(estimate.name for estimate in estimates)]
    rows: dict[tuple[float, float, int], dict[str, str]] = {}
    applicable: set[int] = set()
    for estimate in estimates:
        found = compare_models(estimate)
        bars = half_interval(found, "ratio_errors", around=estimate.velocity)
        applicable |= set(np.flatnonzero(np.isfinite(found.values).any(axis=(0, 2))).tolist())
        for place in np.ndindex(found.values.shape[:2]):
            window, model = place
            low, high = found.windows[window]
            rows.setdefault((float(low), float(high), model), {})[estimate.name] = with_error(
                found.ratios[window, model, -1], bars[window, model, -1]
            )
    return header, [
        [f"{low:g}–{high:g}", MODELS[model]]
        + [cells.get(estimate.name, "—") for estimate in estimates]
        for (low, high, model), cells in sorted(rows.items())
        if model in applicable
    ]


def _difference_blocks(records: Records) -> list[Paragraph | Table]:
    """Tabulate the folded finite difference, with a label that it cannot be quoted without."""
    blocks: list[Paragraph | Table] = []
    for record in records.values():
        found = getattr(record, "folded_difference", None)
        if found is None:
            continue
        cell = "×".join(str(n) for n in record.supercell)
        errors, ratio_errors, opening_errors = (
            half_interval(found, name, around=getattr(record, "spectral", record))
            for name in ("errors", "ratio_errors", "opening_errors")
        )
        place = f"K {'folds' if found.folded else 'does not fold'} onto Γ"
        where = f"{record.n_samples} samples of {cell} cells, {place}, dk = {found.step:g} Å⁻¹"
        rows = [
            [
                "undisplaced",
                f"{1e-5 * found.equilibrium:.3f}",
                "1",
                f"{1e3 * found.equilibrium_opening:.1f}",
            ]
        ] + [
            [
                f"{temperature:g}",
                with_error(1e-5 * found.values[i], 1e-5 * errors[i]),
                with_error(found.ratios[i], ratio_errors[i]),
                f"{1e3 * found.openings[i]:.1f} ± {1e3 * opening_errors[i]:.1f}",
            ]
            for i, temperature in enumerate(record.temperatures)
        ]
        blocks += [
            Paragraph(f"{FOLDED_MEANING} {where[0].upper()}{where[1:]}.", heading=FOLDED_TITLE),
            Table(DIFFERENCE_HEADER, rows, title=f"{FOLDED_TITLE}: {where}"),
        ]
    return blocks
