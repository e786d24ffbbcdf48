"""Supercells of every shape: how many there are, that they are reduced, and what fills them."""

import numpy as np
import pytest
from ase.build import bulk
from ase.geometry.minkowski_reduction import is_minkowski_reduced

from mlepi.errors import ConfigError
from mlepi.physics.vibrations.supercell_shapes import (
    build_shaped_supercell,
    count_cells,
    list_lattice_points,
    list_shapes,
    measure_width,
    reduce_shape,
    wrap_points,
)
from mlepi.structures import build_graphene

HEXAGONAL = np.array([[1.0, 0.0, 0.0], [0.5, np.sqrt(0.75), 0.0], [0.0, 0.0, 5.0]])
FCC = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def in_plane(rows):
    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = rows
    return matrix


def canonical(matrix):
    """Return the Hermite normal form of two rows, equal for equal lattices."""
    (a, b), (c, d) = matrix[:2, :2].tolist()
    while c:
        a, b, c, d = c, d, a - (a // c) * c, b - (a // c) * d
    if a < 0:
        a, b = -a, -b
    return a, b % abs(d), abs(d)


@pytest.mark.parametrize(("size", "n_plane", "n_space"), [(1, 1, 1), (4, 7, 35), (6, 12, 91)])
def test_all_lattices_of_a_size_are_there_once(size, n_plane, n_space):
    """σ(n) in a plane and Σ d σ(d) over the divisors d in space (Hart and Forcade 2008)."""
    plane = list_shapes(HEXAGONAL, (0, 1), [size])
    assert len(plane) == len({canonical(matrix) for matrix in plane}) == n_plane
    space = list_shapes(FCC, (0, 1, 2), [size])
    assert len(space) == n_space
    assert len(list_shapes(FCC, (2,), [size])) == 1
    assert all(round(np.linalg.det(matrix)) == size for matrix in [*plane, *space])


def test_shapes_are_reduced():
    for matrix in list_shapes(HEXAGONAL, (0, 1), range(5, 12)):
        assert is_minkowski_reduced(matrix @ HEXAGONAL, [True, True, False])
        assert np.array_equal(matrix[2], [0, 0, 1])
    for matrix in list_shapes(FCC, (0, 1, 2), [3, 4]):
        assert is_minkowski_reduced(matrix @ FCC)


def test_reduction_keeps_the_lattice_and_ends():
    for rows in ([[5, 0], [17, 3]], [[1, 0], [2, 7]], [[2, 4], [-2, 5]]):
        reduced = reduce_shape(in_plane(rows), HEXAGONAL, (0, 1))
        assert canonical(reduced) == canonical(in_plane(rows))
        assert np.linalg.det(reduced) > 0


def test_cells_inside_a_supercell_are_all_and_each_once():
    matrix = np.array([[2, 1, 0], [-1, 3, 1], [1, 0, 2]])
    points = list_lattice_points(matrix)
    assert len(points) == count_cells(matrix) == 15
    assert np.array_equal(points, np.array(sorted(points.tolist())))
    inside = points @ np.linalg.inv(matrix)
    assert inside.min() > -1e-9
    assert inside.max() < 1.0 - 1e-9
    moved = points + np.array([[4, -7, 2]]) @ matrix
    assert np.array_equal(wrap_points(moved, matrix), points)


def test_width_is_that_of_the_shortest_translation():
    assert measure_width(in_plane([[1, 0], [4, 5]]) @ HEXAGONAL, (0, 1)) == pytest.approx(1.0)
    assert measure_width(in_plane([[1, 2], [-2, 3]]) @ HEXAGONAL, (0, 1)) == pytest.approx(7**0.5)
    skew = np.array([[1, 0, 0], [3, 1, 0], [0, 5, 1]]) @ FCC
    assert measure_width(skew, (0, 1, 2)) == pytest.approx(2**0.5)
    assert measure_width(HEXAGONAL, (2,)) == 5.0


@pytest.mark.parametrize("atoms", [build_graphene("AB"), bulk("Si")], ids=["bilayer", "silicon"])
def test_a_supercell_is_the_same_crystal(atoms):
    matrix = in_plane([[2, 1], [-1, 3]])
    supercell = build_shaped_supercell(atoms, matrix)
    assert len(supercell) == 7 * len(atoms)
    assert supercell.get_volume() == pytest.approx(7 * atoms.get_volume())
    shifts = (supercell.positions - np.tile(atoms.positions, (7, 1))) @ np.linalg.inv(atoms.cell)
    np.testing.assert_allclose(shifts, np.rint(shifts), atol=1e-9)
    assert len({tuple(row) for row in np.rint(shifts[:: len(atoms)]).astype(int)}) == 7
    nearest = [one.get_all_distances(mic=True)[0] for one in (atoms.repeat(3), supercell)]
    assert np.sort(nearest[0])[1] == pytest.approx(np.sort(nearest[1])[1])


def test_a_matrix_without_volume_is_refused():
    with pytest.raises(ConfigError, match="a matrix of determinant 1"):
        build_shaped_supercell(bulk("Si"), in_plane([[1, 2], [2, 4]]))
