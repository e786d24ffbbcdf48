"""Graphene stacks, twisted bilayers, supercells and random distortions."""

from __future__ import annotations

import numpy as np
import pytest
import vesin

from mlepi.errors import StructureError
from mlepi.structures import (
    assign_layers,
    build_boron_nitride,
    build_graphene,
    build_graphene_on_boron_nitride,
    build_molybdenum_disulphide,
    build_supercell,
    build_twisted_bilayer,
    perturb_structure,
)

BOND = 2.46 / np.sqrt(3.0)


def bond_lengths(atoms):
    neighbours = vesin.NeighborList(cutoff=1.8, full_list=True)
    return neighbours.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="iDd"
    )


def twist_angle(m, r):
    """Return degrees.

    Lopes dos Santos, Peres, Castro Neto (2012), doi:10.1103/PhysRevB.86.155449, Eq. 2.
    """
    n = 3 * m * m + 3 * m * r
    return np.degrees(np.arccos((n + r * r / 2.0) / (n + r * r)))


def lateral_neighbours(atoms):
    """Count upper atoms straight above a lower one."""
    lower, upper = (atoms.get_scaled_positions()[atoms.arrays["layer"] == k, :2] for k in (0, 1))
    difference = upper[None] - lower[:, None]
    return int((np.abs(difference - np.rint(difference)).max(axis=-1) < 1e-9).sum())


@pytest.mark.parametrize(("stacking", "above"), [("AA", 2), ("AB", 1), ("BC", 1), ("SP", 0)])
def test_registry_of_bilayers(stacking, above):
    atoms = build_graphene(stacking, spacing=3.4)
    assert lateral_neighbours(atoms) == above
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(3.4)
    assert atoms.positions[:, 2].mean() == pytest.approx(9.0)
    assert atoms.pbc.all()
    i, _, d = bond_lengths(atoms)
    assert np.bincount(i).tolist() == [3] * 4
    assert np.allclose(d, BOND)


def test_slide_starts_from_the_stacking():
    slid = build_graphene("AB", slide=(-1 / 3, -1 / 3))
    assert np.allclose(slid.positions, build_graphene("AA").positions)
    saddle = build_graphene("AB", slide=(1 / 6, 1 / 6))
    assert np.allclose(saddle.positions, build_graphene("SP").positions)
    triple = build_graphene("ABA", slide=(0.1, 0.2))
    moved = triple.positions - build_graphene("ABA").positions
    assert np.allclose(moved[:4], 0.0)
    assert np.allclose(moved[4:], 0.1 * triple.cell[0] + 0.2 * triple.cell[1])


def test_abc_and_aba_differ_in_the_third_layer_only():
    aba, abc = build_graphene("ABA"), build_graphene("ABC")
    assert np.allclose(aba.positions[:4], abc.positions[:4])
    assert np.allclose(aba.positions[4:, :2], aba.positions[:2, :2])
    assert not np.allclose(abc.positions[4:, :2], abc.positions[:2, :2])


def test_boron_nitride_has_boron_over_nitrogen():
    atoms = build_boron_nitride("AA'B")
    assert str(atoms.symbols) == "BN2B2N"
    assert np.allclose(atoms.positions[:2, :2], atoms.positions[2:4, :2])
    assert np.allclose(np.diff(atoms.positions[::2, 2]), 3.33)
    i, j, d = (vesin.NeighborList(cutoff=1.8, full_list=True)).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijd"
    )
    assert (atoms.numbers[i] != atoms.numbers[j]).all()
    assert np.allclose(d, 2.504 / np.sqrt(3.0))
    for stacking in ("", "AX", "'A", "A''"):
        with pytest.raises(StructureError, match="build_boron_nitride, stacking"):
            build_boron_nitride(stacking)


def test_graphene_lies_on_boron_nitride_as_it_is_said():
    """What is below and above the atoms of the other layer, seen along c."""
    fractions = {}
    for registry in "ABC":
        atoms = build_graphene_on_boron_nitride(registry)
        assert str(atoms.symbols) == "BNC2"
        assert atoms.arrays["layer"].tolist() == assign_layers(atoms).tolist() == [0, 0, 1, 1]
        fractions[registry] = np.round(3.0 * atoms.get_scaled_positions()[:, 0]).astype(int) % 3
    boron, nitrogen, middle = 0, 1, 2
    carbon = {registry: set(found[2:].tolist()) for registry, found in fractions.items()}
    assert all(found[:2].tolist() == [boron, nitrogen] for found in fractions.values())
    assert carbon == {"A": {boron, nitrogen}, "B": {nitrogen, middle}, "C": {boron, middle}}
    assert atoms.cell.lengths()[0] == pytest.approx(2.482)
    with pytest.raises(StructureError, match="build_graphene_on_boron_nitride, registry"):
        build_graphene_on_boron_nitride("AB")


