"""The table of augmented overlaps from radial orbitals and projectors, as GPAW leaves them.

``orbitals.json`` is what ``mlepi/structures/programs/gpaw_orbitals.py`` writes, in Bohr:
``{"code": "gpaw 26.7.0", "elements": {"B": {"orbitals": SET, "projectors": SET, "corrections": …,
"slopes": …}}}``, a SET with l of its ``shells``, its ``radius``, and ``values`` R(r) of every shell
on equal steps from 0 to the radius.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.augmented import PROJECTORS, AugmentedOverlapTable
from mlepi.physics.overlaps.orbitals import RadialOrbitals, quadrature
from mlepi.physics.overlaps.tabulate import find_k_max, tabulate_overlaps
from mlepi.units import BOHR
from mlepi.untrusted import LARGEST_RADIUS, parse_shells, read_json


class _Species(NamedTuple):
    """Normalised radial functions, and the norms ∫ R² r² dr, rooted, that they had: (n_shells,)."""

    orbitals: RadialOrbitals
    norms: NDArray[np.float64]


def read_augmented_orbitals(path: str | Path, n_grid: int = 513) -> AugmentedOverlapTable:
    """Tabulate the augmented overlaps of the orbitals and projectors in a file.

    Args:
        path: ``orbitals.json``.
        n_grid: number of distances of the table.

    Returns:
        The table, in Å.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = Path(path)
    content = read_json(path)
    where = path.name
    try:
        species, corrections, slopes = [], {}, {}
        for symbol, element in content["elements"].items():
            z = atomic_numbers[symbol]
            for shift, part in ((0, "orbitals"), (PROJECTORS, "projectors")):
                name = f"{symbol} {part} of {content['code']}"
                species.append(_read_set(where, z + shift, name, element[part]))
            sizes = [2 * l + 1 for l in species[-1].orbitals.shells]
            norms = np.repeat(species[-1].norms, sizes)
            # projectors divided by their norm, and corrections times it: the same S
            corrections[z] = np.array(element["corrections"], dtype=float) * np.outer(norms, norms)
            slopes[z] = np.array(element["slopes"], dtype=float) * np.outer(norms, norms) / BOHR
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        got, fix = f"a damaged file ({type(error).__name__}: {error})", "Write it again."
        expected = "orbitals and projectors of elements"
        raise DataError(message(str(path), got, expected, fix)) from error
    return tabulate_augmented(species, corrections, slopes, n_grid)


def tabulate_augmented(
    species: list[_Species],
    corrections: Mapping[int, NDArray[np.float64]],
    slopes: Mapping[int, NDArray[np.float64]],
    n_grid: int,
) -> AugmentedOverlapTable:
    """Tabulate the overlaps of orbitals and projectors, and give orbitals their norms back."""
    orbitals = [one.orbitals for one in species]
    table = tabulate_overlaps(orbitals, k_max=find_k_max(orbitals), n_grid=n_grid)
    norms = {
        one.orbitals.number: one.norms if one.orbitals.number < PROJECTORS else one.norms**0
        for one in species
    }
    values = {
        pair: table.values[pair]
        * np.array(
            [norms[pair[0]][c.shell_1] * norms[pair[1]][c.shell_2] for c in table.channels(*pair)]
        )[:, None]
        for pair in table.values
    }
    return AugmentedOverlapTable(replace(table, values=values), corrections, slopes)


def _read_set(where: str, number: int, name: str, given: Mapping[str, Any]) -> _Species:
    """Read the radial functions of one set and normalise them."""
    shells = parse_shells(where, given["shells"])
    radius, values = float(given["radius"]), np.array(given["values"], dtype=float)
    if not 0.0 < radius * BOHR <= LARGEST_RADIUS or values.ndim != 2 or values.shape[1] < 4:
        got, fix = f"{name} of shape {values.shape} within {radius} Bohr", "Write the file again."
        raise DataError(message(where, got, "a radius and values of every shell", fix))
    grid = np.linspace(0.0, radius * BOHR, values.shape[1])
    values = values / BOHR**1.5
    norms = np.sqrt(_square(grid, values))
    if not bool((norms > 0.0).all()):
        got, fix = f"{name} with norms {norms.tolist()}", "Write the file again."
        raise DataError(message(where, got, "functions that are not zero", fix))
    made = RadialOrbitals(number, name, radius * BOHR, shells, grid, values / norms[:, None])
    return _Species(made, norms)


def _square(grid: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrate R² r² of cubic splines: (n_shells,)."""
    r, weights = quadrature(0.0, float(grid[-1]))
    result: NDArray[np.float64] = (CubicSpline(grid, values, axis=1)(r) ** 2 * r**2) @ weights
    return result
