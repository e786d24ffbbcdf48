"""Judge a phonon network by DFT frequencies of the level that it was trained on.

The reference (``data/blg_openmx/phonon_frequencies.json``) holds AB bilayer graphene at the spacing
of experiment: q-points of the 3×3 cell, of which most training cells are made, and M and (1/6, 0),
which they do not have. The comparison is that of the stage ``phonon_reference``; what stands here
is what a network should reach.

Shear and breathing come from rigid displacements of one layer, as in the reference. The reference
for them is that of a dense k-mesh (``data/blg_openmx/rigid_layers.json``), as are the corrected
labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator

from mlepi.observables.phonon_reference.errors import pool_groups, root_mean_square
from mlepi.observables.phonon_reference.reference_file import (
    ReferenceFrequencies,
    read_reference,
    read_rigid_layers,
)
from mlepi.observables.phonon_reference.stage import fit_branches, measure_rigid_layers
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.units import THZ_TO_INVERSE_CM

DATA = Path(__file__).resolve().parents[1] / "data" / "blg_openmx"
REFERENCE = DATA / "phonon_frequencies.json"
RIGID_LAYERS = DATA / "rigid_layers.json"

RIGID_STEPS = (0.05, 0.1)
"""Displacements of a layer, Å."""


def read_targets() -> dict[str, Any]:
    """Read what a network should reach.

    Returns:
        "largest_rmse" of every group of q-points, cm⁻¹, and "rigid_layers" with the "range" of the
        densest k-mesh and the "largest_deviation" from its middle, cm⁻¹.
    """
    targets: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))
    for mode, ends in read_rigid_layers(RIGID_LAYERS).items():
        targets["rigid_layers"][mode]["range"] = [end * THZ_TO_INVERSE_CM for end in ends]
    return targets


def compare_qpoints(
    force_constants: ForceConstants, reference: ReferenceFrequencies
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Compare frequencies at the q-points of the reference.

    Args:
        force_constants: eV/Å², of a supercell that contains all of them.
        reference: frequencies.

    Returns:
        For every q-point "name", "group", "dft", "network" (cm⁻¹, ascending) and "rmse"; and the
        root mean square error of every group of q-points, cm⁻¹.
    """
    found = compute_frequencies(force_constants, reference.qpoints) * THZ_TO_INVERSE_CM
    wanted = fit_branches(REFERENCE.name, reference, found.shape[1]) * THZ_TO_INVERSE_CM
    rows = []
    for name, group, dft, network in zip(
        reference.names, reference.groups, wanted, found, strict=True
    ):
        known = np.isfinite(dft)
        rows.append(
            {
                "name": name,
                "group": group,
                "dft": dft[known].tolist(),
                "network": network[known].tolist(),
                "rmse": root_mean_square(network - dft),
            }
        )
    return rows, pool_groups(found - wanted, reference.groups)


def compare_with_reference(
    force_constants: ForceConstants, calculator: Calculator
) -> dict[str, Any]:
    """Compare one structure with the reference.

    Args:
        force_constants: eV/Å², of a supercell that contains the q-points.
        calculator: forces.

    Returns:
        Plain Python data: "qpoints", "rmse" by group, "rigid" (mode → its frequencies), "verdicts"
        as those of ``phonons.judge``.
    """
    targets = read_targets()
    rows, groups = compare_qpoints(force_constants, read_reference(REFERENCE))
    measured = measure_rigid_layers(
        force_constants.atoms, calculator, targets["rigid_layers"], RIGID_STEPS
    )
    rigid = {
        mode: (values * THZ_TO_INVERSE_CM).ravel().tolist() for mode, values in measured.items()
    }
    return {
        "qpoints": rows,
        "rmse": groups,
        "rigid": rigid,
        "verdicts": judge_against_reference(groups, rigid, targets),
    }


def judge_against_reference(
    groups: Mapping[str, float], rigid: Mapping[str, Sequence[float]], targets: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Compare with what is required: "requirement", "value", "limit", "met"."""
    verdicts = [
        {
            "requirement": f"frequencies at {'q of ' if name == '3×3' else ''}{name} against DFT, "
            "RMSE",
            "value": f"{groups[name]:.1f} cm⁻¹",
            "limit": f"≤ {limit:g}",
            "met": bool(groups[name] <= limit),
        }
        for name, limit in targets["largest_rmse"].items()
    ]
    for mode, wanted in targets["rigid_layers"].items():
        middle, limit = float(np.mean(wanted["range"])), wanted["largest_deviation"]
        low, high = min(rigid[mode]), max(rigid[mode])
        verdicts.append(
            {
                "requirement": f"{mode} of rigid layers against DFT",
                "value": f"{low:.1f}–{high:.1f} cm⁻¹",
                "limit": f"{middle - limit:g}–{middle + limit:g}",
                "met": bool(low >= middle - limit and high <= middle + limit),
            }
        )
    return verdicts


def format_comparison(found: Mapping[str, Any]) -> str:
    """Return the comparison as Markdown."""
    lines = [
        "| q, fixed structure | DFT (cm⁻¹) | network (cm⁻¹) | RMSE |",
        "|---|---|---|---|",
    ]
    for row in found["qpoints"]:
        dft, network = (
            ", ".join(f"{value:.0f}" for value in row[key]) for key in ("dft", "network")
        )
        lines.append(f"| {row['name']} | {dft} | {network} | {row['rmse']:.1f} |")
    lines += [
        "",
        "| requirement, fixed structure | limit | value | met |",
        "|---|---|---|---|",
    ]
    for verdict in found["verdicts"]:
        met = "yes" if verdict["met"] else "**no**"
        lines.append(
            f"| {verdict['requirement']} | {verdict['limit']} | {verdict['value']} | {met} |"
        )
    return "\n".join(lines)
