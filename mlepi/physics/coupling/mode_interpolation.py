"""Normal modes between the wave vectors of a supercell, and their covariance of displacements.

phonopy's Fourier interpolation of the force constants gives the dynamical matrix at any q.
Eigenvectors have the phase e^{2πi q·R} of ``mlepi.physics.vibrations.thermal``, with lattice
vectors R alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.coupling.cell_response import nearest_images
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import NormalModes, compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, mode_variance


def interpolate_modes(force_constants: ForceConstants, mesh: Sequence[int]) -> NormalModes:
    """Return the modes of the wave vectors of a mesh.

    They are interpolated (Fourier) where the supercell does not hold them.

    Args:
        force_constants: eV/Å².
        mesh: divisions of the reciprocal lattice vectors; those of the supercell give its own
            modes.

    Returns:
        Modes as of a supercell of ``mesh`` cells, the translations of Γ set apart.
    """
    own = compute_modes(force_constants)
    divisions = (int(mesh[0]), int(mesh[1]), int(mesh[2]))
    if divisions == own.supercell:
        return own
    axes = np.meshgrid(*(np.arange(m) / m for m in divisions), indexing="ij")
    qpoints = np.stack(axes, axis=-1).reshape(-1, 3)
    frequencies, eigenvectors = compute_eigenvectors(force_constants, qpoints)
    frequencies[0], eigenvectors[0] = own.frequencies[0], own.eigenvectors[0]
    translations = np.zeros(frequencies.shape, dtype=bool)
    translations[0] = own.translations[0]
    return NormalModes(
        force_constants.atoms, divisions, qpoints, frequencies, eigenvectors, translations
    )


def mesh_ensemble(
    ensemble: HarmonicEnsemble, force_constants: ForceConstants, mesh: Sequence[int]
) -> HarmonicEnsemble:
    """Return the thermal distribution of a supercell of ``mesh`` cells.

    Its choices are those of another distribution. Modes without a positive frequency, which
    interpolation may make of soft ones, are left at rest where the other one would refuse them.

    Args:
        ensemble: whose temperatures and statistics are taken over.
        force_constants: eV/Å².
        mesh: divisions of the reciprocal lattice vectors.
    """
    if tuple(mesh) == ensemble.modes.supercell:
        return ensemble
    imaginary = "freeze" if ensemble.imaginary == "error" else ensemble.imaginary
    return replace(ensemble, modes=interpolate_modes(force_constants, mesh), imaginary=imaginary)


def mode_variances(ensemble: HarmonicEnsemble) -> NDArray[np.float64]:
    """Return σ² = ⟨|Q|²⟩ of every mode: (n_temperatures, n_qpoints, 3 n_atoms), amu·Å².

    Zero for modes at rest.
    """
    moving = np.isfinite(ensemble.frequencies)
    frequencies = np.where(moving, ensemble.frequencies, 1.0)
    return (
        np.array(
            [mode_variance(frequencies, t, ensemble.statistics) for t in ensemble.temperatures]
        )
        * moving
    )


def mode_vectors(ensemble: HarmonicEnsemble) -> NDArray[np.complex128]:
    """Return the mass-scaled eigenvectors, columns, less what the ensemble projects out.

    (n_qpoints, 3 n_atoms, 3 n_atoms).
    """
    vectors = ensemble.modes.eigenvectors
    return vectors if ensemble.project_out == "none" else np.asarray(ensemble.kept_motion @ vectors)


def covariance_rows(ensemble: HarmonicEnsemble, supercell: Sequence[int]) -> NDArray[np.float64]:
    """Return the covariance of the displacements of cell 0 with those of a supercell.

    ⟨u_{κα,0} u_{κ'β,R}⟩ = N^{-1} (m_κ m_κ')^{-1/2} Σ_{qν} σ²_{qν} Re[e_{κα,ν}(q) e*_{κ'β,ν}(q)
    e^{−2πi q·R}] with N wave vectors, every pair at its nearest image.

    Args:
        ensemble: of any mesh of wave vectors, at least as fine as the supercell.
        supercell: number of cells along each lattice vector.

    Returns:
        (n_temperatures, 3 n_atoms, n_supercell, 3), Å², atoms in the order of ``ase.Atoms.repeat``.
    """
    atoms, masses = ensemble.modes.atoms, ensemble.modes.masses
    n, vectors, variances = len(masses), mode_vectors(ensemble), mode_variances(ensemble)
    repeats = (int(supercell[0]), int(supercell[1]), int(supercell[2]))
    cells = np.stack(np.meshgrid(*(np.arange(m) for m in repeats), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    single = np.zeros((n, 5), dtype=np.int64)
    single[:, :2] = np.arange(n)[:, None]
    images, shares = nearest_images(repeats, cells, single, atoms.positions, atoms.cell.array)
    scale = 1.0 / np.sqrt(np.repeat(masses, 3))
    in_q = (
        (vectors * variances[:, :, None, :])
        @ vectors.conj().swapaxes(1, 2)
        * scale[:, None]
        * scale
    )
    shifts = (cells[:, None] + images[None] * np.array(repeats)).reshape(-1, 3)
    phases = np.exp(-2j * np.pi * (ensemble.modes.qpoints @ shifts.T)) / len(vectors)
    real = (phases.T @ in_q.reshape(len(in_q), len(vectors), -1)).real
    real = real.reshape(len(in_q), len(cells), len(images), n, 3, n, 3)
    return np.einsum("tcmaxby,abcm->taxcby", real, shares).reshape(len(in_q), 3 * n, -1, 3)
