"""Reciprocal lattice, special points and k meshes against geometry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from toys import LATTICE_CONSTANT, honeycomb

from mlepi.errors import ConfigError, StructureError
from mlepi.physics.bands import lattice

SHEARED = [[4.1, 0.2, 0.1], [-0.3, 4.6, 0.4], [0.5, 0.3, 5.2]]


@pytest.mark.parametrize("angle", [60, 120])
def test_hexagonal_points_are_where_geometry_puts_them(angle):
    cell = honeycomb(angle=angle).cell.array
    np.testing.assert_allclose(
        cell @ lattice.reciprocal_lattice(cell).T, 2 * np.pi * np.eye(3), atol=1e-12
    )
    points = lattice.hexagonal_points(cell)
    cartesian = {name: lattice.to_cartesian(k, cell) for name, k in points.items()}
    assert np.linalg.norm(cartesian["K"]) == pytest.approx(4 * np.pi / (3 * LATTICE_CONSTANT))
    assert np.linalg.norm(cartesian["K'"]) == pytest.approx(4 * np.pi / (3 * LATTICE_CONSTANT))
    assert np.linalg.norm(cartesian["M"]) == pytest.approx(
        2 * np.pi / (np.sqrt(3) * LATTICE_CONSTANT)
    )
    # M, Γ and K form the irreducible right triangle
    assert np.linalg.norm(cartesian["K"] - cartesian["M"]) == pytest.approx(
        2 * np.pi / (3 * LATTICE_CONSTANT)
    )
    difference = points["K"] - points["K'"]
    assert not np.allclose(difference, np.round(difference))
    np.testing.assert_allclose(lattice.to_fractional(cartesian["K"], cell), points["K"], atol=1e-14)


def test_line_has_the_distances_and_direction_asked_for():
    cell = honeycomb().cell.array
    points = lattice.hexagonal_points(cell)
    line = lattice.build_line(points["K"], points["Γ"], [0.0, 0.05, -0.1], cell)
    offsets = lattice.to_cartesian(line - points["K"], cell)
    unit = -lattice.to_cartesian(points["K"], cell) / np.linalg.norm(
        lattice.to_cartesian(points["K"], cell)
    )
    np.testing.assert_allclose(offsets @ unit, [0.0, 0.05, -0.1], atol=1e-14)


def test_k_path_passes_the_named_points():
    cell = honeycomb().cell.array
    points = lattice.hexagonal_points(cell)
    path = lattice.build_k_path(points, ["Γ", "K", "M", "Γ"], cell, spacing=0.05)
    lengths = 2 * np.pi / LATTICE_CONSTANT * np.array([2 / 3, 1 / 3, 1 / np.sqrt(3)])
    np.testing.assert_allclose(np.diff(path.ticks), lengths, rtol=1e-12)
    assert np.diff(path.distances).max() <= 0.05 + 1e-12
    np.testing.assert_allclose(
        path.kpoints[np.searchsorted(path.distances, path.ticks[1] - 1e-9)], points["K"]
    )


@pytest.mark.parametrize("crystal", ["diamond", "zincblende", "bcc", "sheared"])
def test_a_crystal_has_the_path_of_its_space_group_in_its_own_cell(crystal):
    atoms = {
        "diamond": lambda: bulk("Si", a=5.4),
        "zincblende": lambda: bulk("GaAs", "zincblende", a=5.4),
        "bcc": lambda: bulk("Fe", a=2.8),
        "sheared": lambda: Atoms("MgO", [[0, 0, 0], [1.2, 2.1, 1.9]], cell=SHEARED, pbc=True),
    }[crystal]()
    points, route = lattice.lattice_path(atoms, [True, True, True])
    assert set(route) - {lattice.BREAK} <= set(points)
    reciprocal = atoms.cell.reciprocal()[:] * 2 * np.pi
    steps = np.array([g for g in product(range(-2, 3), repeat=3) if any(g)]) @ reciprocal
    for name, k in points.items():
        length = np.linalg.norm(lattice.to_cartesian(k, atoms.cell.array))
        nearest = np.linalg.norm(lattice.to_cartesian(k, atoms.cell.array) - steps, axis=1).min()
        if name == "Γ":
            assert length == pytest.approx(0.0)
        elif crystal == "sheared":  # corners of the zone lie in it or on an equivalent corner
            assert length > 0.1
        else:  # on the boundary of the first zone, half way to another centre
            assert length == pytest.approx(nearest) or name == "K"
    if crystal in ("diamond", "zincblende"):
        ends = [lattice.to_cartesian(points[name], atoms.cell.array) for name in "XLK"]
        lengths = 2 * np.pi / 5.4 * np.array([1.0, np.sqrt(0.75), 0.75 * np.sqrt(2)])
        np.testing.assert_allclose(np.linalg.norm(ends, axis=1), lengths)


def test_a_rotated_crystal_has_the_same_path_in_its_own_coordinates():
    atoms = bulk("Si", a=5.4)
    upright, route = lattice.lattice_path(atoms, [True] * 3)
    atoms.rotate(40, [1, 2, 3], rotate_cell=True)
    turned, same = lattice.lattice_path(atoms, [True] * 3)
    assert route == same
    cell = atoms.cell.array
    for name, k in upright.items():
        assert np.linalg.norm(lattice.to_cartesian(turned[name], cell)) == pytest.approx(
            np.linalg.norm(lattice.to_cartesian(k, cell))
        )


def test_a_layer_has_no_points_out_of_its_plane():
    atoms = Atoms("Fe", cell=[3.0, 3.0, 12.0], pbc=True)
    points, route = lattice.lattice_path(atoms, [True, True, False])
    np.testing.assert_allclose(np.array(list(points.values()))[:, 2], 0.0)
    assert route == ["M", "Γ", "X", "M"]
    path = lattice.follow_route(["gamma", "X"], {}, atoms, [True, True, False], 0.1)
    np.testing.assert_allclose(path.ticks, [0.0, np.pi / 3.0])


def test_k_mesh_is_the_full_mesh_by_weight():
    kpoints, weights = lattice.build_k_mesh([4, 3, 1])
    assert weights.sum() == pytest.approx(1.0)
    assert len(kpoints) == (12 + 2) // 2  # two points are their own partner
    full = np.stack(
        np.meshgrid(np.arange(4) / 4, np.arange(3) / 3, [0.0], indexing="ij"), -1
    ).reshape(-1, 3)
    values = np.cos(2 * np.pi * full) @ [1.0, 2.0, 0.5] + np.cos(
        2 * np.pi * (full[:, 0] + full[:, 1])
    )
    reduced = np.cos(2 * np.pi * kpoints) @ [1.0, 2.0, 0.5] + np.cos(
        2 * np.pi * (kpoints[:, 0] + kpoints[:, 1])
    )
    assert weights @ reduced**2 == pytest.approx(np.mean(values**2))


def test_bad_input_is_refused():
    with pytest.raises(StructureError, match=r"at 90\.0°; expected two equal vectors"):
        lattice.hexagonal_points(np.diag([2.0, 2.0, 5.0]))
    points = lattice.hexagonal_points(honeycomb().cell.array)
    with pytest.raises(ConfigError, match="k path: got route"):
        lattice.build_k_path(points, ["Γ", "X"], honeycomb().cell.array, 0.1)
    with pytest.raises(ConfigError, match="three divisions"):
        lattice.build_k_mesh([0, 1, 1])
