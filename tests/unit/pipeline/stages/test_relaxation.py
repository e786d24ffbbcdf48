"""Relaxation with the heights of the layers held, on springs whose minimum is known."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline_records import structure_record
from toy_models import build_honeycomb
from toy_pipelines import execute, make_run, toy_source

from mlepi.pipeline.stages.structure.figure import list_facts
from mlepi.pipeline.stages.structure.relaxation import (
    LayerHeights,
    find_normal,
    measure_forces,
    measure_spacings,
    relax_structure,
)
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

LIMIT = 1e-5


def relax(atoms, spacing=3.35, **settings):
    options = {"in_plane_cell": True, "max_force": LIMIT, "max_steps": 300, "hold_layers": True}
    return relax_structure(atoms, HoneycombSprings(spacing=spacing), **{**options, **settings})


def test_layers_stay_and_all_else_finds_its_minimum():
    """Springs at rest at 2.46 and 3.15 Å, held at 3.35: AB layers pull with 10 k_h Δh per cell."""
    atoms = build_graphene("AB", 2.47, 3.35)
    atoms.positions += np.random.default_rng(2).normal(scale=0.02, size=atoms.positions.shape)
    heights = atoms.positions[:, 2].copy()
    relax(atoms, spacing=3.15)
    np.testing.assert_allclose(np.linalg.norm(atoms.cell.array[:2], axis=1), 2.46, atol=1e-3)
    before, after = (
        [z[atoms.arrays["layer"] == number].mean() for number in (0, 1)]
        for z in (heights, atoms.positions[:, 2])
    )
    np.testing.assert_allclose(after, before, atol=1e-10)
    np.testing.assert_allclose(np.ptp(atoms.positions[:2, 2]), 0.0, atol=2e-3)
    assert atoms.constraints == []
    left = measure_forces(atoms)
    assert left.residual_force < LIMIT
    assert left.layer_forces.sum() == pytest.approx(0.0, abs=1e-10)
    energies = []
    for step in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[moved.arrays["layer"] == 1, 2] += step
        moved.calc = HoneycombSprings(spacing=3.15)
        energies.append(moved.get_potential_energy())
    pull = -(energies[0] - energies[1]) / 2e-4 / 2
    assert left.layer_forces[1] == pytest.approx(pull, rel=1e-5)
    assert left.layer_forces[1] < -0.01
    assert left.max_force == pytest.approx(abs(left.layer_forces[1]), rel=0.2)
    # in the plane the strain is at rest to what the optimiser calls converged: force per strain
    area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))
    assert np.abs(left.in_plane_stress).max() < 4 * LIMIT / area * 2


def test_layer_forces_balance_in_a_trilayer():
    atoms = build_graphene("ABA", 2.46, 3.45)
    atoms.positions[atoms.arrays["layer"] == 1, 2] += 0.05
    relax(atoms)
    left = measure_forces(atoms)
    np.testing.assert_allclose(measure_spacings(atoms), [3.50, 3.40], atol=1e-8)
    assert left.layer_forces.sum() == pytest.approx(0.0, abs=1e-10)
    assert left.layer_forces[0] > -left.layer_forces[2] > 0.0
    assert left.residual_force < LIMIT


def test_a_structure_at_rest_does_not_move():
    atoms = build_graphene("AB", 2.46, 3.35)
    before = atoms.copy()
    assert relax(atoms) == 0
    np.testing.assert_array_equal(atoms.positions, before.positions)
    np.testing.assert_array_equal(atoms.cell.array, before.cell.array)
    left = measure_forces(atoms)
    assert left.max_force < 1e-10
    assert np.abs(left.layer_forces).max() < 1e-12
    assert np.abs(left.in_plane_stress).max() < 1e-12


def test_relaxing_again_does_not_move():
    atoms = build_graphene("AB", 2.47, 3.35)
    relax(atoms, spacing=3.15)
    before = atoms.positions.copy()
    assert relax(atoms, spacing=3.15) == 0
    np.testing.assert_array_equal(atoms.positions, before)


def test_without_holding_the_spacing_goes_to_its_minimum():
    atoms = build_graphene("AB", 2.46, 3.25)
    relax(atoms, hold_layers=False)
    np.testing.assert_allclose(measure_spacings(atoms), 3.35, atol=1e-3)


def test_constraint_takes_only_the_mean_along_the_normal():
    atoms = build_graphene("AB")
    atoms.rotate(30, "x", rotate_cell=True)
    held = LayerHeights(atoms.arrays["layer"], find_normal(atoms))
    random = np.random.default_rng(0).normal(size=(4, 3))
    new = atoms.positions + random
    held.adjust_positions(atoms, new)
    moved, normal = new - atoms.positions, find_normal(atoms)
    assert normal @ [0, 0, 1] == pytest.approx(np.cos(np.pi / 6))
    for number in (0, 1):
        at = atoms.arrays["layer"] == number
        assert (moved[at] @ normal).mean() == pytest.approx(0.0, abs=1e-14)
        along = np.outer(moved[at] @ normal - random[at] @ normal, normal)
        np.testing.assert_allclose(moved[at] - random[at], along, atol=1e-14)
    forces = random.copy()
    held.adjust_forces(atoms, forces)
    np.testing.assert_allclose(forces, moved, atol=1e-14)
    assert held.copy().get_removed_dof(atoms) == 2


def test_stress_is_given_along_the_first_lattice_vector():
    """Uniaxial strain along a: the same stress whatever the direction of the lattice."""
    found = []
    for angle in (0.0, 30.0):
        atoms = build_graphene("AB")
        atoms.set_cell(atoms.cell.array * [1.01, 1.0, 1.0], scale_atoms=True)
        atoms.rotate(angle, "z", rotate_cell=True)
        atoms.calc = HoneycombSprings()
        found.append(measure_forces(atoms).in_plane_stress)
    np.testing.assert_allclose(found[0], found[1], atol=1e-10)
    assert found[0][0] > found[0][1]
    assert found[0][0] > 0.0


def test_stage_records_what_is_left(tmp_path):
    settings = {"relax": "positions_and_cell", "hold_layers": True}
    source = toy_source("structure", "build_honeycomb", a=2.52)
    run = make_run(tmp_path, structure=source, structure_settings=settings)
    text = execute(run, ["structure"])
    assert "layers held against" in text
    record = run.read("structure")
    assert record.held_layers
    assert record.residual_force < 1e-3
    assert record.layer_forces == pytest.approx([0.0], abs=1e-10)
    assert record.in_plane_stress.shape == (3,)
    np.testing.assert_allclose(
        record.atoms.positions[:, 2], build_honeycomb().positions[:, 2], atol=1e-10
    )
    names = [name for name, _ in list_facts(record)]
    assert "out-of-plane force on a layer, which holds the spacing" in names
    other = make_run(
        tmp_path, structure=source, structure_settings={**settings, "hold_layers": False}
    )
    assert "unchanged" not in execute(other, ["structure"])


def test_records_without_these_numbers_are_shown_as_before():
    names = [name for name, _ in list_facts(structure_record())]
    assert names == ["structure", "lattice", "largest force on an atom"]
