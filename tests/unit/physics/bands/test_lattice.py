"""Reciprocal lattice, special points and k meshes against geometry."""

from __future__ import annotations

import numpy as np
import pytest
from toys import LATTICE_CONSTANT, honeycomb

from mlepi.errors import ConfigError, StructureError
from mlepi.physics.bands import lattice


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
