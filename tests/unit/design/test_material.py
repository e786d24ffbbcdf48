"""Where crystals are periodic, and what can be done to them."""

import design_materials
import numpy as np
import pytest
from ase import Atoms

from mlepi.design import examine_material
from mlepi.design.deformations import draw_strain, slide_layers, space_layers, strain_cell
from mlepi.errors import StructureError
from mlepi.pipeline.stages.structure.relaxation import measure_spacings

CRYSTALS = design_materials.crystals()


def examine(name):
    return examine_material(CRYSTALS[name], design_materials.VACUUM)


@pytest.mark.parametrize(
    ("name", "axes", "n_layers", "n_gaps"),
    [
        ("graphene", (0, 1), 1, 0),
        ("bilayer", (0, 1), 2, 1),
        ("trilayer", (0, 1), 3, 2),
        ("graphite", (0, 1, 2), 2, 2),
        ("mos2", (0, 1), 1, 0),
        ("mos2_bilayer", (0, 1), 2, 1),
        ("silicon", (0, 1, 2), 1, 0),
    ],
)
def test_directions_and_layers_are_found(name, axes, n_layers, n_gaps):
    material = examine(name)
    assert (material.axes, material.n_layers, material.n_gaps) == (axes, n_layers, n_gaps)
    assert material.atoms.get_chemical_formula() in material.describe()


def test_molecules_and_layers_along_another_vector_are_refused():
    with pytest.raises(StructureError, match="expected a periodic structure"):
        examine_material(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]], cell=[9.0] * 3), 6.0)
    turned = CRYSTALS["graphite"]
    swapped = Atoms(
        turned.numbers,
        turned.positions[:, [2, 0, 1]],
        cell=turned.cell.array[[2, 0, 1]][:, [2, 0, 1]],
        pbc=True,
    )
    with pytest.raises(StructureError, match="expected layers stacked along c"):
        examine_material(swapped, 6.0)


@pytest.mark.parametrize("name", ["bilayer", "graphite", "mos2_bilayer", "trilayer"])
def test_slides_are_as_asked(name):
    material = examine(name)
    slides = np.zeros((material.n_layers, 2))
    slides[1:] = [[0.25, -0.1]] * (material.n_layers - 1)
    moved = slide_layers(material, slides)
    steps = moved.atoms.positions - material.atoms.positions
    fractions = steps @ np.linalg.inv(material.atoms.cell.array)
    layer = material.atoms.arrays["layer"]
    np.testing.assert_allclose(fractions[:, :2], slides[layer], atol=1e-12)
    np.testing.assert_allclose(fractions[:, 2], 0.0, atol=1e-12)


def test_spacings_are_as_asked():
    material = examine("trilayer")
    before = measure_spacings(material.atoms)
    after = space_layers(material, np.array([0.2, -0.1]))
    np.testing.assert_allclose(measure_spacings(after.atoms) - before, [0.2, -0.1], atol=1e-12)
    assert np.array_equal(after.atoms.cell.array, material.atoms.cell.array)
    single = examine("mos2_bilayer")
    thicker = space_layers(single, np.array([0.3]))
    rigid = thicker.atoms.positions - single.atoms.positions
    np.testing.assert_allclose(rigid[:, 2], 0.3 * single.atoms.arrays["layer"], atol=1e-12)


def test_in_bulk_the_distance_to_the_image_changes_too():
    material = examine("graphite")
    after = space_layers(material, np.array([0.2, 0.05]))
    heights = after.atoms.positions[:, 2]
    layer = after.atoms.arrays["layer"]
    lower, upper = (heights[layer == k].mean() for k in (0, 1))
    assert upper - lower == pytest.approx(3.35 + 0.2)
    assert after.atoms.cell[2, 2] - (upper - lower) == pytest.approx(3.35 + 0.05)


@pytest.mark.parametrize("name", ["bilayer", "silicon"])
def test_strains_are_in_the_periodic_directions(name):
    material = examine(name)
    strain = draw_strain(material, 0.02, np.random.default_rng(0))
    np.testing.assert_allclose(strain, strain.T, atol=1e-15)
    assert 0.0 < np.abs(strain).max() <= 0.02 + 1e-12
    if name == "bilayer":
        np.testing.assert_allclose(strain @ [0.0, 0.0, 1.0], 0.0, atol=1e-15)
    strained = strain_cell(material.atoms, strain)
    np.testing.assert_allclose(
        strained.cell.array, material.atoms.cell.array @ (np.eye(3) + strain), atol=1e-12
    )
    np.testing.assert_allclose(
        strained.get_scaled_positions(), material.atoms.get_scaled_positions(), atol=1e-12
    )
