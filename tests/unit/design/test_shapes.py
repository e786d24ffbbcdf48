"""Supercells wide enough for a network, and commensurate twists."""

import design_materials
import numpy as np
import pytest

from mlepi.design import choose_shapes, examine_material
from mlepi.design.drawing import turn_about
from mlepi.design.shapes import bound_width
from mlepi.design.twists import list_twists
from mlepi.errors import ConfigError
from mlepi.physics.vibrations.supercell_shapes import measure_width

CRYSTALS = design_materials.crystals()


def examine(name):
    return examine_material(CRYSTALS[name], design_materials.VACUUM)


def choose(name, **given):
    chosen = {"reach": 7.0, "n_shapes": 5, "min_atoms": 4, "max_atoms": 100}
    return choose_shapes(examine(name), **{**chosen, **given})


@pytest.mark.parametrize("name", ["graphene", "bilayer", "mos2"])
def test_all_are_wide_enough_where_there_is_room(name):
    shapes = choose(name)
    assert len(shapes) == 5
    cell = CRYSTALS[name].cell.array
    for shape in shapes:
        assert shape.width == pytest.approx(measure_width(shape.matrix @ cell, (0, 1)))
        assert shape.width >= 7.0
        assert len(CRYSTALS[name]) * shape.n_cells <= 100
        assert round(np.linalg.det(shape.matrix)) == shape.n_cells
    sizes = [shape.n_cells for shape in shapes]
    assert sizes == sorted(sizes)


def test_a_bulk_crystal_is_repeated_in_three_directions():
    shapes = choose("silicon", n_shapes=2, reach=6.0, max_atoms=20)
    assert all(shape.width >= 6.0 for shape in shapes)
    assert all(np.any(shape.matrix[2, :2] != 0) or shape.matrix[2, 2] > 1 for shape in shapes)


def test_without_room_the_widest_are_taken():
    every = choose("bilayer", reach=50.0, n_shapes=1000, max_atoms=40)
    few = choose("bilayer", reach=50.0, n_shapes=3, max_atoms=40)
    widths = sorted((shape.width for shape in every), reverse=True)
    np.testing.assert_allclose([shape.width for shape in few], widths[:3])
    metrics = [np.round(s.matrix @ CRYSTALS["bilayer"].cell.array, 3).tolist() for s in every]
    assert len({str(metric) for metric in metrics}) == len(every)


def test_no_supercell_is_wider_than_the_densest_lattice():
    for shape in choose("bilayer", reach=50.0, n_shapes=1000, max_atoms=48):
        assert shape.width <= bound_width(examine("bilayer"), shape.n_cells) + 1e-9


def test_bounds_without_a_cell_between_them_are_told():
    with pytest.raises(ConfigError, match=r"Set max_atoms=12 or more"):
        choose("bilayer", min_atoms=9, max_atoms=11)


def test_twists_of_graphene_are_the_known_ones():
    twists = list_twists(examine("bilayer"), 19)
    angles = [np.degrees(twist.angle) for twist in twists]
    within = [abs(angle - 60.0 * round(angle / 60.0)) for angle in angles]
    assert [twist.n_cells for twist in twists] == [7, 7, 13, 13, 19, 19]
    known = [21.787, 21.787, 27.796, 27.796, 13.174, 13.174]
    np.testing.assert_allclose(within, known, atol=1e-3)
    assert [angle for angle in angles if angle < 0]


@pytest.mark.parametrize("name", ["bilayer", "mos2_bilayer", "hbn"])
def test_the_turned_upper_layer_has_the_lattice_of_the_lower_one(name):
    material = examine(name)
    for twist in list_twists(material, 13):
        rotation = turn_about(material.normal, twist.angle)
        upper = twist.upper @ material.atoms.cell.array @ rotation.T
        np.testing.assert_allclose(upper, twist.lower @ material.atoms.cell.array, atol=1e-9)


@pytest.mark.parametrize("name", ["graphene", "silicon", "trilayer", "graphite"])
def test_others_have_none(name):
    assert list_twists(examine(name), 20) == []


def test_a_square_lattice_has_twists_and_an_oblique_one_has_none():
    square = CRYSTALS["bilayer"].copy()
    cell = square.cell.array.copy()
    cell[1] = [0.0, cell[0, 0], 0.0]
    square.set_cell(cell)
    (first, *_) = list_twists(examine_material(square, 6.0), 5)
    assert first.n_cells == 5
    assert abs(np.degrees(first.angle)) == pytest.approx(36.870, abs=1e-3)
    cell[1] = [0.4, cell[0, 0] + 0.3, 0.0]
    square.set_cell(cell)
    assert list_twists(examine_material(square, 6.0), 20) == []
