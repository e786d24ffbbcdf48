"""Structures of every kind in crystals of every kind: amplitudes, distances, what was asked for."""

import design_materials
import numpy as np
import pytest

from mlepi.design.drawing import KINDS
from mlepi.errors import PhysicsError
from mlepi.structures import get_layers

CRYSTALS = design_materials.crystals()
LAYERED = ("bilayer", "trilayer", "graphite", "hbn", "mos2_bilayer")


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_kind_that_a_crystal_has_can_be_drawn(name):
    drawer = design_materials.drawer(CRYSTALS[name])
    expected = {"thermal", "strain"} | ({"slide", "spacing"} if name in LAYERED else set())
    assert set(drawer.kinds) - {"twist"} == expected
    for kind in drawer.kinds:
        drawn = drawer.draw(kind, 1)
        n_cells = round(np.linalg.det(drawn.matrix))
        assert len(drawn.atoms) == n_cells * len(CRYSTALS[name])
        per_cell = CRYSTALS[name].get_volume()
        if kind in ("thermal", "slide", "twist"):
            change = 1.15 if name == "graphite" else 1.0001
            assert 1.0 / change < drawn.atoms.get_volume() / n_cells / per_cell < change
        n_layers = int(drawn.atoms.arrays["layer"].max()) + 1
        if name != "graphite":
            assert n_layers == int(get_layers(CRYSTALS[name]).max()) + 1
        assert drawn.shortest > 1.0
        assert drawn.temperature == 300.0


def test_twisted_layers_stay_whole():
    drawer = design_materials.drawer(CRYSTALS["mos2_bilayer"], temperatures=(0.0,))
    assert "twist" in drawer.kinds
    for number in range(2):
        drawn = drawer.draw("twist", number)
        sites = drawn.atoms.copy()
        sites.positions -= drawn.displacements
        bonds = [
            np.sort(one.get_all_distances(mic=True)[one.numbers == 42].min(axis=0))
            for one in (sites, CRYSTALS["mos2_bilayer"].repeat((3, 3, 1)))
        ]
        assert bonds[0].max() == pytest.approx(bonds[1].max(), abs=1e-9)
        nearest = sites.get_all_distances(mic=True) + 99.0 * np.eye(len(sites))
        assert nearest.min() == pytest.approx(2.41, abs=0.02)
        del sites.arrays["layer"]
        assert get_layers(sites).max() == 1


@pytest.mark.parametrize("name", ["mos2", "silicon"])
def test_the_rms_displacement_is_the_thermal_one(name):
    """Within five standard errors of ⟨u²⟩, of every element and temperature."""
    drawer = design_materials.drawer(
        CRYSTALS[name], n_shapes=1, max_atoms=27, temperatures=(0.0, 600.0)
    )
    ensemble = drawer.find_ensemble(drawer.shapes[0].matrix)[1]
    expected = ensemble.mean_square_displacements().sum(axis=2)
    drawn = [drawer.draw("thermal", number) for number in range(120)]
    for place, temperature in enumerate((0.0, 600.0)):
        squares = np.array(
            [
                np.sum(one.displacements**2, axis=1).reshape(-1, len(CRYSTALS[name])).mean(axis=0)
                for one in drawn
                if one.temperature == temperature
            ]
        )
        error = squares.std(axis=0, ddof=1) / np.sqrt(len(squares))
        assert np.all(np.abs(squares.mean(axis=0) - expected[place]) < 5.0 * error)
        assert np.all(error < 0.15 * expected[place])


def test_the_centre_of_mass_stays(monkeypatch):
    drawer = design_materials.drawer(CRYSTALS["mos2_bilayer"])
    drawn = drawer.draw("thermal", 1)
    masses = drawn.atoms.get_masses()
    np.testing.assert_allclose(masses @ drawn.displacements, 0.0, atol=1e-9)


def test_a_structure_depends_on_seed_kind_and_number_alone():
    first, second = (design_materials.drawer(CRYSTALS["bilayer"]) for _ in range(2))
    for kind in KINDS:
        if kind in first.kinds:
            second.draw(kind, 0)
            one, other = first.draw(kind, 3), second.draw(kind, 3)
            assert np.array_equal(one.atoms.positions, other.atoms.positions)
            assert not np.array_equal(one.displacements, first.draw(kind, 5).displacements[:1])
    changed = design_materials.drawer(CRYSTALS["bilayer"], seed=4).draw("thermal", 3)
    same = first.draw("thermal", 3)
    assert changed.displacements.shape != same.displacements.shape or not np.allclose(
        changed.displacements, same.displacements
    )


def test_every_shape_and_temperature_comes_in_turn():
    drawer = design_materials.drawer(CRYSTALS["bilayer"], temperatures=(0.0, 100.0, 200.0))
    drawn = [drawer.draw("thermal", number) for number in range(8)]
    matrices = [tuple(one.matrix.ravel().tolist()) for one in drawn]
    assert len(set(matrices[:4])) == len(set(matrices[4:])) == 4
    assert [one.temperature for one in drawn[:4]] == [0.0, 100.0, 200.0, 0.0]


def test_deformations_lie_in_their_ranges_and_are_told():
    drawer = design_materials.drawer(CRYSTALS["bilayer"], slide=0.2, spacing=0.1, strain=0.01)
    for number in range(6):
        slide = drawer.draw("slide", number).deformation
        assert np.abs(slide["slides"]).max() <= 0.1
        assert slide["slides"][0] == [0.0, 0.0]
        spacing = drawer.draw("spacing", number)
        (change,) = spacing.deformation["spacing_changes"]
        assert abs(change) <= 0.1
        sites = spacing.atoms.positions - spacing.displacements
        layer = spacing.atoms.arrays["layer"]
        gap = sites[layer == 1, 2].mean() - sites[layer == 0, 2].mean()
        assert gap == pytest.approx(3.35 + change)
        assert np.abs(drawer.draw("strain", number).deformation["strain"]).max() <= 0.01


def test_displacements_beyond_the_bound_are_drawn_again():
    free = design_materials.drawer(CRYSTALS["graphene"], temperatures=(600.0,))
    sizes = [
        float(np.linalg.norm(free.draw("thermal", k).displacements, axis=1).max()) for k in range(4)
    ]
    limit = 0.5 * (min(sizes) + max(sizes))
    bound = design_materials.drawer(
        CRYSTALS["graphene"], temperatures=(600.0,), largest_displacement=limit
    )
    drawn = [bound.draw("thermal", k) for k in range(4)]
    assert all(np.linalg.norm(one.displacements, axis=1).max() <= limit for one in drawn)
    assert sum(one.tries for one in drawn) > 4
    impossible = design_materials.drawer(
        CRYSTALS["graphene"], temperatures=(600.0,), largest_displacement=0.001
    )
    with pytest.raises(PhysicsError, match=r"thermal_00000: got 100 draws at 600 K.*Lower temp"):
        impossible.draw("thermal", 0)
