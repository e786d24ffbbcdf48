"""Compare a phonon network with DFT frequencies of the level that it was trained on.

The reference (``data/blg_openmx/phonon_frequencies.json``) holds AB bilayer graphene at the spacing
of experiment: q-points of the 3×3 cell, of which most training cells are made, and M and (1/6, 0),
which they do not have. A dynamical matrix at a q that a supercell contains is exact whatever the
supercell, so that one 6×6 calculation is compared with references from 3×3, 2×2 and 6×1. Branches
are paired by their order.

Shear and breathing come from rigid displacements u of one layer, as in the reference: ω² = k/μ with
k = −[F(u) − F(−u)]/2u, F the force on the layer per cell and μ half the mass of a layer per cell.
The reference for them is that of a dense k-mesh (``data/blg_openmx/rigid_layers.json``), as are the
corrected labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

DATA = Path(__file__).resolve().parents[1] / "data" / "blg_openmx"
REFERENCE = DATA / "phonon_frequencies.json"
RIGID_LAYERS = DATA / "rigid_layers.json"

RIGID_STEPS = (0.05, 0.1)
"""Displacements of a layer, Å."""

RIGID_MODES = {"shear": ((1, 0, 0), (0, 1, 0)), "breathing": ((0, 0, 1),)}
"""Mode → directions in which a layer is displaced."""


def read_reference() -> dict[str, Any]:
    """Read the reference.

    "q" of every q-point becomes three fractional coordinates, and the rigid layers get "range", of
    the densest k-mesh.
    """
    reference: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))
    for point in reference["qpoints"]:
        point["q"] = [float(Fraction(value)) for value in point["q"]]
    dense = json.loads(RIGID_LAYERS.read_text(encoding="utf-8"))["modes"]
    for mode, entry in reference["rigid_layers"].items():
        values = list(dense[mode].values())[-1]
        entry["range"] = [min(values), max(values)]
    return reference


def compare_qpoints(
    force_constants: ForceConstants, reference: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Compare frequencies at the q-points of the reference.

    Args:
        force_constants: eV/Å², of a supercell that contains all of them.
        reference: of ``read_reference``.

    Returns:
        For every q-point "name", "group", "dft", "network" (cm⁻¹, ascending) and "rmse"; and the
        root mean square error of every group of q-points, cm⁻¹.
    """
    points = reference["qpoints"]
    found = compute_frequencies(force_constants, np.array([point["q"] for point in points]))
    rows = []
    squares: dict[str, list[NDArray[np.float64]]] = {}
    for point, frequencies in zip(points, found * THZ_TO_INVERSE_CM, strict=True):
        network = frequencies[point["lowest_left_out"] :]
        errors = network - np.array(point["frequencies"], dtype=float)
        squares.setdefault(point["group"], []).append(errors**2)
        rows.append(
            {
                "name": point["name"],
                "group": point["group"],
                "dft": list(point["frequencies"]),
                "network": network.tolist(),
                "rmse": float(np.sqrt(np.mean(errors**2))),
            }
        )
    groups = {
        name: float(np.sqrt(np.mean(np.concatenate(parts)))) for name, parts in squares.items()
    }
    return rows, groups


def compute_rigid_frequency(
    atoms: Atoms, calculator: Calculator, direction: Sequence[float], step: float
) -> float:
    """Compute the frequency of two layers that move rigidly against each other.

    Args:
        atoms: two layers of equal mass, with the layer of each atom; not modified.
        calculator: forces, eV/Å.
        direction: (3,), unit vector.
        step: displacement of the upper layer, Å.

    Returns:
        cm⁻¹, negative where the force pulls away.
    """
    along, upper = np.array(direction, dtype=float), atoms.arrays["layer"] == 1
    pulls = []
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[upper] += sign * step * along
        moved.calc = calculator
        # both layers: a calculator's own net force drops out
        forces = moved.get_forces() @ along
        pulls.append(0.5 * (forces[upper].sum() - forces[~upper].sum()))
    stiffness = -(pulls[0] - pulls[1]) / (2.0 * step)
    reduced = atoms.get_masses()[upper].sum() / 2.0
    root = np.sign(stiffness) * np.sqrt(abs(stiffness) / reduced)
    return float(root * FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM)


def compare_with_reference(
    force_constants: ForceConstants, calculator: Calculator, reference: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare one structure with the reference.

    Args:
        force_constants: eV/Å², of a supercell that contains the q-points.
        calculator: forces.
        reference: of ``read_reference``.

    Returns:
        Plain Python data: "qpoints", "rmse" by group, "rigid" (mode → its frequencies), "verdicts"
        as those of ``phonons.judge``.
    """
    rows, groups = compare_qpoints(force_constants, reference)
    rigid = {
        mode: [
            compute_rigid_frequency(force_constants.atoms, calculator, direction, step)
            for direction in directions
            for step in RIGID_STEPS
        ]
        for mode, directions in RIGID_MODES.items()
    }
    return {
        "qpoints": rows,
        "rmse": groups,
        "rigid": rigid,
        "verdicts": judge_against_reference(groups, rigid, reference),
    }


def judge_against_reference(
    groups: Mapping[str, float], rigid: Mapping[str, Sequence[float]], reference: Mapping[str, Any]
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
        for name, limit in reference["largest_rmse"].items()
    ]
    for mode, wanted in reference["rigid_layers"].items():
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
