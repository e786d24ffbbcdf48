"""Fermi velocity of AB bilayer graphene with γ₁ pinned by its split-off bands.

The split-off bands of a bilayer, E = E₀ ± ½[√(γ₁² + 4ħ²v²k²) + γ₁], lie at ±γ₁ at K, whatever v
is. With γ₁ read there, v is the one parameter of the low bands (``velocities``), and a constant
offset of their energies is not taken for a change of γ₁.

References:
    McCann and Koshino, Rep. Prog. Phys. 76, 056503 (2013), doi:10.1088/0034-4885/76/5/056503.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.physics.bands.velocities import (
    AT_K,
    SMALLEST,
    ConeFit,
    hyperbola_root,
    minimise,
    points_inside,
)
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND


def fit_pinned_cone(
    distances: NDArray[np.float64],
    valence: NDArray[np.float64],
    conduction: NDArray[np.float64],
    window: tuple[float, float],
    split_off: tuple[float, float],
) -> ConeFit:
    """Fit v and E₀ to the low bands of a bilayer, with γ₁ pinned by its split-off bands.

    The hyperbola is made to pass through the split-off bands nearest to K. At K itself they are at
    ±γ₁; at another distance k₀ half their distance E₊ gives γ₁ = E₊ − ħ²v²k₀²/E₊.

    Args:
        distances: (n_k,) |k − K|, Å⁻¹; points of several directions together.
        valence: (n_k,) eV.
        conduction: (n_k,) eV.
        window: smallest and largest |k − K| used, Å⁻¹.
        split_off: k₀, Å⁻¹, and E₊, eV: half the distance of the split-off bands there.

    Returns:
        The fit; its γ₁ is the pinned one.

    Raises:
        ConfigError: the window holds no distance but K.
    """
    inside = _select_off_k(distances, window)
    k = distances[inside]
    half_gap = 0.5 * (conduction[inside] - valence[inside])
    nearest, outer = split_off

    def couple(hbar_velocity: float) -> float:
        return outer - (hbar_velocity * nearest) ** 2 / outer

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity = float(parameters[0])
        gamma_1 = couple(hbar_velocity)
        return 0.5 * (np.hypot(gamma_1, 2.0 * hbar_velocity * k) - gamma_1) - half_gap

    def jacobian(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity = float(parameters[0])
        gamma_1, turned = couple(hbar_velocity), -2.0 * hbar_velocity * nearest**2 / outer
        root = np.maximum(np.hypot(gamma_1, 2.0 * hbar_velocity * k), SMALLEST)
        slope = (gamma_1 * turned + 4.0 * hbar_velocity * k**2) / root - turned
        return 0.5 * slope[:, None]

    squared = float(k**2 @ (half_gap * (half_gap + outer)) / np.sum(k**4))
    solution = minimise(residuals, jacobian, [np.sqrt(max(squared, 0.1))])
    hbar_velocity = abs(float(solution[0]))
    return ConeFit(
        hbar_velocity * EV_ANGSTROM_TO_METRE_PER_SECOND,
        couple(hbar_velocity),
        float(np.mean(0.5 * (conduction[inside] + valence[inside]))),
        float(np.sqrt(np.mean(residuals(solution) ** 2))),
    )


def fit_pinned_slopes(
    distances: NDArray[np.float64],
    slopes: NDArray[np.float64],
    window: tuple[float, float],
    split_off: tuple[float, float],
) -> tuple[float, float]:
    """Fit v to group velocities with γ₁ pinned by the split-off bands.

    Arguments as ``fit_slopes`` and ``fit_pinned_cone``.

    Returns:
        v, m/s, and the pinned γ₁, eV.

    Raises:
        ConfigError: the window holds no distance but K.
    """
    inside = _select_off_k(distances, window)
    k, values = np.repeat(distances[inside], slopes.shape[1]), slopes[inside].ravel()
    nearest, outer = split_off

    def couple(hbar_velocity: float) -> float:
        return outer - (hbar_velocity * nearest) ** 2 / outer

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity = float(parameters[0])
        return 2.0 * hbar_velocity**2 * k / hyperbola_root(
            couple(hbar_velocity) ** 2, hbar_velocity, k
        ) - (values)

    def jacobian(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        hbar_velocity = float(parameters[0])
        gamma_1 = couple(hbar_velocity)
        turned = -2.0 * hbar_velocity * nearest**2 / outer
        root = hyperbola_root(gamma_1**2, hbar_velocity, k)
        growth = gamma_1 * turned + 4.0 * hbar_velocity * k**2
        return (4.0 * hbar_velocity * k / root - 2.0 * hbar_velocity**2 * k * growth / root**3)[
            :, None
        ]

    guess = 0.5 * values * (values + np.hypot(values, outer / k))
    solution = minimise(residuals, jacobian, [np.sqrt(max(float(guess.mean()), 0.1))])
    hbar_velocity = abs(float(solution[0]))
    return hbar_velocity * EV_ANGSTROM_TO_METRE_PER_SECOND, couple(hbar_velocity)


def _select_off_k(distances: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.bool_]:
    """Find the points inside a window that are not K itself, at least one: (n_k,) bool."""
    inside: NDArray[np.bool_] = points_inside(distances, window) & (distances > AT_K)
    if not np.any(inside):
        raise ConfigError(
            message(
                "velocity window",
                f"no distance inside {window[0]} … {window[1]} Å⁻¹",
                "one that is not K itself",
                "Add distances, or widen the window.",
            )
        )
    return inside
