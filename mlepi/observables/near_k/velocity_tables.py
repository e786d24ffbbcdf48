"""Tables of the Fermi velocity by every estimator of a run, with cell, window and samples.

Every record that has estimates of v_F (``near_k.record.VelocityAverage``) contributes, whichever
stage made it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlepi.figures import Paragraph, Records, Section, Table
from mlepi.observables.near_k.record import Estimate
from mlepi.results.quantities import with_half_intervals

HEADER = (
    "T (K)",
    "v_F (10⁵ m/s)",
    "v_F / undisplaced",
    "change from first T (10⁵ m/s)",
    "γ₁ (eV)",
    "mean slope (10⁵ m/s)",
    "slope / undisplaced",
)
TERMINAL_COLUMNS = (0, 1, 2, 5, 6)
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
    "The mean slope needs no model of the bands; v_F and γ₁ of a hyperbola are strongly "
    "correlated, so that a small change of shape moves both. All are adiabatic (no phonon energies "
    "in denominators) and at fixed lattice constants (no thermal expansion)."
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
    estimates = [_for_tables(estimate) for estimate in list_estimates(records)]
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
    windows = f"Other windows at {last.temperatures[-1]:g} K, {cell} cells"
    blocks += [
        Paragraph("v_F over that of the undisplaced structure.", heading=windows),
        Table(*_window_rows(estimates), title=f"{windows}: v_F / undisplaced"),
        Paragraph(CAVEAT),
    ]
    return Section("Fermi velocity", blocks)


def _for_tables(estimate: Estimate) -> Estimate:
    """Return an estimate with half the 68 % intervals in place of its standard errors."""
    velocity, windows = (
        with_half_intervals(each, estimate.velocity.degrees_of_freedom)
        for each in (estimate.velocity, estimate.windows)
    )
    return estimate._replace(velocity=velocity, windows=windows)


def with_error(value: float, error: float, sign: str = "") -> str:
    """Return "value ± error" with three decimals, or a dash where there is no value."""
    return f"{value:{sign}.3f} ± {error:.3f}" if math.isfinite(value) else "—"


def _rows(estimate: Estimate) -> list[list[str]]:
    """Write one estimator's v_F(T) as rows of ``HEADER``, the undisplaced structure first."""
    velocity = estimate.velocity
    rows = [
        [
            "undisplaced",
            f"{1e-5 * velocity.equilibrium_velocity:.3f}",
            "1",
            "",
            f"{velocity.equilibrium_gamma_1:.3f}",
            f"{1e-5 * velocity.equilibrium_slope:.3f}",
            "1",
        ]
    ]
    for i, temperature in enumerate(estimate.record.temperatures):
        rows.append(
            [
                f"{temperature:g}",
                with_error(1e-5 * velocity.velocities[i], 1e-5 * velocity.velocity_errors[i]),
                with_error(velocity.ratios[i], velocity.ratio_errors[i]),
                with_error(1e-5 * velocity.changes[i], 1e-5 * velocity.change_errors[i], "+"),
                with_error(velocity.gamma_1[i], velocity.gamma_1_errors[i]),
                with_error(1e-5 * velocity.slopes[i], 1e-5 * velocity.slope_errors[i]),
                with_error(velocity.slope_ratios[i], velocity.slope_ratio_errors[i]),
            ]
        )
    return rows


def _window_rows(estimates: Sequence[Estimate]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: one row per window and estimator, at the last temperature."""
    header = ["|k−K| (Å⁻¹)", *(estimate.name for estimate in estimates)]
    rows: dict[tuple[float, float], dict[str, str]] = {}
    for estimate in estimates:
        windows = estimate.windows
        for n, (low, high) in enumerate(windows.windows):
            rest = windows.equilibrium_velocities[n]
            cell = with_error(
                windows.velocities[n, -1] / rest, windows.velocity_errors[n, -1] / rest
            )
            rows.setdefault((float(low), float(high)), {})[estimate.name] = cell
        low, high = estimate.record.velocity_window
        rows.setdefault((low, high), {})[estimate.name] = with_error(
            estimate.velocity.ratios[-1], estimate.velocity.ratio_errors[-1]
        )
    return header, [
        [f"{low:g}–{high:g}", *(cells.get(estimate.name, "—") for estimate in estimates)]
        for (low, high), cells in sorted(rows.items())
    ]
