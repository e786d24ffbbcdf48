"""Shear and breathing of rigid layers of AB bilayer graphene, from DFT energies.

``python data/blg_openmx/rigid_layers.py`` renews "modes" of ``rigid_layers.json`` from its
"energies": total energies E(u) of the cell whose upper layer is displaced by u, with all else as in
the labels but for a finer grid, which does not move with the atoms. The frequency is ω² = k/μ with
k = [E(u) − 2E(0) + E(−u)]/u² and μ half the mass of a layer per cell. Displacements by whole steps
of the grid keep the layers where they are on it, so that its noise drops out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, HARTREE, THZ_TO_INVERSE_CM

ENERGIES = Path(__file__).resolve().parent / "rigid_layers.json"

MODES = {"shear": "x", "breathing": "z"}
"""Mode → direction of the displacement."""


def compute_frequency(energies: tuple[float, float, float], step: float) -> float:
    """Return the frequency of two layers that move against each other.

    Args:
        energies: of the cell with the upper layer displaced by −step, 0 and step, eV.
        step: Å.

    Returns:
        cm⁻¹, negative where the curvature is.
    """
    below, middle, above = energies
    stiffness = (below - 2.0 * middle + above) / step**2
    atoms = build_graphene("AB")
    reduced = atoms.get_masses()[atoms.arrays["layer"] == 1].sum() / 2.0
    root = np.sign(stiffness) * np.sqrt(abs(stiffness) / reduced)
    return float(root * FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM)


def list_frequencies(energies: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return mode → divisions of the k-mesh → lowest and highest of all displacements, cm⁻¹.

    A shear along x has a mirror, x → −x, so that one sign is enough.

    Args:
        energies: rows of ``rigid_layers.json``: "direction", "displacement" (Å), "divisions" and
            "energy" (Hartree).
    """
    known = {
        (row["direction"], row["displacement"], row["divisions"]): row["energy"] * HARTREE
        for row in energies
    }
    found: dict[str, dict[str, list[float]]] = {mode: {} for mode in MODES}
    for (axis, step, divisions), energy in sorted(known.items(), key=lambda item: item[0][2]):
        opposite = energy if axis == "x" else known.get((axis, -step, divisions))
        if step <= 0.0 or opposite is None:
            continue
        middle = known[("", 0.0, divisions)]
        mode = next(name for name, direction in MODES.items() if direction == axis)
        frequency = round(compute_frequency((opposite, middle, energy), step), 1)
        ends = found[mode].setdefault(f"{divisions}×{divisions}", [frequency, frequency])
        ends[:] = min(ends[0], frequency), max(ends[1], frequency)
    return found


def main() -> None:
    """Renew the frequencies in the file, and print them."""
    content = json.loads(ENERGIES.read_text(encoding="utf-8"))
    content["modes"] = list_frequencies(content["energies"])
    rows = [json.dumps(row, ensure_ascii=False) for row in content.pop("energies")]
    text = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
    text += ',\n "energies": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"
    ENERGIES.write_text(text, encoding="utf-8")
    for mode, meshes in content["modes"].items():
        for divisions, values in meshes.items():
            print(f"{mode}, {divisions}: {values[0]:g}–{values[1]:g} cm⁻¹")


if __name__ == "__main__":
    main()
