"""What the spacing of OpenMX's real-space grid adds to a total energy, cell by cell.

OpenMX takes, along each lattice vector, the product of 2, 3, 5 and 7 whose cutoff is nearest to the
one asked for, so that cells of different shapes have different grids, and their energies different
errors: up to 3 meV/atom between the cells of this set. In the range of these grids the error is
linear in the mean spacing of the grid and depends a little on its angle,

    e = s √(h₁h₂) sin^p γ,

h₁, h₂ the distances of grid points along the lattice vectors in the plane and γ their angle. Slope
s and exponent p are fitted to total energies of the same atoms on several grids
(``grid_energies.json``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from mlepi.units import BOHR

MEASURED = Path(__file__).parent / "grid_energies.json"
CUTOFF = 200.0
"""Asked for, Ry."""

LATTICE_CONSTANT = 2.46
REFERENCE_CELL = LATTICE_CONSTANT * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
REFERENCE_POINTS = (18, 18)
"""Å; the grid from which errors are counted: that of the unstrained 1×1, 3×3, 4×4 and 6×6."""


@dataclass(frozen=True)
class GridLaw:
    """Error of the energy on a grid, slope·√(h₁h₂)·sin^exponent γ.

    Attributes:
        slope: meV/atom per Å.
        exponent: of the sine of the angle.
        deviation: root mean square deviation of the measured energies from it, meV/atom.
    """

    slope: float
    exponent: float
    deviation: float

    def energy(self, cell: NDArray[np.float64], cutoff: float = CUTOFF) -> float:
        """Return the error in a cell beyond that of the reference grid, meV/atom.

        Args:
            cell: (3, 3) rows, Å.
            cutoff: of the grid, Ry.
        """
        own = _spacing(cell[:2, :2], count_points(cell, cutoff)[:2], self.exponent)
        reference = _spacing(REFERENCE_CELL, REFERENCE_POINTS, self.exponent)
        return self.slope * (own - reference)


def count_points(cell: NDArray[np.float64], cutoff: float = CUTOFF) -> tuple[int, ...]:
    """Count the points that OpenMX puts along each lattice vector.

    Args:
        cell: (3, 3) rows, Å.
        cutoff: Ry.
    """
    smooth = np.array([n for n in range(2, 1000) if _is_smooth(n)])
    # one point along a vector whose planes are d apart has the cutoff (π/d)² Ry, d in Bohr
    planes = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0) / BOHR
    wanted = np.sqrt(cutoff) * planes / np.pi
    return tuple(int(smooth[np.argmin(np.abs(np.log(smooth / n)))]) for n in wanted)


def fit_law() -> GridLaw:
    """Fit the law to the measured energies; every series has a constant of its own."""
    series = json.loads(MEASURED.read_text(encoding="utf-8"))["series"]
    points = [
        (n, LATTICE_CONSTANT * np.array(one["cell"]), one["grid"], one["energy"])
        for n, members in enumerate(series)
        for one in members["energies"]
    ]
    energies = np.array([point[3] for point in points])
    members = np.array([[point[0] == n for n in range(len(series))] for point in points], float)

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        spacings = [_spacing(cell, grid, parameters[1]) for _, cell, grid, _ in points]
        rest = energies - parameters[0] * np.array(spacings)
        return np.asarray(rest - members @ np.linalg.lstsq(members, rest, rcond=None)[0])

    fit = least_squares(residuals, [150.0, 0.0])
    return GridLaw(float(fit.x[0]), float(fit.x[1]), float(np.sqrt(np.mean(fit.fun**2))))


def _spacing(cell: NDArray[np.float64], points: ArrayLike, exponent: float) -> float:
    steps = cell / np.asarray(points, dtype=float)[:, None]
    lengths = np.linalg.norm(steps, axis=1)
    sine = abs(np.linalg.det(steps)) / lengths.prod()
    return float(np.sqrt(lengths.prod()) * sine**exponent)


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


if __name__ == "__main__":
    law = fit_law()
    print(
        f"s = {law.slope:.1f} meV/atom/Å, p = {law.exponent:.3f}, "
        f"measured energies off by {law.deviation:.3f} meV/atom RMS"
    )
