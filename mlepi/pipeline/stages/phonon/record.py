"""The record of the phonon stage: force constants with bands and density of states."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.results import unit


@dataclass(frozen=True)
class PhononRecord:
    """Force constants of the supercell with bands and density of states.

    Attributes:
        atoms: one cell.
        supercell: number of cells along each lattice vector.
        force_constants: (n_atoms, n_supercell, 3, 3), columns in the order of
            ``atoms.repeat(supercell)``.
        raw_sum_rule_residual: largest |Σ_b Φ_ab| of the plain derivatives.
        sum_rule_residual: the same of the stored force constants.
        band_qpoints: (n_qpoints, 3), fractional.
        band_distances: (n_qpoints,), along the path.
        band_frequencies: (n_qpoints, 3 n_atoms), imaginary shown negative.
        band_labels: special points of the path.
        band_label_distances: (n_labels,).
        dos_frequencies: (n_points,).
        dos: (n_points,), integrates to 3 n_atoms.
        lowest_frequency: of the modes of the supercell, translations apart; negative when
            imaginary.
        method: "displacements" or "derivatives".
        sum_rules: "none", "translational" or "rotational", imposed after the symmetry.
        raw_rotational_residual: largest violation of the rotational rule with its force terms,
            before the rules were imposed.
        rotational_residual: the same of the stored force constants.
        raw_huang_residual: largest violation of the Huang rule of a cell with its stress terms,
            before the rules were imposed.
        huang_residual: the same of the stored force constants.
        residual_forces: (n_atoms, 3), forces of the structure that was taken to be at rest; none in
            older files.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    force_constants: NDArray[np.float64] = field(metadata=unit("eV/Å²"))
    raw_sum_rule_residual: float = field(metadata=unit("eV/Å²"))
    sum_rule_residual: float = field(metadata=unit("eV/Å²"))
    band_qpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    band_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    band_frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    band_labels: tuple[str, ...] = field(metadata=unit("1"))
    band_label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    dos_frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    dos: NDArray[np.float64] = field(metadata=unit("1/THz"))
    lowest_frequency: float = field(metadata=unit("THz"))
    method: str = "displacements"
    sum_rules: str = "none"
    raw_rotational_residual: float = field(default=float("nan"), metadata=unit("eV/Å"))
    rotational_residual: float = field(default=float("nan"), metadata=unit("eV/Å"))
    raw_huang_residual: float = field(default=float("nan"), metadata=unit("eV"))
    huang_residual: float = field(default=float("nan"), metadata=unit("eV"))
    residual_forces: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 3)), metadata=unit("eV/Å")
    )

    @property
    def largest_residual_force(self) -> float:
        """Largest force on an atom, eV/Å; NaN where the forces are not known."""
        if not len(self.residual_forces):
            return float("nan")
        return float(np.linalg.norm(self.residual_forces, axis=1).max())

    @property
    def layer_forces(self) -> NDArray[np.float64]:
        """Mean out-of-plane force on each layer, (n_layers,), eV/Å per atom; empty if not known.

        Held spacings leave such forces, relaxed ones do not.
        """
        if not len(self.residual_forces) or "layer" not in self.atoms.arrays:
            return np.empty(0)
        normal = np.cross(self.atoms.cell[0], self.atoms.cell[1])
        along = self.residual_forces @ (normal / np.linalg.norm(normal))
        layers = np.asarray(self.atoms.arrays["layer"])
        return np.asarray(np.bincount(layers, weights=along) / np.bincount(layers))

    def build_force_constants(self) -> ForceConstants:
        """Return the force constants in the form that ``mlepi.physics`` takes."""
        return ForceConstants(
            self.atoms, self.supercell, self.force_constants, self.raw_sum_rule_residual
        )
