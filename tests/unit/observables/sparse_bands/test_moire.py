"""What the AA and AB bilayers say about a twisted one, and which cells are one moiré period."""

import math

import numpy as np
import pytest

from mlepi.errors import StructureError
from mlepi.observables.sparse_bands.moire import compare_with_continuum, measure_lattice
from mlepi.physics.bands import lattice
from mlepi.pipeline.sources import Source
from mlepi.structures import build_graphene, build_twisted_bilayer


@pytest.mark.parametrize(
    "structure",
    [
        {"_target_": "mlepi.structures.build_graphene", "stacking": "AB"},
        {"_target_": "mlepi.structures.build_twisted_bilayer", "m": 1, "r": 2},
    ],
)
def test_no_moire_period_no_continuum_model(structure):
    atoms = Source("structure", structure).build()
    path = lattice.build_k_path(
        lattice.hexagonal_points(atoms.cell.array), "KΓ", atoms.cell.array, 1.0
    )
    with pytest.raises(
        StructureError, match=r"graphene cells per layer; expected 3m² \+ 3m \+ 1 with m ≥ 1"
    ):
        compare_with_continuum(atoms, np.array([3.35]), None, path, {6: 1}, (5.8, 0.1, 0.1))


def test_lattice_and_twist_of_a_cell():
    lattice_constant, twist = measure_lattice(build_twisted_bilayer(5, 1))
    assert lattice_constant == pytest.approx(2.46)
    assert math.cos(math.radians(twist)) == pytest.approx((3 * 25 + 15 + 0.5) / (3 * 25 + 15 + 1))
    with pytest.raises(
        StructureError,
        match=r"twisted bilayer: got 1 layers, 2 atoms; expected two layers of equal size",
    ):
        measure_lattice(build_graphene("monolayer"))
