"""Layers from bonds.

Slabs, bulk crystals, thick and corrugated layers, and edges that cross between images.
"""

from __future__ import annotations

import numpy as np
import pytest
import vesin
from ase import Atoms
from ase.build import bulk, molecule

from mlepi.errors import StructureError
from mlepi.structures import (
    assign_layers,
    build_graphene,
    build_supercell,
    build_twisted_bilayer,
    get_layers,
    perturb_structure,
    select_intralayer,
)


def build_mos2(n_layers: int, height: float, spacing: float = 6.15, z: float = 3.0) -> Atoms:
    """Stack 1H-MoS2 layers, each S–Mo–S and 3.13 Å thick, every second one shifted."""
    cell = np.array([[3.16, 0.0, 0.0], [1.58, 3.16 * np.sqrt(0.75), 0.0], [0.0, 0.0, height]])
    positions = []
    for k in range(n_layers):
        shift = (k % 2) * (cell[0] + cell[1]) / 3.0 + [0.0, 0.0, z + k * spacing]
        sulphur = (cell[0] + cell[1]) / 3.0
        positions += [shift, shift + sulphur + [0, 0, 1.565], shift + sulphur - [0, 0, 1.565]]
    atoms = Atoms("MoS2" * n_layers, positions=positions, cell=cell, pbc=True)
    atoms.set_array("expected", np.repeat(np.arange(n_layers), 3))
    return atoms


def find_all_edges(atoms: Atoms, cutoff: float):
    i, j, shifts = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijS"
    )
    return np.stack([j, i]).astype(np.int64), shifts.astype(np.int64)


@pytest.mark.parametrize("stacking", ["monolayer", "AA", "AB", "SP", "ABA", "ABC", "ABCA"])
@pytest.mark.parametrize("bulk_crystal", [False, True])
def test_graphene_stacks(stacking, bulk_crystal):
    n_layers = {"monolayer": 1, "SP": 2}.get(stacking, len(stacking))
    atoms = build_graphene(stacking, height=n_layers * 3.35 if bulk_crystal else 18.0)
    assert (
        assign_layers(atoms).tolist()
        == atoms.arrays["layer"].tolist()
        == np.repeat(np.arange(n_layers), 2).tolist()
    )


def test_shuffled_atoms_keep_their_layers():
    atoms = build_supercell(build_graphene("ABC"), [3, 2, 1])
    order = np.random.default_rng(0).permutation(len(atoms))
    assert np.array_equal(assign_layers(atoms[order]), atoms.arrays["layer"][order])


@pytest.mark.parametrize("height", [30.0, 2 * 6.15], ids=["slab", "bulk"])
def test_layers_several_atoms_thick(height):
    atoms = build_mos2(2, height)
    assert np.array_equal(assign_layers(atoms), atoms.arrays["expected"])


@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 7.0, 30.0])
def test_a_slab_across_the_boundary_is_numbered_from_its_bottom(shift):
    atoms = build_mos2(3, 40.0)
    atoms.positions[:, 2] += shift
    expected = atoms.arrays["expected"]
    assert np.array_equal(assign_layers(atoms), expected)
    atoms.wrap()
    assert np.array_equal(assign_layers(atoms), expected)


def test_unwrapped_positions_and_random_images():
    atoms = build_supercell(build_graphene("AB"), [4, 3, 1])
    rng = np.random.default_rng(1)
    atoms.positions += rng.integers(-3, 4, (len(atoms), 3)) @ atoms.cell.array
    assert np.array_equal(assign_layers(atoms), atoms.arrays["layer"])


def test_corrugated_layers_whose_heights_overlap():
    atoms = build_supercell(build_graphene("AB"), [12, 1, 1])
    phase = 2.0 * np.pi * atoms.get_scaled_positions()[:, 0]
    atoms.positions[:, 2] += 2.5 * np.sin(phase)
    z, layer = atoms.positions[:, 2], atoms.arrays["layer"]
    assert z[layer == 0].max() > z[layer == 1].min()
    assert np.array_equal(assign_layers(atoms), layer)


def test_thermally_distorted_layers():
    atoms = build_supercell(build_graphene("ABA"), [4, 4, 1])
    for seed in range(5):
        distorted = perturb_structure(
            atoms,
            np.random.default_rng(seed),
            in_plane=0.04,
            out_of_plane=0.15,
            slide=1.0,
            strain=0.01,
        )
        del distorted.arrays["layer"]
        assert np.array_equal(get_layers(distorted), atoms.arrays["layer"])


