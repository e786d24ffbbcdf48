"""Frequencies and eigenvectors at any wave vector, bands and density of states of phonons.

Frequencies are in THz, imaginary ones are negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy

from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.phonopy_order import list_cells, load_phonopy


@dataclass(frozen=True)
class PhononBands:
    """Phonon frequencies along a path.

    Attributes:
        qpoints: (n_qpoints, 3), fractional.
        distances: (n_qpoints,), 1/Å, length of the path so far, the factor 2π included.
        frequencies: (n_qpoints, 3 n_atoms), THz, ascending, imaginary shown negative.
        labels: name of each labelled point, e.g. ("G", "M", "K", "G").
        label_distances: (n_labels,), 1/Å.
    """

    qpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    labels: tuple[str, ...]
    label_distances: NDArray[np.float64]


@dataclass(frozen=True)
class PhononDos:
    """Phonon density of states; its integral is 3 n_atoms.

    Attributes:
        frequencies: (n_points,), THz.
        dos: (n_points,), 1/THz per cell.
    """

    frequencies: NDArray[np.float64]
    dos: NDArray[np.float64]


def compute_frequencies(
    force_constants: ForceConstants, qpoints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve the dynamical matrix at any q by Fourier interpolation of the supercell.

    Args:
        force_constants: eV/Å².
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        (n_qpoints, 3 n_atoms), THz, ascending, imaginary shown negative.
    """
    phonon = _load_phonopy(force_constants)
    return np.array(phonon.run_qpoints(np.asarray(qpoints, dtype=float)).frequencies)


def compute_eigenvectors(
    force_constants: ForceConstants, qpoints: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Solve the dynamical matrix at any q as ``compute_frequencies`` does, with its eigenvectors.

    Args:
        force_constants: eV/Å².
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        Frequencies as ``compute_frequencies``, and (n_qpoints, 3 n_atoms, 3 n_atoms) complex:
        columns are modes, orthonormal, with the phase e^{2πi q·R} of lattice vectors R alone
        (phonopy's own is that of the positions of the atoms).
    """
    phonon = _load_phonopy(force_constants)
    points = np.asarray(qpoints, dtype=float)
    solved = phonon.run_qpoints(points, with_eigenvectors=True)
    sites = force_constants.atoms.cell.scaled_positions(force_constants.atoms.positions)
    phases = np.repeat(np.exp(2j * np.pi * (points @ sites.T)), 3, axis=1)
    vectors = np.array(solved.eigenvectors, dtype=np.complex128)
    return np.array(solved.frequencies), vectors * phases[:, :, None]


def compute_phonon_bands(
    force_constants: ForceConstants,
    path: str | None = None,
    n_points: int = 151,
    in_plane: bool = True,
) -> PhononBands:
    """Follow the phonons along a path through the special points of the lattice.

    Args:
        force_constants: eV/Å².
        path: special points, e.g. "GMKG"; None takes "GMKG" for a hexagonal layer and the lattice's
            standard path otherwise.
        n_points: number of q-points on the path.
        in_plane: keep q_z = 0, for layers periodic along the first two vectors.

    Returns:
        The bands with their labels.

    Raises:
        ConfigError: the path names a point that the lattice does not have.
    """
    periodic = (True, True, not in_plane)
    cell = force_constants.atoms.cell
    lattice = cell.get_bravais_lattice(pbc=periodic)
    if path is None:
        path = "GMKG" if lattice.name == "HEX2D" else lattice.special_path
    try:
        band_path = cell.bandpath(path, npoints=n_points, pbc=periodic)
    except KeyError as error:
        raise ConfigError(
            message(
                "stage.phonon.path",
                repr(path),
                f"points among {sorted(lattice.get_special_points())}",
                "Name its points one after the other, such as GMKG.",
            )
        ) from error
    distances, label_distances, labels = band_path.get_linear_kpoint_axis()
    frequencies = compute_frequencies(force_constants, band_path.kpts)
    return PhononBands(band_path.kpts, distances, frequencies, tuple(labels), label_distances)


def compute_phonon_dos(
    force_constants: ForceConstants,
    mesh: Sequence[int] = (48, 48, 1),
    broadening: float = 0.15,
    n_points: int = 601,
) -> PhononDos:
    """Count phonon modes per frequency on a regular q-mesh with Gaussian broadening.

    Args:
        force_constants: eV/Å².
        mesh: q-points along each reciprocal vector; 1 along the stacking direction of a layer.
        broadening: standard deviation of the Gaussian, THz.
        n_points: points of the frequency axis.

    Returns:
        Density of states that integrates to 3 n_atoms.
    """
    # the full mesh: force constants of a low-symmetry supercell lack the symmetry of the cell
    frequencies = compute_frequencies(force_constants, list_cells(mesh) / np.array(mesh))
    low, high = float(frequencies.min()) - 5 * broadening, float(frequencies.max()) + 5 * broadening
    axis = np.linspace(low, high, n_points)
    gauss = [np.exp(-0.5 * ((point - frequencies) / broadening) ** 2).sum() for point in axis]
    return PhononDos(axis, np.array(gauss) / (np.sqrt(2 * np.pi) * broadening * len(frequencies)))


def _load_phonopy(force_constants: ForceConstants) -> Phonopy:
    return load_phonopy(force_constants.atoms, force_constants.supercell, force_constants.values)[0]
