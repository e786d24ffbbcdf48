"""Meshes of k-points and grids of equal density in every cell, however large."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.units import BOHR


def check_kgrid(key: str, divisions: Sequence[int]) -> None:
    """Refuse divisions along the reciprocal vectors that are no mesh.

    Args:
        key: of the setting, for the message.
        divisions: three of them.

    Raises:
        ConfigError: there are not three, or one is not positive.
    """
    if len(divisions) != 3 or min(divisions) < 1:
        fix = "For example [18, 18, 1]."
        raise ConfigError(message(key, f"{list(divisions)}", "three divisions ≥ 1", fix))


def find_gap(fractional: NDArray[np.float64]) -> tuple[float, float]:
    """Return middle and width of the widest empty stretch along a periodic axis.

    Args:
        fractional: (n_atoms,) coordinates along the axis.
    """
    ordered = np.sort(fractional % 1.0)
    widths = np.diff(np.append(ordered, ordered[0] + 1.0))
    widest = int(np.argmax(widths))
    return float((ordered[widest] + 0.5 * widths[widest]) % 1.0), float(widths[widest])


def find_empty_axes(atoms: Atoms, vacuum: float) -> list[bool]:
    """Say of every axis whether so much space, Å, is empty along it."""
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    fractional = atoms.cell.scaled_positions(atoms.positions)
    return [
        find_gap(fractional[:, axis])[1] * height >= vacuum for axis, height in enumerate(heights)
    ]


def choose_mesh(atoms: Atoms, k_spacing: float, vacuum: float) -> tuple[int, int, int]:
    """Return the divisions of a mesh through Γ of equal density in every cell.

    A mesh of n × m divisions and that of n divisions of a cell m times as long are the same points.

    Args:
        atoms: structure, Å.
        k_spacing: largest distance of two k-points, 1/Å, 2π included.
        vacuum: an axis with so much empty space, Å, has one.
    """
    lengths = 2.0 * math.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    divisions = [
        1 if is_empty else max(1, math.ceil(length / k_spacing - 1e-6))
        for length, is_empty in zip(lengths, find_empty_axes(atoms, vacuum), strict=True)
    ]
    return divisions[0], divisions[1], divisions[2]


def choose_even_mesh(atoms: Atoms, k_spacing: float, vacuum: float) -> tuple[int, int, int]:
    """Return the divisions of a mesh of Monkhorst and Pack of equal density, even where above one.

    Such a mesh lies half a step beside Γ if its divisions are even and goes through it if they are
    odd: of two cells only those of one parity are the same points (Monkhorst, Pack, Phys. Rev. B
    13, 5188 (1976), doi:10.1103/PhysRevB.13.5188, Eq. 3).

    Args:
        atoms: structure, Å.
        k_spacing: largest distance of two k-points, 1/Å, 2π included.
        vacuum: an axis with so much empty space, Å, has one.
    """
    empty = find_empty_axes(atoms, vacuum)
    divisions = [
        1 if is_empty else n + n % 2
        for n, is_empty in zip(choose_mesh(atoms, k_spacing, vacuum), empty, strict=True)
    ]
    return divisions[0], divisions[1], divisions[2]


def shift_half_grid(atoms: Atoms, cutoff: float) -> NDArray[np.float64]:
    """Return half a grid spacing along every lattice vector, (3,) Å.

    A plane wave of the cutoff E, in Ry, has half its wavelength, π/√E Bohr, between two points.

    Args:
        atoms: structure, Å.
        cutoff: of the density, Ry.
    """
    spacing = math.pi / math.sqrt(cutoff) * BOHR
    directions = atoms.cell.array / atoms.cell.lengths()[:, None]
    shift: NDArray[np.float64] = 0.5 * spacing * directions.sum(axis=0)
    return shift
