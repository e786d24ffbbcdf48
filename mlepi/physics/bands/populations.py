"""Mulliken populations of states, and the groups of orbitals to which they are added up.

The share of orbital μ in a state, w_μ = Re c*_μ (Sc)_μ, adds up to one over the orbitals and, over
all states, to one per orbital. With a non-orthogonal basis a single share can be slightly negative.
Mulliken, J. Chem. Phys. 23, 1833 (1955), doi:10.1063/1.1740588.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf


def mulliken_weights(vectors: NDArray[Any], mapped: NDArray[Any]) -> NDArray[np.float64]:
    """Return w_μn = Re c*_μn (Sc)_μn.

    Args:
        vectors: (n_orbitals, n_states), c†Sc = 1.
        mapped: (n_orbitals, n_states), S times the vectors.

    Returns:
        (n_orbitals, n_states); every column adds up to one.
    """
    weights: NDArray[np.float64] = (vectors.conj() * mapped).real
    return weights


def integrated_lines(
    energies: NDArray[np.float64], levels: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Count the states below every energy, each level a Gaussian of a standard deviation.

    Args:
        energies: (n_energies,) eV.
        levels: (n_states,) eV.
        width: eV.

    Returns:
        (n_energies,): the integral of the density of states.
    """
    counts: NDArray[np.float64] = 0.5 * np.sum(
        1.0 + erf((energies[:, None] - levels) / (np.sqrt(2.0) * width)), axis=1
    )
    return counts


def energy_of_count(
    energies: NDArray[np.float64], counts: NDArray[np.float64], wanted: float
) -> float:
    """Return where a growing number of states reaches a wanted one, by linear interpolation, eV.

    NaN outside the grid.

    Where it stays there, as in a gap, the middle is returned.

    Args:
        energies: (n_energies,) eV, ascending.
        counts: (n_energies,) states below them.
        wanted: number of states.
    """
    if not counts[0] < wanted < counts[-1]:
        return float("nan")
    slack = 1e-6 * max(wanted, 1.0)
    ends = []
    for level, side in ((wanted - slack, "right"), (wanted + slack, "left")):
        place = int(np.searchsorted(counts, level, side=side))  # type: ignore[call-overload]
        after = min(max(place, 1), len(counts) - 1)
        rise = counts[after] - counts[after - 1]
        share = (level - counts[after - 1]) / rise if rise > 0 else 0.5
        ends.append(energies[after - 1] + share * (energies[after] - energies[after - 1]))
    return float(np.mean(ends))
