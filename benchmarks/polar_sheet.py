"""How far a short-ranged network misses LO of bilayer boron nitride.

``python benchmarks/polar_sheet.py [CHECKPOINT]``.

LO of the two layers in phase along Γ–M, from the force constants of a supercell alone and with the
field of the wave (``mlepi.physics.vibrations.polar_sheet``). For waves much longer than the spacing
both layers are one sheet with twice the screening length of one. Prints a table in cm⁻¹.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.polar_sheet import compute_polar_term
from mlepi.structures import build_boron_nitride
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "hbn_phonon.ckpt"
CHARGE, SCREENING_LENGTH = 2.7, 7.6
"""e, of B and with the other sign of N; Å, of one layer. Assumed: of the usual size of ab initio
values, not computed at the level of the labels."""

DISTANCES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
"""1/Å, from Γ."""

SUPERCELL = (6, 6, 1)
SCALE = FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM


def find_longitudinal(
    force_constants: ForceConstants, distances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return LO of the layers in phase, (n_distances, 2): without and with the field, cm⁻¹."""
    atoms = force_constants.atoms
    direction = np.array([0.0, 1.0, 0.0])  # of Γ–M
    waves = distances[:, None] * direction
    fractions = waves @ atoms.cell.array.T / (2.0 * np.pi)
    frequencies, vectors = compute_eigenvectors(force_constants, fractions)
    masses = atoms.get_masses()
    signs = np.where(atoms.numbers == 5, 1.0, -1.0)
    charges = CHARGE * signs[:, None, None] * np.eye(3)
    cell = atoms.cell.array
    area = float(np.linalg.norm(np.cross(cell[0], cell[1])))
    length = SCREENING_LENGTH * len(set(atoms.arrays["layer"]))
    fields = compute_polar_term(waves, charges, masses, area, length)
    optical = np.kron(signs / np.sqrt(masses), direction)
    optical /= np.linalg.norm(optical)
    found = np.empty((len(waves), 2))
    for row, (wave, values, modes) in enumerate(zip(waves, frequencies, vectors, strict=True)):
        squares = np.sign(values) * (values * THZ_TO_INVERSE_CM / SCALE) ** 2
        phases = np.repeat(np.exp(-1j * atoms.positions @ wave), 3)
        short = (modes * squares) @ modes.conj().T
        short = phases[:, None] * short * phases.conj()
        for column, matrix in enumerate((short, short + fields[row])):
            solved, states = np.linalg.eigh(matrix)
            found[row, column] = SCALE * np.sqrt(solved[np.abs(optical @ states).argmax()])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="LO of boron nitride without and with its field.")
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    predictor = load_model(parser.parse_args().checkpoint, kind="phonon")
    atoms = build_boron_nitride()
    force_constants = compute_force_constants(atoms, predictor.calculator(), SUPERCELL)
    found = find_longitudinal(force_constants, np.array(DISTANCES))
    print("| q (1/Å) | LO of the network (cm⁻¹) | with the field | missing |\n|---|---|---|---|")
    for distance, (short, whole) in zip(DISTANCES, found, strict=True):
        print(f"| {distance:g} | {short:.0f} | {whole:.0f} | {whole - short:.0f} |")


if __name__ == "__main__":
    main()