def test_magic_angle_bilayer():
    atoms = build_twisted_bilayer(30, 1)
    assert np.array_equal(assign_layers(atoms), atoms.arrays["layer"])


def test_tilted_stacking_direction_other_than_c():
    atoms = build_graphene("ABA")
    rotated = Atoms(
        atoms.symbols,
        positions=atoms.positions[:, [2, 0, 1]],
        cell=atoms.cell.array[[2, 0, 1]][:, [2, 0, 1]],
        pbc=True,
    )
    assert np.array_equal(assign_layers(rotated), atoms.arrays["layer"])
    sheared = atoms.copy()
    sheared.set_cell(
        atoms.cell.array + np.outer([0, 0, 1], 3 * atoms.cell.array[0]), scale_atoms=False
    )
    assert np.array_equal(assign_layers(sheared), atoms.arrays["layer"])
    skew = atoms.copy()
    skew.set_cell(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]]) @ atoms.cell.array, scale_atoms=False)
    assert np.array_equal(assign_layers(skew), atoms.arrays["layer"])


def test_three_dimensional_crystals_are_one_layer():
    diamond = bulk("C", "diamond", a=3.567, cubic=True)
    assert not assign_layers(diamond).any()
    assert select_intralayer(diamond, *find_all_edges(diamond, 5.0)).all()


def test_molecules_are_numbered_by_height():
    atoms = molecule("H2O", cell=[10, 10, 20], pbc=True)
    other = atoms.copy()
    atoms.positions += [0, 0, 12]
    other.positions += [0, 0, 5]
    assert assign_layers(atoms + other).tolist() == [1, 1, 1, 0, 0, 0]


def test_supplied_layers_win_and_are_checked():
    atoms = build_graphene("AB")
    atoms.set_array("layer", np.array([1.0, 1.0, 0.0, 0.0]))
    assert get_layers(atoms).tolist() == [1, 1, 0, 0]
    for wrong in ([0, 0, 2, 2], [-1, -1, 0, 0], [0.5, 0.5, 1.0, 1.0], [1, 1, 1, 1]):
        atoms.arrays["layer"] = np.array(wrong)
        with pytest.raises(StructureError, match="one integer per atom, 0…n−1 without gaps"):
            get_layers(atoms)


def test_structures_without_atoms_or_cell_are_refused():
    with pytest.raises(StructureError, match="no atoms"):
        assign_layers(Atoms(cell=np.eye(3), pbc=True))
    with pytest.raises(StructureError, match=r"a cell of rank 2; .*vacuum"):
        assign_layers(Atoms("C", cell=[2.46, 2.46, 0.0], pbc=[True, True, False]))
    with pytest.raises(StructureError, match="positions that are not finite"):
        assign_layers(Atoms("C", positions=[[np.nan, 0, 0]], cell=np.eye(3), pbc=True))


@pytest.mark.parametrize(
    "atoms",
    [build_graphene("AB"), build_supercell(build_graphene("ABC"), [2, 2, 1]), build_mos2(2, 12.3)],
)
def test_intralayer_edges_are_those_of_equal_layers(atoms):
    edges, shifts = find_all_edges(atoms, 6.0)
    layer = get_layers(atoms)
    assert np.array_equal(
        select_intralayer(atoms, edges, shifts), layer[edges[0]] == layer[edges[1]]
    )


def test_one_layer_per_cell_still_has_neighbours_in_the_next_layer():
    atoms = build_graphene("A", height=3.35)
    edges, shifts = find_all_edges(atoms, 6.0)
    intralayer = select_intralayer(atoms, edges, shifts)
    assert np.array_equal(intralayer, shifts[:, 2] == 0)
    assert 0 < intralayer.sum() < len(intralayer)
    moved = atoms.copy()
    moved.positions += np.array([[0.0, 0.0, 3.35], [-2.46, 0.0, 0.0]])
    edges, shifts = find_all_edges(moved, 6.0)
    vectors = moved.positions[edges[0]] + shifts @ moved.cell.array - moved.positions[edges[1]]
    assert np.array_equal(select_intralayer(moved, edges, shifts), np.abs(vectors[:, 2]) < 1e-9)


def test_one_thick_layer_per_cell():
    atoms = build_mos2(1, 6.15)
    edges, shifts = find_all_edges(atoms, 6.0)
    assert np.array_equal(select_intralayer(atoms, edges, shifts), shifts[:, 2] == 0)
