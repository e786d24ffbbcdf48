"""Tables of the Fermi velocity by every estimator of a run, on the screen and in the report, with cell, window and samples."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mlepi.results import ObservablesRecord, SelfEnergyRecord, VelocityRecord, WindowRecord

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

TABLE_WIDTH = 110
"""Characters, when the output is not a terminal."""

MEANING = {
    "spectral peak": "maxima of the unfolded spectral function: the estimate to use.",
    "self-energy": "zeros of ω − ε − Re Σ(ω) from the averaged Green's function, which separates shift and broadening.",
    "velocity operator": "group velocities ⟨∂H/∂k − E ∂S/∂k⟩ of supercell states, averaged over those in the spectral peak. "
    "Where scattering mixes states of different velocity it averages over them, and is lowered "
    "more than the peak moves.",
    "sorted average": "what a supercell band plot shows, for comparison: folded states at one k-point repel each other, which "
    "rounds the cone and depends on the cell.",
}
"""What every estimator is."""


class Estimate(NamedTuple):
    """One estimator of a run.

    Attributes:
        name: of the estimator, a key of ``MEANING``.
        velocity: from the window of the run.
        windows: the same from other windows.
        record: of its stage.
    """

    name: str
    velocity: VelocityRecord
    windows: WindowRecord
    record: ObservablesRecord | SelfEnergyRecord

    def where(self) -> str:
        """Say what the numbers depend on."""
        record = self.record
        low, high = record.velocity_window
        bands = " with split-off bands" if record.split_off_bands else ""
        return (
            f"{record.n_samples} samples of {'×'.join(str(n) for n in record.supercell)} cells, "
            f"{record.dispersion}{bands} at "
            f"|k−K| = {low:g}–{high:g} Å⁻¹"
        )


def list_estimates(records: Mapping[str, Any]) -> list[Estimate]:
    """Collect all estimators of v_F.

    Args:
        records: stage → record, as many as there are.
    """
    found = []
    observables: ObservablesRecord | None = records.get("observables")
    quasiparticles: SelfEnergyRecord | None = records.get("self_energy")
    if observables is not None:
        found.append(
            Estimate(
                "spectral peak", observables.spectral, observables.spectral_windows, observables
            )
        )
    if quasiparticles is not None:
        found.append(
            Estimate("self-energy", quasiparticles.velocity, quasiparticles.windows, quasiparticles)
        )
    if observables is not None:
        found += [
            Estimate(
                "velocity operator",
                observables.velocity_operator,
                observables.operator_windows,
                observables,
            ),
            Estimate(
                "sorted average",
                observables.sorted_average,
                observables.sorted_windows,
                observables,
            ),
        ]
    return found


def print_estimates(records: Mapping[str, Any]) -> None:
    """Print v_F(T) of every estimator as a table, and the windows side by side.

    Nothing where there are none.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    estimates = list_estimates(records)
    for estimate in estimates:
        rows = [[row[column] for column in TERMINAL_COLUMNS] for row in _rows(estimate)]
        _print(
            console,
            f"Fermi velocity, {estimate.name}: {estimate.where()}",
            [HEADER[c] for c in TERMINAL_COLUMNS],
            rows,
        )
    if estimates:
        _print(
            console, f"{_windows_title(estimates)}: v_F / undisplaced", *_window_table(estimates)
        )


def velocity_section(records: Mapping[str, Any]) -> list[str]:
    """Tabulate v_F(T) of every estimator for the report, with everything that a number needs to be used by somebody else."""
    estimates = list_estimates(records)
    if not estimates:
        return []
    parts = ["<h2>Fermi velocity</h2>", f"<p>{html.escape(_describe(records))}</p>"]
    for estimate in estimates:
        parts += [
            f"<h3>{html.escape(estimate.name.capitalize())}</h3>",
            f"<p>{html.escape(MEANING[estimate.name].capitalize())} "
            f"{html.escape(estimate.where())}.</p>",
            html_table(HEADER, _rows(estimate)),
        ]
    parts += [
        f"<h3>{html.escape(_windows_title(estimates))}</h3>",
        "<p>v_F over that of the undisplaced structure.</p>",
    ]
    parts.append(html_table(*_window_table(estimates)))
    parts.append(
        "<p>The mean slope needs no model of the bands; v_F and γ₁ of a hyperbola are strongly "
        "correlated, so that a small "
        "change of shape moves both. All are adiabatic (no phonon energies in denominators) and "
        "at fixed lattice constants (no "
        "thermal expansion).</p>"
    )
    return parts


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in HTML."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def with_error(value: float, error: float, sign: str = "") -> str:
    """Return "value ± error" with three decimals, or a dash where there is no value."""
    return f"{value:{sign}.3f} ± {error:.3f}" if math.isfinite(value) else "—"


def _describe(records: Mapping[str, Any]) -> str:
    texts = ["The same random numbers at every temperature; points on K→Γ and K→M together."]
    observables, quasiparticles = records.get("observables"), records.get("self_energy")
    if observables is not None:
        texts.append(
            f"Maps of A(k, E) have {observables.line_shape} lines of "
            f"{1e3 * observables.line_width:.0f} meV, the spectra whose "
            f"maxima are fitted {1e3 * observables.peak_width:.0f} meV. Error bars: standard "
            "deviation of "
            f"{observables.n_resamples} bootstrap resamples of the samples."
        )
    if quasiparticles is not None:
        texts.append(
            f"Self-energies are taken {1e3 * quasiparticles.broadening:.0f} meV above the real "
            "axis."
        )
    return " ".join(texts)


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
        ]
    ]
    rows[0] += [f"{1e-5 * velocity.equilibrium_slope:.3f}", "1"]
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


def _windows_title(estimates: Sequence[Estimate]) -> str:
    cell = "×".join(str(n) for n in estimates[0].record.supercell)
    return f"Other windows at {estimates[0].record.temperatures[-1]:g} K, {cell} cells"


def _window_table(estimates: Sequence[Estimate]) -> tuple[list[str], list[list[str]]]:
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


def _print(
    console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for name in header:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
