"""The k-points at which one cell is solved in an energy window, and what is found there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

EDGE = 0.01
"""eV, the strip around the energy window in which its exact end may lie, so that no level sits on
it."""


@dataclass(frozen=True)
class KpointSequence:
    """k-points of one cell whose states are followed from one to the next.

    Attributes:
        kpoints: (n_k, 3) fractional.
        distances: (n_k,) Å⁻¹, signed, from the middle of the sequence, where following begins.
        sites: (n_orbitals, 3), fractional coordinates of the orbitals' sites.
        cell: (3, 3) rows, Å.
    """

    kpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    sites: NDArray[np.float64]
    cell: NDArray[np.float64]

    def step(self, first: int, second: int) -> NDArray[np.float64]:
        """Return the shortest way from one point to another: (3,) fractional."""
        step = self.kpoints[second] - self.kpoints[first]
        shortest: NDArray[np.float64] = step - np.round(step)
        return shortest

    def length(self, step: NDArray[np.float64]) -> float:
        """Return the length of a step, Å⁻¹."""
        return float(np.linalg.norm(2.0 * np.pi * np.linalg.solve(self.cell, step)))


@dataclass(frozen=True)
class WindowStates:
    """All states of the energy window at one k-point.

    Attributes:
        first: position of the first one in the complete spectrum.
        values: (n_states,) eV, ascending.
        mapped: (n_orbitals, n_states), S times the states.
        vectors: (n_orbitals, n_states), c†Sc = 1.
    """

    first: int
    values: NDArray[np.float64]
    mapped: NDArray[Any]
    vectors: NDArray[Any]


def missed_states(n_found: int, window: float, centre: float) -> PhysicsError:
    """Return the error of a solver that found fewer states than there are."""
    return PhysicsError(
        message(
            "states of an energy window",
            f"{n_found} states within {window} eV of {centre:.3f} eV",
            "as many as the inertia of H − ES counts",
            "The solver missed a state: this is a defect of the program, please report it with "
            "the structure.",
        )
    )


def find_ends(values: NDArray[np.float64], centre: float, window: float) -> tuple[float, float]:
    """Return the exact ends of the energy window, between levels, eV."""
    return _free_energy(values, centre - window - EDGE, centre - window), _free_energy(
        values, centre + window, centre + window + EDGE
    )


def _free_energy(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the middle of the widest gap between the levels inside a strip, eV."""
    levels = np.sort(np.concatenate([[low, high], values[(values > low) & (values < high)]]))
    widest = int(np.argmax(np.diff(levels)))
    return float(0.5 * (levels[widest] + levels[widest + 1]))
