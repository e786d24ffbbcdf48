"""Normal modes of a supercell by wave vector, with the three translations exactly apart.

Translation symmetry makes the mass-scaled dynamical matrix block-diagonal in the wave vectors
commensurate with the supercell. The three translations, t_α ∝ √m, are projected out exactly,
whatever their spurious frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.units import FORCE_CONSTANT_TO_THZ


@dataclass(frozen=True)
class NormalModes:
    """Normal modes of a supercell by wave vector, the translations apart.

    Attributes:
        atoms: one cell, Å, amu.
        supercell: number of cells along each lattice vector.
        qpoints: (n_qpoints, 3), fractional, all wave vectors commensurate with the supercell; the
            first is Γ.
        frequencies: (n_qpoints, 3 n_atoms), THz, imaginary shown negative; exactly 0 for the three
            translations.
        eigenvectors: (n_qpoints, 3 n_atoms, 3 n_atoms) complex, columns are modes, orthonormal,
            phase e^{2πi q·R}.
        translations: (n_qpoints, 3 n_atoms) bool; the first three modes of Γ.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    qpoints: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    eigenvectors: NDArray[np.complex128]
    translations: NDArray[np.bool_]

    @property
    def masses(self) -> NDArray[np.float64]:
        """Masses of the atoms of one cell: (n_atoms,), amu."""
        return np.array(self.atoms.get_masses(), dtype=np.float64)

    @property
    def n_supercell(self) -> int:
        """Number of atoms of the supercell."""
        return len(self.masses) * int(np.prod(self.supercell))


def compute_modes(force_constants: ForceConstants) -> NormalModes:
    """Diagonalise the dynamical matrix of a supercell, one wave vector at a time.

    Args:
        force_constants: eV/Å².

    Returns:
        The modes, with the three translations of Γ projected out of the dynamical matrix and set
        apart.
    """
    masses = np.array(force_constants.atoms.get_masses(), dtype=np.float64)
    n, repeats = len(masses), force_constants.supercell
    scaled = force_constants.values.reshape(n, *repeats, n, 3, 3)
    scaled = scaled / np.sqrt(masses[:, None] * masses[None]).reshape(n, 1, 1, 1, n, 1, 1)
    # D(q) = Σ_R Φ(0, R) e^{+2πi q·R}; ifftn has this sign, and "forward" leaves out its 1/n_cells
    transformed = np.fft.ifftn(scaled, axes=(1, 2, 3), norm="forward")
    transformed = np.moveaxis(transformed, 0, 3).transpose(0, 1, 2, 3, 5, 4, 6)
    dynamical = transformed.reshape(-1, 3 * n, 3 * n)
    frequencies, eigenvectors, translations = divide_modes(dynamical, masses)
    axes = np.meshgrid(*(np.arange(m) / m for m in repeats), indexing="ij")
    qpoints = np.stack(axes, axis=-1).reshape(-1, 3)
    return NormalModes(
        force_constants.atoms, repeats, qpoints, frequencies, eigenvectors, translations
    )


def divide_modes(
    dynamical: NDArray[np.complex128], masses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.complex128], NDArray[np.bool_]]:
    """Diagonalise dynamical matrices, those of Γ without the three translations.

    Args:
        dynamical: (n_qpoints, 3 n_atoms, 3 n_atoms), eV/(Å² amu), Γ first.
        masses: (n_atoms,), amu.

    Returns:
        Frequencies, eigenvectors and translations, as in ``NormalModes``.
    """
    n = len(masses)
    dynamical = 0.5 * (dynamical + dynamical.conj().swapaxes(1, 2))
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    # an orthonormal basis of everything that is no translation: the last columns of a complete QR
    internal = np.linalg.qr(rigid, mode="complete")[0][:, 3:]
    eigenvalues, eigenvectors = np.linalg.eigh(dynamical)
    values, vectors = np.linalg.eigh(internal.T @ dynamical[0].real @ internal)
    eigenvalues[0] = np.concatenate([np.zeros(3), values])
    eigenvectors[0] = np.concatenate([rigid, internal @ vectors], axis=1)
    translations: NDArray[np.bool_] = np.zeros((len(dynamical), 3 * n), dtype=bool)
    translations[0, :3] = True
    frequencies = np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * FORCE_CONSTANT_TO_THZ
    return frequencies, eigenvectors, translations