def test_molybdenum_disulphide_is_a_stack_of_prisms():
    atoms = build_molybdenum_disulphide("AA'B")
    assert str(atoms.symbols) == "MoS2MoS2MoS2"
    assert atoms.arrays["layer"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.array_equal(assign_layers(atoms), atoms.arrays["layer"])
    bond = np.hypot(3.16 / np.sqrt(3.0), 1.563)
    i, j, d = (vesin.NeighborList(cutoff=3.0, full_list=True)).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijd"
    )
    assert np.allclose(d, bond)
    assert (atoms.numbers[i] != atoms.numbers[j]).all()
    assert np.bincount(i).tolist() == [6, 3, 3] * 3
    # both S of an Mo lie over each other: a prism, not an octahedron
    assert np.allclose(atoms.positions[1::3, :2], atoms.positions[2::3, :2])
    assert np.allclose(np.diff(atoms.positions[::3, 2]), 6.15)
    assert atoms.positions[:, 2].mean() == pytest.approx(12.0)


@pytest.mark.parametrize(("stacking", "inverted", "over"), [("AA'", True, 2), ("AB", False, 1)])
def test_bilayers_of_molybdenum_disulphide(stacking, inverted, over):
    """2H has an inversion centre and both Mo over S; 3R has none and one Mo over S."""
    atoms = build_molybdenum_disulphide(stacking)
    scaled = atoms.get_scaled_positions() - 0.5
    metal, sulphur = (scaled[atoms.numbers == z, :2] for z in (42, 16))
    across = np.array([metal[0] - sulphur[2], metal[1] - sulphur[0]])
    assert int((np.abs(across - np.rint(across)).max(axis=1) < 1e-9).sum()) == over
    middle = 0.5 * (atoms.positions[0] + atoms.positions[3])
    mirrored = atoms.copy()
    mirrored.positions = 2.0 * middle - atoms.positions
    shift = mirrored.get_scaled_positions()[:, None] - atoms.get_scaled_positions()[None]
    meets = np.abs(shift - np.rint(shift)).max(axis=-1) < 1e-9
    meets &= atoms.numbers[:, None] == atoms.numbers[None]
    assert bool(meets.any(axis=1).all()) is inverted


def test_impossible_layers_of_molybdenum_disulphide_are_refused():
    with pytest.raises(StructureError, match="build_molybdenum_disulphide, stacking: got '2H'"):
        build_molybdenum_disulphide("2H")
    with pytest.raises(StructureError, match=r"thickness: got 7\.0 Å; expected more than 0"):
        build_molybdenum_disulphide(thickness=7.0)
    with pytest.raises(StructureError, match=r"2 layers at 6\.15 Å in a cell of 9\.0 Å"):
        build_molybdenum_disulphide(height=9.0)


def test_wrong_stackings_are_refused():
    for stacking in ("ABX", "", "ab"):
        with pytest.raises(StructureError, match="build_graphene, stacking"):
            build_graphene(stacking)
    with pytest.raises(StructureError, match=r"3 layers at 3.35 Å in a cell of 5.0 Å"):
        build_graphene("ABA", height=5.0)


