"""A harmonic honeycomb crystal: Born springs between neighbours of a fixed reference."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from mlepi.physics.vibrations.force_constants import ForceConstants


def build_honeycomb(a: float = 2.46, height: float = 12.0, symbols: str = "C2") -> Atoms:
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, height]]
    return Atoms(
        symbols, scaled_positions=[[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]], cell=cell, pbc=True
    )


def spring_force_constants(reference: Atoms, shells) -> np.ndarray:
    """Φ of springs, (n, n, 3, 3) eV/Å².

    ``shells`` are (cutoff Å, longitudinal, transverse in plane, out of plane), nearest first.
    """
    n = len(reference)
    phi = np.zeros((n, n, 3, 3))
    source, target, vectors, lengths = neighbor_list("ijDd", reference, shells[-1][0])
    z = np.array([0.0, 0.0, 1.0])
    for i, j, vector, length in zip(source, target, vectors, lengths, strict=True):
        radial, tangential, normal = next(s[1:] for s in shells if length < s[0])
        e = vector / length
        t = np.cross(z, e)
        k = radial * np.outer(e, e) + tangential * np.outer(t, t) + normal * np.outer(z, z)
        phi[i, j] -= k
        phi[i, i] += k
    return phi


class SpringCalculator(Calculator):
    """E = ½ uᵀΦu about a reference supercell whose atoms must come in the same order."""

    implemented_properties = ("energy", "forces")

    def __init__(self, reference: Atoms, shells, force_noise: float = 0.0):
        super().__init__()
        self.reference = reference.copy()
        self.force_constants = spring_force_constants(reference, shells)
        self.force_noise = force_noise
        self.rng = np.random.default_rng(0)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        u = self.atoms.positions - self.reference.positions
        forces = -np.einsum("abxy,by->ax", self.force_constants, u)
        self.results = {"energy": -0.5 * float((forces * u).sum()), "forces": forces}
        if self.force_noise:
            self.results["forces"] = forces + self.force_noise * self.rng.standard_normal(
                forces.shape
            )


SHELLS = [(1.6, 25.0, 9.0, 6.0), (2.6, 4.0, -1.5, -0.4)]


def spring_record(repeats=(4, 3, 1), symbols="C2"):
    """Force constants of the springs of a honeycomb in a supercell."""
    atoms = build_honeycomb(symbols=symbols)
    full = spring_force_constants(atoms.repeat(repeats), SHELLS)
    return ForceConstants(atoms, repeats, full[: len(atoms)].copy())
