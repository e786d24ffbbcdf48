"""Fermi velocity of Dirac cones from band energies near K, and effective masses.

The low bands of a monolayer are E = E₀ ± ħv k. Those of AB-stacked bilayer graphene are hyperbolic,
E = E₀ ± ½[√(γ₁² + 4ħ²v²k²) − γ₁], with k = |k − K|. Fitted together, v and γ₁ are so correlated
that a constant offset of the energies is booked as a change of γ₁: the mean slope in the window
needs no model, and v alone can be fitted where the split-off bands, at ±γ₁ at K, pin γ₁
(``pinned_velocities``). Fitting points on K→Γ and K→M together cancels trigonal warping to first
order. Points inside the parabolic core, k ≪ γ₁/2ħv ≈ 0.03 Å⁻¹, know v²/γ₁ alone.

References:
    McCann and Koshino, Rep. Prog. Phys. 76, 056503 (2013), doi:10.1088/0034-4885/76/5/056503,
    without v₃, v₄ and asymmetries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND, HBAR2_PER_ELECTRON_MASS

DISPERSIONS = ("hyperbola", "linear")
"""Shapes of the low bands that can be fitted."""

AT_K = 1e-9
"""Å⁻¹; a point nearer to K is K itself."""

SMALLEST = 1e-12
"""eV or eV², below which a root is kept from 0, where it has no derivative."""


@dataclass(frozen=True)
class ConeFit:
    """Parameters of a pair of low bands.

    Attributes:
        fermi_velocity: v, m/s.
        gamma_1: interlayer coupling γ₁, eV; 0 for the linear dispersion.
        dirac_energy: E₀, eV.
        rms: root mean square residual of the fitted energies, eV.
    """

    fermi_velocity: float
    gamma_1: float
    dirac_energy: float
    rms: float


def fit_cone(
    distances: NDArray[np.float64],
    valence: NDArray[np.float64],
    conduction: NDArray[np.float64],
    window: tuple[float, float],
    dispersion: str = "hyperbola",
    split_off: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> ConeFit:
    """Fit v, γ₁ and E₀ to the low bands inside a window of |k − K|.

    Args:
        distances: (n_k,) |k − K|, Å⁻¹; points of several directions together.
        valence: (n_k,) eV.
        conduction: (n_k,) eV.
        window: smallest and largest |k − K| used, Å⁻¹.
        dispersion: "hyperbola" (bilayer) or "linear" (monolayer).
        split_off: (n_k,) energies of the split-off valence and conduction band of a bilayer,
            ±½[√(γ₁² + 4ħ²v²k²) + γ₁], eV. With them γ₁ is pinned; without, v and γ₁ of the low
            bands alone are strongly correlated. Ignored by "linear".

    Returns:
        The fit.

    Raises:
        ConfigError: the dispersion is unknown or the window holds fewer than two different
            distances.
    """
    inside = _select(distances, window, dispersion, needed=3 if dispersion == "hyperbola" else 2)
    k = distances[inside]
    dirac_energy = float(np.mean(0.5 * (conduction[inside] + valence[inside])))
    half_gap = 0.5 * (conduction[inside] - valence[inside])
    if dispersion == "linear":
        # half_gap = ħv·k: the slope of the straight line through the window, whose offset absorbs a
        # rounded tip
        design = np.stack([k, np.ones_like(k)], axis=1)
        line = np.linalg.lstsq(design, half_gap)[0]
        residual = half_gap - design @ line
        return ConeFit(
            float(line[0]) * EV_ANGSTROM_TO_METRE_PER_SECOND,
            0.0,
            dirac_energy,
            float(np.sqrt(np.mean(residual**2))),
        )

    outer = None if split_off is None else 0.5 * (split_off[1] - split_off[0])[inside]
    hbar_velocity, gamma_1, residual = _fit_hyperbola(k, half_gap, outer)
    rms = float(np.sqrt(np.mean(residual**2)))
    return ConeFit(hbar_velocity * EV_ANGSTROM_TO_METRE_PER_SECOND, gamma_1, dirac_energy, rms)


def _select(
    distances: NDArray[np.float64], window: tuple[float, float], dispersion: str, needed: int
) -> NDArray[np.bool_]:
    """Find the points inside a window and refuse too few of them, or an unknown dispersion.

    (n_k,) bool.
    """
    if dispersion not in DISPERSIONS:
        raise ConfigError(
            message(
                "dispersion",
                repr(dispersion),
                f"one of {list(DISPERSIONS)}",
                "Choose one of them in the settings of the stage.",
            )
        )
    inside = points_inside(distances, window)
    different = np.unique(np.round(distances[inside], 9))
    if len(different) < needed:
        raise ConfigError(
            message(
                "velocity window",
                f"{np.round(different, 4).tolist()} Å⁻¹ inside {window[0]} … {window[1]}",
                "at least three different distances for a hyperbola, two for a line",
                "Add distances, or widen the window.",
            )
        )
    return inside


def points_inside(distances: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which distances |k − K| lie inside a window, its ends included: (n_k,) bool."""
    inside: NDArray[np.bool_] = (distances >= window[0] - 1e-9) & (distances <= window[1] + 1e-9)
    return inside


