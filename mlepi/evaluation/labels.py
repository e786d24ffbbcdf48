"""The words for every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlepi.evaluation.breakdown import PARTS
from mlepi.evaluation.phonon import OF_ELEMENT
from mlepi.evaluation.settings import OWN_WINDOW
from mlepi.training.electron_errors import SHIFTED

WINDOW_LABELS = {
    "2ev": "within ±2 eV of E_F",
    "occupied": "below E_F",
    "5ev": "below E_F + 5 eV",
    OWN_WINDOW: "in the window of --window",
}
"""Window → words."""

_GAUGES = {"": "", "_gauge_free": "gauge-free "}

LABELS = {
    **{
        f"hamiltonian{gauge}_{measure}_mev": f"H, {words}{measure.upper()} (meV)"
        for gauge, words in _GAUGES.items()
        for measure in ("mae", "rmse")
    },
    **{
        f"hamiltonian_{part}{gauge}_{measure}_mev": f"H {part}, {words}{measure.upper()} (meV)"
        for gauge, words in _GAUGES.items()
        for measure in ("mae", "rmse")
        for part in PARTS
    },
    "hamiltonian_s_metric_rms_mev": "H in the metric of S, RMS (meV)",
    **{
        f"{prefix}bands_{window}{suffix}_rms_mev": f"levels {label}, RMS{comment}{shifted} (meV)"
        for prefix, shifted in (("", ""), (SHIFTED, ", with the level shift"))
        for window, label in WINDOW_LABELS.items()
        for suffix, comment in (("", ""), ("_aligned", " less the median"))
    },
    "form_bound_mean": "form bound, mean (no ghost where below 1)",
    **{
        f"{prefix}{kind}_{measure}": f"{words}{shifted}{unit}"
        for prefix, shifted in (("", ""), (SHIFTED, ", with the level shift"))
        for kind, measure, words, unit in (
            ("ghosts", "per_1000_k", "ghosts per 1,000 k-points", ""),
            ("ghosts", "kpoints_percent", "k-points with ghosts", " (%)"),
            ("soft_states", "per_1000_k", "soft states per 1,000 k-points", ""),
            ("soft_states", "kpoints_percent", "k-points with soft states", " (%)"),
        )
    },
    **{
        f"{prefix}lowest_level_from_dft_ev": f"lowest level from DFT's{shifted} (eV)"
        for prefix, shifted in (("", ""), (SHIFTED, ", with the level shift"))
    },
    "slope_error": "slopes ΔH/Δu, relative error",
    **{f"slope_{part}_error": f"slopes {part}, relative error" for part in PARTS},
    "bands_from_table_rms_mev": "levels within ±2 eV of the DFT H with the table's S, RMS (meV)",
    **{
        f"overlap{part}_{measure}": f"S{words}, {of} error"
        for part, words in (("", ""), *((f"_{part}", f" {part}") for part in PARTS))
        for measure, of in (("max", "largest"), ("mean", "mean"))
    },
    "overlap_smallest_eigenvalue": "smallest eigenvalue of S, table",
    "overlap_smallest_eigenvalue_dft": "smallest eigenvalue of S, data",
    **{
        f"{quantity}_{measure}_{unit}": f"{name}, {measure.upper()} ({words})"
        for quantity, name, unit, words in (
            ("energy", "energy", "mev_per_atom", "meV/atom"),
            ("forces", "forces", "mev_per_angstrom", "meV/Å"),
            ("layers", "forces on layers", "mev_per_angstrom", "meV/Å"),
            ("stress", "stress", "mev_per_cubic_angstrom", "meV/Å³"),
        )
        for measure in ("mae", "rmse")
    },
    "largest_force_error_mev_per_angstrom": "largest error of a force component (meV/Å)",
}
"""Metric → words with the unit, in the order of tables."""


def label(metric: str) -> str:
    """Return the words for a metric; forces on one element by the symbol."""
    if metric in LABELS:
        return LABELS[metric]
    if metric.startswith(OF_ELEMENT):
        symbol, measure, *_ = metric.removeprefix(OF_ELEMENT).split("_")
        return f"forces on {symbol}, {measure.upper()} (meV/Å)"
    return metric


def order(metrics: Mapping[str, object]) -> list[str]:
    """Return names of metrics in the order of ``LABELS``, others after them."""
    return [name for name in LABELS if name in metrics] + [m for m in metrics if m not in LABELS]


MEDIAN = "median_"
"""Before a metric: its median over the structures of a subset."""

Row = tuple[str, Sequence[str]]
"""Words, and the metrics whose values stand in one cell with a stroke between them."""


def _block_rows(gauge: str) -> list[Row]:
    names = (("", "all blocks"), *((f"_{part}", part) for part in PARTS))
    return [
        (f"  {words}", [f"hamiltonian{part}{gauge}_{m}_mev" for m in ("mae", "rmse")])
        for part, words in names
    ]


def _level_rows(prefix: str) -> list[Row]:
    return [
        (f"  {words}", [f"{prefix}bands_{window}{s}_rms_mev" for s in ("", "_aligned")])
        for window, words in WINDOW_LABELS.items()
    ]


def _plain_and_shifted(metric: str) -> list[str]:
    return [metric, f"{SHIFTED}{metric}"]


ROWS: dict[str, list[Row]] = {
    "electron": [
        ("H gauge-free, MAE / RMSE (meV)", ()),
        *_block_rows("_gauge_free"),
        (
            "  median structure",
            [f"{MEDIAN}hamiltonian_gauge_free_{m}_mev" for m in ("mae", "rmse")],
        ),
        ("H as it is, MAE / RMSE (meV)", ()),
        *_block_rows(""),
        ("H in the metric of S, RMS (meV)", ["hamiltonian_s_metric_rms_mev"]),
        ("levels, RMS / less the median (meV)", ()),
        *_level_rows(""),
        ("the same with the level shift (meV)", ()),
        *_level_rows(SHIFTED),
        (
            "  median structure, ±2 eV",
            [f"{MEDIAN}{SHIFTED}bands_2ev{s}_rms_mev" for s in ("", "_aligned")],
        ),
        ("k with ghosts, plain / shifted (%)", _plain_and_shifted("ghosts_kpoints_percent")),
        ("k with soft states, likewise (%)", _plain_and_shifted("soft_states_kpoints_percent")),
        ("form bound (no ghost below 1)", ["form_bound_mean"]),
        ("slopes ΔH/Δu, relative error", ["slope_error"]),
        ("S of the table, largest error", ["overlap_max"]),
    ],
    "phonon": [
        ("energy, MAE / RMSE (meV/atom)", [f"energy_{m}_mev_per_atom" for m in ("mae", "rmse")]),
        ("forces, MAE / RMSE (meV/Å)", [f"forces_{m}_mev_per_angstrom" for m in ("mae", "rmse")]),
        (
            "  median structure",
            [f"{MEDIAN}forces_{m}_mev_per_angstrom" for m in ("mae", "rmse")],
        ),
        ("forces on layers (meV/Å)", [f"layers_{m}_mev_per_angstrom" for m in ("mae", "rmse")]),
        (
            "stress, MAE / RMSE (meV/Å³)",
            [f"stress_{m}_mev_per_cubic_angstrom" for m in ("mae", "rmse")],
        ),
    ],
}
"""Kind of network → rows of the table of subsets; those without values are left out."""

SHORT_ROWS: dict[str, list[Row]] = {
    "electron": [
        ("H gauge-free, MAE (meV)", ["hamiltonian_gauge_free_mae_mev"]),
        ("H in the metric of S, RMS (meV)", ["hamiltonian_s_metric_rms_mev"]),
        (
            "levels ±2 eV, RMS / less the median (meV)",
            ["bands_2ev_rms_mev", "bands_2ev_aligned_rms_mev"],
        ),
        (
            "the same with the level shift (meV)",
            [f"{SHIFTED}bands_2ev_rms_mev", f"{SHIFTED}bands_2ev_aligned_rms_mev"],
        ),
        ("k with ghosts, plain / shifted (%)", _plain_and_shifted("ghosts_kpoints_percent")),
    ],
    "phonon": ROWS["phonon"],
}
"""Likewise of the table of sizes."""
