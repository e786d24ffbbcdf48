"""Commensurate twists of two layers with a hexagonal or square lattice.

The lower layer has the superlattice vector p a + q b, the upper one q a + p b, of equal length; the
upper one is turned by the angle between them. The second superlattice vector is the first one
turned as the lattice allows. The layers need no other symmetry.

References:
    Lopes dos Santos, Peres, Castro Neto (2012), doi:10.1103/PhysRevB.86.155449, Sec. II.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.design.material import Material

TURNS = {60: ((0, 1), (-1, 1)), 90: ((0, 1), (-1, 0)), 120: ((0, 1), (-1, -1))}
"""Angle of a and b, ° → a and b turned by it, in themselves."""
TOLERANCE = 1e-4
"""Relative difference of a and b, and difference of their angle in radians, that are none."""


@dataclass(frozen=True)
class Twist:
    """One commensurate twist.

    Attributes:
        lower: (3, 3) int, supercell of the lower layer in its lattice vectors.
        upper: the same of the upper layer before it is turned.
        angle: by which the upper one is turned about the normal, radians.
        n_cells: primitive cells.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    angle: float
    n_cells: int


def list_twists(material: Material, max_cells: int) -> list[Twist]:
    """List the twists of two layers, the smallest cells first.

    Args:
        material: of two layers.
        max_cells: primitive cells at most.

    Returns:
        Both senses of every twist; none for other materials and lattices.
    """
    turn = _find_turn(material)
    if turn is None:
        return []
    found = []
    for p in range(2, max_cells + 1):
        for q in range(1, p):
            if math.gcd(p, q) != 1:
                continue
            for first, second in (((p, q), (q, p)), ((q, p), (p, q))):
                lower, upper = _fill(first, turn), _fill(second, turn)
                n_cells = round(float(np.linalg.det(lower)))
                if n_cells <= max_cells:
                    angle = _measure_angle(material, upper[0], lower[0])
                    found.append(Twist(lower, upper, angle, n_cells))
    return sorted(_keep_distinct(found, turn), key=lambda twist: (twist.n_cells, twist.angle))


def _keep_distinct(twists: list[Twist], turn: NDArray[np.int64]) -> list[Twist]:
    """Leave out twists that are another one and a rotation of the lattice."""
    period = math.pi / 2.0 if np.array_equal(turn, TURNS[90]) else math.pi / 3.0
    kept: dict[tuple[int, int], Twist] = {}
    for twist in sorted(twists, key=lambda twist: twist.n_cells):
        within = twist.angle - period * round(twist.angle / period)
        if abs(within) > TOLERANCE:
            kept.setdefault((twist.n_cells, round(within / TOLERANCE)), twist)
    return list(kept.values())


def _find_turn(material: Material) -> NDArray[np.int64] | None:
    """Return how a and b are turned by the angle between them; None where there are no twists."""
    if material.n_layers != 2 or not material.has_vacuum or len(material.axes) != 2:
        return None
    a, b, c = material.atoms.cell.array
    lengths = np.linalg.norm([a, b], axis=1)
    if abs(lengths[0] / lengths[1] - 1.0) > TOLERANCE or np.cross(a, b) @ c < 0:
        return None
    angle = math.acos(float(a @ b / (lengths[0] * lengths[1])))
    for degrees, turn in TURNS.items():
        if abs(angle - math.radians(degrees)) < TOLERANCE:
            return np.array(turn, dtype=np.int64)
    return None


def _fill(row: tuple[int, int], turn: NDArray[np.int64]) -> NDArray[np.int64]:
    matrix: NDArray[np.int64] = np.eye(3, dtype=np.int64)
    matrix[0, :2] = row
    matrix[1, :2] = np.array(row) @ turn
    return matrix


def _measure_angle(
    material: Material, first: NDArray[np.int64], second: NDArray[np.int64]
) -> float:
    """Return by which angle one superlattice vector is turned to be another, radians."""
    one, other = (row @ material.atoms.cell.array for row in (first, second))
    return math.atan2(float(np.cross(one, other) @ material.normal), float(one @ other))
