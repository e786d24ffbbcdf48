"""Sites of displaced supercells in any order."""

import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import StructureError
from mlepi.physics.bands.supercell_sites import average_sites, find_sites
from mlepi.structures import build_graphene

REPEATS = (3, 3, 1)


def shuffle(supercell, amplitude=0.2):
    rng = np.random.default_rng(0)
    order = rng.permutation(len(supercell))
    moved = supercell[order]
    moved.positions += rng.uniform(-amplitude, amplitude, moved.positions.shape)
    moved.wrap()  # whatever crosses the boundary comes back on the other side
    return moved, order


def check_sites(supercell, repeats, n_sites):
    moved, order = shuffle(supercell)
    found = find_sites(moved, repeats)
    assert found.supercell == repeats
    # atoms of one site are those that were of one site before, numbered anew
    pairs = set(zip(found.primitive_atoms.tolist(), (order % n_sites).tolist(), strict=True))
    assert len(pairs) == n_sites
    return moved, found


def test_sites_are_found_in_any_order_of_displaced_atoms():
    moved, _ = check_sites(build_graphene("AB").repeat(REPEATS), REPEATS, 4)
    with pytest.raises(StructureError, match=r"got \d+ different sites among 36 atoms"):
        find_sites(moved, (2, 2, 1))


def test_atoms_above_each_other_in_one_layer_are_two_sites():
    """As the sulphur atoms of MoS2; and a crystal that repeats along all vectors."""
    positions = [[0, 0, 3], [1.58, 0.91, 4.56], [1.58, 0.91, 1.44]]
    cell = [[3.16, 0, 0], [1.58, 2.7366, 0], [0, 0, 12]]
    atoms = Atoms("MoS2", positions=positions, cell=cell, pbc=True)
    check_sites(atoms.repeat((3, 2, 2)), (3, 2, 2), 3)


def test_the_mean_of_the_images_is_the_primitive_cell():
    primitive = build_graphene("AB")
    moved, _ = shuffle(primitive.repeat(REPEATS), 0.0)
    mean = average_sites(moved, find_sites(moved, REPEATS))
    np.testing.assert_allclose(mean.cell.array, primitive.cell.array, atol=1e-12)
    assert sorted(mean.arrays["layer"]) == [0, 0, 1, 1]
    for atom in mean:
        differences = primitive.positions - atom.position
        steps = np.linalg.solve(primitive.cell.array.T, differences.T).T
        off = np.linalg.norm((steps - np.rint(steps)) @ primitive.cell.array, axis=1)
        assert off.min() < 1e-9