@pytest.mark.parametrize(
    ("m", "r", "n_atoms", "angle"),
    [
        (1, 1, 28, 21.787),
        (1, 2, 52, 32.204),
        (1, 3, 28, 38.213),
        (2, 3, 52, 27.796),
        (5, 6, 268, 24.433),
        (30, 1, 11164, 1.085),
    ],
)
def test_twisted_bilayers(m, r, n_atoms, angle):
    atoms = build_twisted_bilayer(m, r)
    assert len(atoms) == n_atoms
    layer = atoms.arrays["layer"]
    assert np.bincount(layer).tolist() == [n_atoms // 2, n_atoms // 2]
    i, vectors, d = bond_lengths(atoms)
    assert (np.bincount(i) == 3).all()
    assert np.allclose(d, BOND, atol=1e-9)
    # bonds of one sublattice point along three directions 120° apart: their angle modulo 60° tells
    # the twist
    directions = [
        np.degrees(np.arctan2(v[:, 1], v[:, 0]))
        for v in (vectors[layer[i] == 0], vectors[layer[i] == 1])
    ]
    turned = (directions[1][0] - directions[0][0]) % 60.0
    expected = twist_angle(m, r)
    assert expected == pytest.approx(angle, abs=1e-3)
    assert min(abs(turned - a % 60.0) for a in (expected, -expected)) < 1e-6
    assert all(np.allclose((d - d[0] + 1.0) % 60.0, 1.0, atol=1e-6) for d in directions)


def test_twist_about_an_atom_of_aa():
    atoms = build_twisted_bilayer(2, 1)
    assert lateral_neighbours(atoms) >= 1


def test_wrong_twists_are_refused():
    for m, r in ((0, 1), (2, 2), (3, -1)):
        with pytest.raises(StructureError, match="positive integers without a common divisor"):
            build_twisted_bilayer(m, r)


def test_supercell_is_cell_major_and_keeps_layers():
    atoms = build_graphene("AB")
    supercell = build_supercell(atoms, [2, 3, 1])
    assert len(supercell) == 24
    assert np.allclose(supercell.positions[:4], atoms.positions)
    assert np.allclose(supercell.positions[4:8], atoms.positions + atoms.cell[1])
    assert supercell.arrays["layer"].tolist() == [0, 0, 1, 1] * 6
    assert "layer" in atoms.arrays


def test_supercell_along_c_has_more_layers():
    graphite = build_supercell(build_graphene("AB", height=6.7), [2, 2, 3])
    layer = graphite.arrays["layer"]
    assert np.bincount(layer).tolist() == [8] * 6
    heights = [graphite.positions[layer == k, 2].mean() for k in range(6)]
    assert np.allclose(np.diff(heights), 3.35)


def test_supercell_of_given_layers_keeps_them():
    atoms = build_graphene("AB")
    atoms.set_array("layer", np.array([1, 1, 0, 0]))
    assert build_supercell(atoms, [2, 1, 1]).arrays["layer"].tolist() == [1, 1, 0, 0] * 2


@pytest.mark.parametrize("repeats", [[1, 1], [0, 1, 1], [1.5, 1, 1]])
def test_wrong_repeats_are_refused(repeats):
    with pytest.raises(StructureError, match="three positive integers"):
        build_supercell(build_graphene(), repeats)


def test_no_amplitude_no_change_and_input_is_untouched():
    atoms = build_supercell(build_graphene("AB"), [3, 3, 1])
    before = atoms.copy()
    same = perturb_structure(atoms, np.random.default_rng(0))
    assert np.allclose(same.positions, before.positions)
    perturb_structure(atoms, np.random.default_rng(0), 0.1, 0.1, 1.0, 0.2, 0.02)
    assert np.array_equal(atoms.positions, before.positions)
    assert np.array_equal(atoms.cell.array, before.cell.array)


def test_seed_decides_and_amplitude_scales():
    atoms = build_supercell(build_graphene("AB"), [3, 3, 1])
    one, again, double = (
        perturb_structure(atoms, np.random.default_rng(3), in_plane=a, out_of_plane=2 * a).positions
        - atoms.positions
        for a in (0.01, 0.01, 0.02)
    )
    assert np.array_equal(one, again)
    assert np.allclose(2 * one, double)


def test_gaussian_widths_in_and_out_of_plane():
    # 6400 atoms: the width is known to 1 %
    atoms = build_supercell(build_graphene("AB"), [40, 40, 1])
    u = (
        perturb_structure(
            atoms, np.random.default_rng(1), in_plane=0.02, out_of_plane=0.07
        ).positions
        - atoms.positions
    )
    assert np.allclose(u.std(axis=0), [0.02, 0.02, 0.07], rtol=0.05)
    assert np.abs(u.mean(axis=0)).max() < 5 * 0.07 / 80


def test_layers_move_rigidly():
    atoms = build_supercell(build_graphene("ABA"), [2, 2, 1])
    u = (
        perturb_structure(atoms, np.random.default_rng(2), slide=0.5, spacing_change=0.3).positions
        - atoms.positions
    )
    layer = atoms.arrays["layer"]
    assert np.allclose(u[layer == 0], 0.0)
    for k in (1, 2):
        assert np.allclose(u[layer == k], u[layer == k][0])
        fraction = np.linalg.solve(atoms.cell.array.T, u[layer == k][0])
        assert (fraction[:2] >= 0).all()
        assert (fraction[:2] < 0.5).all()
    lifts = [u[layer == k][0, 2] for k in (0, 1, 2)]
    assert (np.abs(np.diff(lifts)) <= 0.3).all()
    assert (np.abs(np.diff(lifts)) > 0).all()


def test_strain_is_in_plane_symmetric_and_bounded():
    atoms = build_graphene("AB")
    for seed in range(10):
        strained = perturb_structure(atoms, np.random.default_rng(seed), strain=0.02)
        gradient = np.linalg.solve(atoms.cell.array, strained.cell.array) - np.eye(3)
        assert np.allclose(gradient, gradient.T)
        assert np.abs(gradient).max() <= 0.02
        assert np.allclose(gradient[2], 0.0)
        assert np.allclose(strained.get_scaled_positions(), atoms.get_scaled_positions())


def test_plane_follows_the_cell():
    atoms = build_supercell(build_graphene("AB"), [5, 5, 1])
    rotated = atoms.copy()
    rotated.rotate(90, "x", rotate_cell=True)
    a, b = (
        perturb_structure(s, np.random.default_rng(0), 0.01, 0.1, 0.3, 0.1, 0.01)
        for s in (atoms, rotated)
    )
    b.rotate(-90, "x", rotate_cell=True)
    assert np.allclose(a.positions, b.positions)
    assert np.allclose(a.cell.array, b.cell.array)


def test_negative_amplitudes_are_refused():
    with pytest.raises(StructureError, match="perturb_structure: got amplitudes"):
        perturb_structure(build_graphene(), np.random.default_rng(0), in_plane=-0.1)
