"""Compute what a denser k-mesh changes in the frequencies of rigid layers, and store them.

``python data/blg_openmx/rigid_layers.py CHECKPOINT`` writes ``rigid_layers.json``. DFT gave shear
and breathing by rigid displacements of one layer on the labels' mesh ("rigid_layers" of
``phonon_frequencies.json``); a denser mesh adds to the stiffness k = ω²μ the curvature of
E(dense) − E(mesh), a sum over the bands of the displaced cells (``mlepi.predictors.band_forces``).
CHECKPOINT is an electron network trained on these labels: no label has these displacements.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from make_mesh_correction import FACTOR, TEMPERATURE, VALENCE

import mlepi
from mlepi.errors import MlepiError
from mlepi.predictors.band_forces import change_mesh
from mlepi.predictors.electron import ElectronPredictor
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

HERE = Path(__file__).resolve().parent

MESH = (18, 18, 1)
"""Of the labels, per primitive cell."""

FINER = (FACTOR, 2 * FACTOR)
"""Times as many divisions; the first is what is stored, the second shows that it suffices."""

STEPS = (0.05, 0.1)
"""Displacements of a layer, Å."""

DIRECTIONS = {"shear": (0, 1), "breathing": (2,)}
"""Mode → Cartesian directions in which a layer is displaced."""


def measure_curvature(
    model: ElectronPredictor, direction: int, step: float, factor: int
) -> tuple[float, float]:
    """Measure d²[E(dense) − E(mesh)]/du² of a rigid displacement u of the upper layer.

    Args:
        model: electron network.
        direction: Cartesian.
        step: Å.
        factor: of the divisions.

    Returns:
        eV/Å² per cell, and the reduced mass of the two layers, u.
    """
    energies = []
    for u in (-step, 0.0, step):
        atoms = build_graphene("AB", lattice_constant=2.46, spacing=3.35)
        upper = atoms.arrays["layer"] == 1
        atoms.positions[upper, direction] += u
        change = change_mesh(model, atoms, MESH, factor, TEMPERATURE, valence=VALENCE)
        energies.append(change.energy)
    curvature = (energies[0] - 2.0 * energies[1] + energies[2]) / step**2
    return float(curvature), float(atoms.get_masses()[upper].sum() / 2.0)


def correct_frequency(frequency: float, curvature: float, mass: float) -> float:
    """Return the frequency whose stiffness is larger by a curvature.

    Args:
        frequency: cm⁻¹.
        curvature: eV/Å².
        mass: reduced, u.
    """
    to_inverse_cm = FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM
    square = frequency**2 + to_inverse_cm**2 * curvature / mass
    return float(np.sign(square) * np.sqrt(abs(square)))


def correct_mode(
    model: ElectronPredictor, mode: str, as_calculated: Sequence[float]
) -> dict[str, list[float]]:
    """Return, for every number of divisions, the range of a mode's frequencies, cm⁻¹."""
    ranges = {}
    for factor in FINER:
        curvatures = [
            measure_curvature(model, direction, step, factor)
            for direction in DIRECTIONS[mode]
            for step in STEPS
        ]
        found = [correct_frequency(f, *change) for f in as_calculated for change in curvatures]
        divisions = "×".join(str(factor * n) for n in MESH[:2])
        ranges[divisions] = [round(min(found), 1), round(max(found), 1)]
        print(f"{mode}, {divisions}: {ranges[divisions]} cm⁻¹", flush=True)
    return ranges


def main(checkpoint: Path) -> None:
    """Write the frequencies of rigid layers."""
    model = mlepi.load_model(checkpoint)
    if not isinstance(model, ElectronPredictor):
        sys.exit(f"{checkpoint}: a {model.kind} network; give an electron network")
    known = json.loads((HERE / "phonon_frequencies.json").read_text(encoding="utf-8"))
    modes = {
        mode: correct_mode(model, mode, entry["as_calculated"])
        for mode, entry in known["rigid_layers"].items()
    }
    content = {
        "unit": "cm⁻¹; lowest and highest, by divisions of the k-mesh",
        "source": "data/blg_openmx/rigid_layers.py",
        "modes": modes,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (HERE / "rigid_layers.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    try:
        main(Path(sys.argv[1]))
    except MlepiError as error:
        sys.exit(str(error))