def _fit_hyperbola(
    k: NDArray[np.float64], half_gap: NDArray[np.float64], outer: NDArray[np.float64] | None
) -> tuple[float, float, NDArray[np.float64]]:
    """Fit E = ½[√(γ₁² + 4ħ²v²k²) ∓ γ₁] by least squares in E, with γ₁ ≥ 0.

    Start from E² ± γ₁E = ħ²v²k², which is linear in γ₁ and v². The formula goes smoothly on to γ₁ <
    0: where the best γ₁ lies there, that of the fit is 0 and v that of a line through the origin.

    Returns:
        ħv in eV·Å, γ₁ in eV, residuals in eV, (n_k,) or, with the split-off bands, (2 n_k,).
    """
    signs = np.full_like(k, -1.0)
    energies = half_gap
    if outer is not None:
        signs, energies, k = (
            np.concatenate([signs, -signs]),
            np.concatenate([half_gap, outer]),
            np.tile(k, 2),
        )

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity, gamma_1 = parameters
        return 0.5 * (np.hypot(gamma_1, 2.0 * hbar_velocity * k) + signs * gamma_1) - energies

    def jacobian(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity, gamma_1 = parameters
        root = np.maximum(np.hypot(gamma_1, 2.0 * hbar_velocity * k), SMALLEST)
        return np.stack([2.0 * hbar_velocity * k**2 / root, 0.5 * (gamma_1 / root + signs)], axis=1)

    squared, gamma_1 = np.linalg.lstsq(np.stack([k**2, signs * energies], axis=1), energies**2)[0]
    guess = [np.sqrt(max(squared, 0.1)), max(gamma_1, 0.05)]
    solution = minimise(residuals, jacobian, guess)
    if solution[1] < 0.0:
        solution = np.array([max(float(k @ energies / (k @ k)), 0.0), 0.0])
    hbar_velocity, gamma_1 = abs(float(solution[0])), float(solution[1])
    return hbar_velocity, gamma_1, residuals(np.array([hbar_velocity, gamma_1]))


def minimise(
    residuals: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    jacobian: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    guess: Sequence[float],
) -> NDArray[np.float64]:
    """Find the least squares from a guess, to the accuracy of the arithmetic.

    ``full_output`` keeps MINPACK quiet where the points are no hyperbola: v and γ₁ then run away,
    and the bootstrap shows it.
    """
    solution: NDArray[np.float64] = scipy.optimize.leastsq(
        residuals, guess, Dfun=jacobian, ftol=1e-15, xtol=1e-15, gtol=0.0, full_output=True
    )[0]
    return solution


def fit_slopes(
    distances: NDArray[np.float64],
    slopes: NDArray[np.float64],
    window: tuple[float, float],
    dispersion: str = "hyperbola",
) -> tuple[float, float]:
    """Fit v and γ₁ to group velocities dE/dk instead of energies, all bands of the cone together.

    On a hyperbola the low and the split-off bands have one slope, ±2ħ²v²k/√(γ₁² + 4ħ²v²k²); on a
    line it is ±ħv. K itself, where bands touch, has no slope and is left out.

    Args:
        distances: (n_k,) |k − K|, Å⁻¹.
        slopes: (n_k, n_pairs), half the difference of the slopes of a conduction band and its
            valence band, eV·Å.
        window: smallest and largest |k − K| used, Å⁻¹.
        dispersion: "hyperbola" (bilayer) or "linear" (monolayer).

    Returns:
        v, m/s, and γ₁, eV; 0 for the line.

    Raises:
        ConfigError: the dispersion is unknown or the window holds fewer than two different
            distances beside K.
    """
    off = distances > AT_K
    distances, slopes = distances[off], slopes[off]
    inside = _select(distances, window, dispersion, needed=2)
    k, values = np.repeat(distances[inside], slopes.shape[1]), slopes[inside].ravel()
    if dispersion == "linear":
        return float(values.mean()) * EV_ANGSTROM_TO_METRE_PER_SECOND, 0.0

    # in γ₁², on which the slope depends smoothly through 0
    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity, squared = parameters
        return 2.0 * hbar_velocity**2 * k / hyperbola_root(squared, hbar_velocity, k) - values

    def jacobian(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity, squared = parameters
        root = hyperbola_root(squared, hbar_velocity, k)
        along = 4.0 * hbar_velocity * k * (root**2 - 2.0 * (hbar_velocity * k) ** 2) / root**3
        return np.stack([along, -((hbar_velocity**2) * k) / root**3], axis=1)

    # 1/slope² = 1/ħ²v² + γ₁²/(4ħ⁴v⁴k²) is linear
    constant, strength = np.linalg.lstsq(
        np.stack([np.ones_like(k), k**-2.0], axis=1), np.maximum(np.abs(values), 0.1) ** -2.0
    )[0]
    squared = 1.0 / max(constant, 1e-3)
    guess = [np.sqrt(squared), 4.0 * squared**2 * max(strength, 1e-6)]
    solution = minimise(residuals, jacobian, guess)
    if solution[1] < 0.0:
        return abs(float(values.mean())) * EV_ANGSTROM_TO_METRE_PER_SECOND, 0.0
    return abs(float(solution[0])) * EV_ANGSTROM_TO_METRE_PER_SECOND, float(np.sqrt(solution[1]))


def hyperbola_root(
    squared: float, hbar_velocity: float, k: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return √(γ₁² + 4ħ²v²k²), eV, away from 0: (n_k,)."""
    root: NDArray[np.float64] = np.sqrt(
        np.maximum(squared + 4.0 * (hbar_velocity * k) ** 2, SMALLEST)
    )
    return root


def window_slope(
    distances: NDArray[np.float64],
    valence: NDArray[np.float64],
    conduction: NDArray[np.float64],
    window: tuple[float, float],
) -> float:
    """Return the mean group velocity (1/ħ) dE/dk of both low bands inside the window, m/s.

    It needs no model, and is smaller than the v of a hyperbola, which it only approaches at large
    k. Arguments and errors as ``fit_cone`` with the linear dispersion.
    """
    return fit_cone(distances, valence, conduction, window, "linear").fermi_velocity


def effective_masses(
    distances: NDArray[np.float64], energies: NDArray[np.float64], order: int = 2
) -> NDArray[np.float64]:
    """Return the effective masses ħ²/(d²E/dk²) at k = 0.

    E = E₀ + a k² (+ b k⁴) is fitted by least squares. Odd powers cancel when the distances come in
    pairs ±k.

    Args:
        distances: (n_k,) signed, Å⁻¹.
        energies: (…, n_k, n_bands), eV.
        order: 2 or 4.

    Returns:
        (…, n_bands), in electron masses; negative where a band curves downwards.
    """
    design = np.stack([distances**power for power in range(0, order + 1, 2)], axis=1)
    curvature = 2.0 * np.linalg.pinv(design)[1]
    masses: NDArray[np.float64] = HBAR2_PER_ELECTRON_MASS / np.einsum(
        "k,...kb->...b", curvature, energies
    )
    return masses
