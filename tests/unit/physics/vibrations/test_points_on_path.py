"""Where points of the Brillouin zone lie on a path, on graphene."""

import numpy as np
import pytest

from mlepi.physics.vibrations.points_on_path import find_on_path, list_rotations
from mlepi.structures import build_graphene


@pytest.fixture(scope="module")
def bilayer():
    atoms = build_graphene("AB")
    path = atoms.cell.bandpath("GMKG", npoints=37, pbc=(True, True, False))
    return atoms, path.kpts, *path.get_linear_kpoint_axis()[:2]


def places_of(bilayer, q):
    atoms, points, distances, _ = bilayer
    return find_on_path(q, points, distances, list_rotations(atoms), atoms.cell.array)


def test_rotations_are_those_of_the_zone(bilayer):
    """D3d of AB with q → −q has twelve elements; each leaves the length of every q."""
    atoms = bilayer[0]
    rotations = list_rotations(atoms)
    assert rotations.shape == (12, 3, 3)
    reciprocal = atoms.cell.reciprocal().array
    q = np.array([0.21, 0.13, 0.0])
    lengths = np.linalg.norm((rotations @ q) @ reciprocal, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(q @ reciprocal))


def test_special_points_are_found_at_their_labels(bilayer):
    first, m, k, last = bilayer[3]
    np.testing.assert_allclose(places_of(bilayer, [0, 0, 0]), [first, last], atol=1e-6)
    for q in ([1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0], [-1 / 3, 1 / 3, 0]):
        np.testing.assert_allclose(places_of(bilayer, q), [k], atol=1e-6)
    for q in ([0.5, 0, 0], [0, 0.5, 0], [0.5, 0.5, 0]):
        np.testing.assert_allclose(places_of(bilayer, q), [m], atol=1e-6)


def test_points_between_those_of_the_path_are_found(bilayer):
    """(1/6, 0) is a third of Γ–M, wherever the points of the path lie."""
    m = bilayer[3][1]
    np.testing.assert_allclose(places_of(bilayer, [1 / 6, 0, 0]), [m / 3], atol=1e-6)
    np.testing.assert_allclose(places_of(bilayer, [0, 5 / 6, 0]), [m / 3], atol=1e-6)


def test_a_point_off_the_path_has_no_place(bilayer):
    assert places_of(bilayer, [0.21, 0.13, 0.0]).size == 0
    assert places_of(bilayer, [0.0, 0.0, 0.5]).size == 0


def test_a_break_of_the_path_joins_nothing(bilayer):
    """From Γ to M, then from K on without a line between M and K."""
    atoms = bilayer[0]
    points = np.array([[0, 0, 0], [0.5, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 0]])
    distances = np.array([0.0, 1.0, 1.0, 2.0])
    rotations, cell = list_rotations(atoms), atoms.cell.array
    middle = 0.5 * (points[1] + points[2])
    assert find_on_path(middle, points, distances, rotations, cell).size == 0
    np.testing.assert_allclose(
        find_on_path([0.25, 0, 0], points, distances, rotations, cell), [0.5], atol=1e-6
    )
