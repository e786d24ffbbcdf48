"""Spectral functions, densities of states and their peaks.

A(k, E) = Σ_n W_n(k) L(E − E_n) with L normalised to one, 1/eV; the average over samples is an
average of A, never of sorted eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message

SHAPES = ("lorentzian", "gaussian")
"""Line shapes; the width is the half width at half maximum of the first, the standard deviation of
the second."""


def line_shape(detuning: NDArray[np.float64], width: float, shape: str) -> NDArray[np.float64]:
    """Return a line normalised to one: L(E) with detuning E in eV, result in 1/eV.

    Raises:
        ConfigError: the shape is unknown or the width is not positive.
    """
    if shape not in SHAPES or width <= 0:
        raise ConfigError(
            message(
                "line shape",
                f"{shape!r} of width {width} eV",
                f"one of {list(SHAPES)} and a width > 0",
                "Choose a shape and a width in the settings of the stage.",
            )
        )
    if shape == "lorentzian":
        return width / np.pi / (detuning**2 + width**2)
    return np.exp(-0.5 * (detuning / width) ** 2) / (width * np.sqrt(2.0 * np.pi))


def compute_spectral_function(
    energies: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    weights: NDArray[np.float64],
    width: float,
    shape: str = "lorentzian",
) -> NDArray[np.float64]:
    """Broaden weighted levels, A(E) = Σ_n W_n L(E − E_n).

    Args:
        energies: (n_energies,) grid, eV.
        eigenvalues: (n_states,), eV.
        weights: (…, n_states), for example one row per band.
        width: of the line, eV.
        shape: "lorentzian" or "gaussian".

    Returns:
        (…, n_energies), 1/eV times the unit of the weights.
    """
    lines = line_shape(energies[None, :] - np.asarray(eigenvalues)[:, None], width, shape)
    return np.asarray(weights) @ lines


def compute_dos(
    energies: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    weights: NDArray[np.float64],
    width: float,
    shape: str = "gaussian",
) -> NDArray[np.float64]:
    """Compute the density of states per cell and spin.

    Args:
        energies: (n_energies,) grid, eV.
        eigenvalues: (n_k, n_bands), eV.
        weights: (n_k,) k-point weights; normalised here.
        width: of the line, eV.
        shape: "lorentzian" or "gaussian".

    Returns:
        (n_energies,) 1/eV; its integral is the number of bands.
    """
    shares = np.asarray(weights) / np.sum(weights)
    dos = np.zeros_like(energies)
    for levels, share in zip(eigenvalues, shares, strict=True):
        dos += share * compute_spectral_function(
            energies, levels, np.ones(len(levels)), width, shape
        )
    return dos


def widen_spectra(
    energies: NDArray[np.float64],
    spectra: NDArray[np.floating],
    width: float,
    wider: float,
    shape: str,
) -> NDArray[np.float64]:
    """Convolve spectra of lines of one width into those of a larger one.

    Variances of Gaussians add up, and half widths of Lorentzians.

    Args:
        energies: (n_energies,) even grid, eV; weight beyond its ends is lost.
        spectra: (…, n_energies).
        width: of the lines, eV.
        wider: eV, no less.
        shape: "gaussian" or "lorentzian".
    """
    if wider <= width:
        return np.asarray(spectra, dtype=np.float64)
    extra = np.sqrt(wider**2 - width**2) if shape == "gaussian" else wider - width
    step = energies[1] - energies[0]
    kernel = line_shape(energies[:, None] - energies[None, :], extra, shape) * step
    return np.asarray(spectra, dtype=np.float64) @ kernel


def find_peaks(
    energies: NDArray[np.float64], spectra: NDArray[np.float64], *, allow_missing: bool = False
) -> NDArray[np.float64]:
    """Locate the highest maximum of every spectrum, by a parabola through three grid points.

    Args:
        energies: (n_energies,) even grid, eV.
        spectra: (…, n_energies).
        allow_missing: return NaN where the maximum lies at the end of the grid.

    Returns:
        (…) eV.

    Raises:
        PhysicsError: a maximum lies at the end of the grid.
    """
    highest = np.argmax(spectra, axis=-1)
    at_end = (highest == 0) | (highest == len(energies) - 1)
    if np.any(at_end) and not allow_missing:
        raise PhysicsError(
            message(
                "spectral peak",
                f"a maximum at the end of the grid {energies[0]:.2f} … {energies[-1]:.2f} eV",
                "a maximum inside",
                "Widen the energy window.",
            )
        )
    highest = np.clip(highest, 1, len(energies) - 2)
    left, middle, right = (
        np.take_along_axis(spectra, (highest + step)[..., None], axis=-1)[..., 0]
        for step in (-1, 0, 1)
    )
    curvature = left - 2.0 * middle + right
    shift = np.where(
        curvature < 0, 0.5 * (left - right) / np.where(curvature < 0, curvature, -1.0), 0.0
    )
    return np.where(at_end, np.nan, energies[highest] + shift * (energies[1] - energies[0]))


def sorted_levels(
    eigenvalues: NDArray[np.float64], first_index: int, wanted: Sequence[int]
) -> NDArray[np.float64]:
    """Pick eigenvalues by their position in the complete sorted list, from a window of it.

    Args:
        eigenvalues: (n_states,), eV, ascending; a contiguous piece of the spectrum.
        first_index: position of its first entry in the complete list, counted from 0.
        wanted: positions in the complete list.

    Returns:
        (n_wanted,) eV.

    Raises:
        PhysicsError: a wanted level is outside the piece.
    """
    positions = np.asarray(wanted, dtype=np.int64) - first_index
    if positions.min() < 0 or positions.max() >= len(eigenvalues):
        raise PhysicsError(
            message(
                "sorted eigenvalues",
                f"states {first_index} … {first_index + len(eigenvalues) - 1}",
                f"states {min(wanted)} … {max(wanted)}",
                "Widen the energy window.",
            )
        )
    return np.asarray(eigenvalues)[positions]
