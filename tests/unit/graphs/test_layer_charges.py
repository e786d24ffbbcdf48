"""Electrons of layers on a mesh: response by finite differences, self-consistent toys, input."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.graphs.layer_charges import (
    add_layer_potentials,
    count_layer_charges,
    plane_interaction,
    screened_potentials,
)
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

MODEL = TightBinding(orthogonal=False)
TEMPERATURE = 600.0


def make_stack(stacking="AB", repeat=2, seed=3, amplitude=0.06):
    """A displaced stack: H, S, the layers and the atoms."""
    atoms = build_graphene(stacking).repeat((repeat, repeat, 1))
    atoms.positions += amplitude * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return MODEL.hamiltonian(atoms), MODEL.overlap(atoms), atoms.arrays["layer"], atoms


def count(hamiltonian, overlap, layers, mesh):
    return count_layer_charges(hamiltonian, overlap, layers, mesh, len(layers) * 4.0, TEMPERATURE)


@pytest.mark.parametrize("stacking", ["AB", "ABA"])
def test_the_response_is_that_of_finite_differences(stacking):
    hamiltonian, overlap, layers, _ = make_stack(stacking, repeat=1)
    found, step = count(hamiltonian, overlap, layers, (4, 3, 1)), 1e-4
    n_layers = layers.max() + 1
    assert found.electrons.sum() == pytest.approx(4.0 * len(layers), rel=1e-10)
    np.testing.assert_allclose(found.response.sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(found.response.sum(axis=1), 0.0, atol=1e-9)
    for layer in range(n_layers):
        unit = step * np.eye(n_layers)[layer]
        up, down = (
            count(
                add_layer_potentials(hamiltonian, overlap, layers, sign * unit),
                overlap,
                layers,
                (4, 3, 1),
            )
            for sign in (1.0, -1.0)
        )
        slope = (up.electrons - down.electrons) / (2.0 * step)
        np.testing.assert_allclose(found.response[:, layer], slope, rtol=1e-4, atol=1e-6)


def test_what_a_mesh_lacks_of_self_consistency_on_a_dense_one():
    """A bilayer whose charged planes act on it, iterated to self-consistency on both meshes."""
    plain, overlap, layers, atoms = make_stack()
    interaction = plane_interaction(atoms, layers)
    neutral = 4.0 * np.array([np.sum(layers == 0), np.sum(layers == 1)])

    def iterate(mesh):
        potentials = np.zeros(2)
        for _ in range(60):
            matrix = add_layer_potentials(plain, overlap, layers, potentials)
            charges = count(matrix, overlap, layers, mesh)
            # Newton's step with the response of the mesh
            new = interaction @ (charges.electrons - neutral)
            rest = new - potentials
            potentials = potentials + np.linalg.solve(
                np.eye(2) - interaction @ charges.response, rest
            )
            if np.abs(np.diff(rest)).max() < 1e-10:
                break
        return potentials - potentials.mean(), matrix, charges

    coarse, matrix, on_mesh = iterate((2, 2, 1))
    dense, _, _ = iterate((8, 8, 1))
    on_dense = count(matrix, overlap, layers, (8, 8, 1))
    found = screened_potentials(interaction, on_mesh, on_dense)
    wanted = dense - coarse
    assert np.abs(np.diff(wanted))[0] > 1e-3  # 1 meV: there is something to find
    np.testing.assert_allclose(found, wanted, rtol=0.02)
    # planes that answer nothing would be charged several times as much
    bare = interaction @ (on_dense.electrons - on_mesh.electrons)
    assert np.abs(np.diff(bare))[0] > 1.5 * np.abs(np.diff(wanted))[0]


def test_planes_are_a_capacitor():
    """e²d/ε₀A between two layers: 181 V/Å per electron and Å², whatever the cell is called."""
    atoms = build_graphene("AB", spacing=3.35)
    interaction = plane_interaction(atoms, atoms.arrays["layer"])
    area = np.linalg.norm(np.cross(*atoms.cell.array[:2]))
    difference = (interaction @ np.array([1.0, -1.0])) @ np.array([1.0, -1.0])
    assert difference == pytest.approx(180.9513 * 3.35 / area, rel=1e-5)
    turned = atoms.copy()
    turned.rotate(90, "x", rotate_cell=True)
    np.testing.assert_allclose(plane_interaction(turned, atoms.arrays["layer"]), interaction)


def test_a_mesh_without_sense_and_a_singular_overlap_are_refused():
    hamiltonian, overlap, layers, _ = make_stack(repeat=1)
    with pytest.raises(PhysicsError, match="temperature"):
        count_layer_charges(hamiltonian, overlap, layers, (2, 2, 1), 16.0, 0.0)
    singular = type(overlap)(
        overlap.numbers, overlap.basis, overlap.edge_index, overlap.edge_cell_shift, -overlap.blocks
    )
    with pytest.raises(PhysicsError, match="positive definite"):
        count(hamiltonian, singular, layers, (1, 1, 1))
