"""Motion of layers against each other in a supercell, and on a dense mesh of wave vectors.

A supercell holds few wave vectors, and Γ, where rigid layers slide and breathe at the lowest
frequencies of their branches, counts for one of them. On a mesh as of a much larger supercell,
whose modes come from the same force constants by Fourier interpolation, it counts as little as it
should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import NormalModes, compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.phonopy_order import list_cells
from mlepi.physics.vibrations.rigid_layers import count_layers
from mlepi.physics.vibrations.thermal import SOFTEST_FREQUENCY, HarmonicEnsemble

BATCH_BYTES = 64 * 2**20
"""Eigenvectors that are held at once."""


class InterlayerMotion(NamedTuple):
    """⟨d²⟩ of neighbouring layers, (n_temperatures, n_layers − 1, 2), Å²: shear and spacing.

    Attributes:
        sampled: of the supercell, less what the ensemble projects out.
        harmonic: of the supercell, with all modes.
        mesh: of the dense mesh, with all modes.
        n_soft: modes of the mesh that interpolation leaves without a positive frequency, at rest.
    """

    sampled: NDArray[np.float64]
    harmonic: NDArray[np.float64]
    mesh: NDArray[np.float64]
    n_soft: int


def measure_interlayer_motion(
    ensemble: HarmonicEnsemble, force_constants: ForceConstants, mesh: Sequence[int]
) -> InterlayerMotion:
    """Compare the motion of layers against each other in a supercell and on a dense mesh.

    Args:
        ensemble: of the supercell.
        force_constants: eV/Å², of the same crystal.
        mesh: divisions of the reciprocal lattice vectors.

    Returns:
        Both; empty for a single layer.
    """
    whole = replace(ensemble, project_out="none")
    sampled, harmonic = ensemble.interlayer_motion(), whole.interlayer_motion()
    if count_layers(force_constants.atoms) < 2:
        return InterlayerMotion(sampled, harmonic, harmonic, 0)
    imaginary = "freeze" if ensemble.imaginary == "error" else ensemble.imaginary
    own = compute_modes(force_constants)
    qpoints = list_cells(mesh) / np.array(mesh)
    size = max(1, BATCH_BYTES // (16 * (3 * len(own.masses)) ** 2))
    total, n_soft = np.zeros_like(harmonic), 0
    for start in range(0, len(qpoints), size):
        batch = qpoints[start : start + size]
        frequencies, vectors = compute_eigenvectors(force_constants, batch)
        translations = np.zeros(frequencies.shape, dtype=bool)
        if start == 0:  # Γ, with its translations exactly apart
            frequencies[0], vectors[0] = own.frequencies[0], own.eigenvectors[0]
            translations[0] = own.translations[0]
        cells = (int(mesh[0]), int(mesh[1]), int(mesh[2]))
        modes = NormalModes(own.atoms, cells, batch, frequencies, vectors, translations)
        n_soft += int(np.sum(~translations & (frequencies < SOFTEST_FREQUENCY)))
        part = replace(whole, modes=modes, imaginary=imaginary).interlayer_motion()
        total += part * len(batch) / len(qpoints)
    return InterlayerMotion(sampled, harmonic, total, n_soft)
