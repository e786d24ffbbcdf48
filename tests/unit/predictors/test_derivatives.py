"""Derivatives of H and S.

Forward mode against finite differences, sum rule, covariance, and the fallback for other models.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from electron_models import BASIS as MODEL_BASIS
from electron_models import CUTOFFS as MODEL_CUTOFFS
from electron_models import bilayer, build_model, build_smooth_predictor, orbital_rotation
from scipy.spatial.transform import Rotation
from toy_models import ToyElectron, build_honeycomb

from mlepi.errors import DataError, PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.overlaps import compute_overlap_blocks
from mlepi.predictors import (
    DifferentiableModel,
    ElectronPredictor,
    compute_derivatives,
    compute_second_derivatives,
)
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

# three networks of different kinds, and one whose blocks are read from self-loops with the norm of
# the whole structure
MODELS = ("hedgenet_late", "mace_hamiltonian", "deeph", "deeph_e3_exact", "structure_norm")


@pytest.fixture(scope="module")
def predictor():
    return build_smooth_predictor()


class Numerical:
    """The same matrices without their derivatives."""

    def __init__(self, predictor):
        self.hamiltonian, self.overlap = predictor.hamiltonian, predictor.overlap


def directions(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4, 3))


@pytest.mark.parametrize("name", MODELS)
def test_first_derivatives_are_limits_of_differences(name):
    predictor = build_smooth_predictor(name)
    atoms, moves = bilayer(), directions(2)
    exact = predictor.derivatives(atoms, moves)
    # Richardson: the error of central differences is even in the step
    coarse, fine = (
        compute_derivatives(Numerical(predictor), atoms, moves, step=step) for step in (2e-4, 1e-4)
    )
    for part in ("hamiltonian", "overlap"):
        found, rough, better = (getattr(result, part) for result in (exact, coarse, fine))
        expected = (4.0 * better.values - rough.values) / 3.0
        np.testing.assert_array_equal(found.edge_index, better.edge_index)
        np.testing.assert_array_equal(found.edge_cell_shift, better.edge_cell_shift)
        np.testing.assert_allclose(
            found.values, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )
    assert exact.method == "forward-mode differentiation"
    assert fine.method == "central differences of 0.0001 Å"


@pytest.mark.parametrize("name", MODELS[:3])
def test_second_derivatives_are_differences_of_first_ones(name):
    predictor = build_smooth_predictor(name)
    atoms, first, second = bilayer(), directions(1), directions(1, seed=1)
    exact = predictor.second_derivatives(atoms, first, second)
    assert exact.ket_overlap is None
    results = {}
    for n in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions += n * 2e-4 * second[0]
        results[n] = predictor.derivatives(moved, first)
    for part in ("hamiltonian", "overlap"):
        values = {n: getattr(result, part).values for n, result in results.items()}
        expected = (8.0 * (values[1] - values[-1]) - values[2] + values[-2]) / (12 * 2e-4)
        # splines have third derivatives that jump
        np.testing.assert_allclose(
            getattr(exact, part).values, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )
    swapped = predictor.second_derivatives(atoms, second, first)
    np.testing.assert_allclose(
        swapped.hamiltonian.values, exact.hamiltonian.values, rtol=0, atol=1e-9
    )


def test_a_rigid_shift_changes_no_block(predictor):
    rigid = np.tile(np.eye(3)[:, None], (1, 4, 1))
    shift = predictor.derivatives(bilayer(), rigid)
    for part in (shift.hamiltonian, shift.overlap):
        assert np.abs(part.values).max() < 1e-9
    assert (
        np.abs(
            predictor.derivatives(
                bilayer(), rigid[:, :1] * np.eye(4)[0][None, :, None]
            ).hamiltonian.values
        ).max()
        > 1e-2
    )
    # the orbital on the right alone does move
    assert np.abs(shift.ket_overlap.values).max() > 1e-2


def test_ket_and_bra_share_the_derivative_of_the_overlap(predictor):
    """⟨∂φ_i|φ_j⟩ = ⟨φ_j|∂φ_i⟩ᵀ, on-site blocks included, where the two cancel."""
    moves = directions(1)
    result = predictor.derivatives(bilayer(), moves)
    keys = {
        (int(j), int(i), *map(int, r)): n
        for n, (j, i, r) in enumerate(
            zip(*result.overlap.edge_index, result.overlap.edge_cell_shift, strict=True)
        )
    }
    reverse = [keys[i, j, -a, -b, -c] for j, i, a, b, c in keys]
    ket = result.ket_overlap.values[0]
    np.testing.assert_allclose(
        ket + ket[reverse].swapaxes(1, 2), result.overlap.values[0], atol=1e-12
    )
    assert np.abs(ket[:4]).max() > 0.05


def test_derivatives_turn_with_the_structure(predictor):
    """D(R)ᵀ ∂H(Rx; Ru) D(R) = ∂H(x; u)."""
    rotation = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    atoms, moves = bilayer(), directions(1)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T
    first = predictor.derivatives(atoms, moves).hamiltonian
    second = predictor.derivatives(turned, moves @ rotation.T).hamiltonian
    np.testing.assert_array_equal(first.edge_index, second.edge_index)
    matrices = {int(z): orbital_rotation(int(z), rotation) for z in set(atoms.numbers)}
    left = np.array([matrices[int(atoms.numbers[i])] for i in first.edge_index[1]])
    right = np.array([matrices[int(atoms.numbers[j])] for j in first.edge_index[0]])
    expected = left @ first.values[0] @ right.swapaxes(1, 2)
    np.testing.assert_allclose(
        second.values[0], expected, rtol=0, atol=1e-8 * np.abs(expected).max()
    )


def test_compiled_kernels_are_left_alone(predictor):
    model, table = build_model("hedgenet_late"), predictor.overlap_table
    other = ElectronPredictor(model, basis=MODEL_BASIS, cutoffs=MODEL_CUTOFFS, overlap_table=table)
    before = other.derivatives(bilayer(), directions(1)).hamiltonian.values
    other.compile_kernels()
    np.testing.assert_array_equal(
        other.derivatives(bilayer(), directions(1)).hamiltonian.values, before
    )
    assert not any(
        parameter.requires_grad for parameter in other.network("cpu", "float64").parameters()
    )
    assert torch.is_grad_enabled()


def test_an_overlap_table_is_needed():
    bare = ElectronPredictor(build_model("hedgenet_late"), basis=MODEL_BASIS, cutoffs=MODEL_CUTOFFS)
    with pytest.raises(DataError, match="electron checkpoint: got no overlap table"):
        bare.derivatives(bilayer(), directions(1))


def test_other_models_are_differentiated_by_differences():
    """H = −2.7 exp(1.42 − d): derivatives known by hand."""
    atoms = build_honeycomb().repeat((3, 3, 1))
    model = ToyElectron()
    assert not isinstance(model, DifferentiableModel)
    moves = np.zeros((1, len(atoms), 3))
    moves[0, 0, 0] = 1.0
    result = compute_derivatives(model, atoms, moves, step=1e-3)
    source, target = result.hamiltonian.edge_index
    vectors = (
        atoms.positions[source]
        + result.hamiltonian.edge_cell_shift @ atoms.cell.array
        - atoms.positions[target]
    )
    lengths = np.linalg.norm(vectors, axis=1)
    bonded = lengths > 0
    stretch = np.zeros(len(lengths))
    stretch[bonded] = (
        vectors[bonded, 0] / lengths[bonded] * (1.0 * (source == 0) - 1.0 * (target == 0))[bonded]
    )
    expected = 2.7 * np.exp(1.42 - lengths) * stretch
    np.testing.assert_allclose(result.hamiltonian.values[0, :, 0, 0], expected, atol=2e-6)
    np.testing.assert_allclose(result.overlap.values[0, :, 0, 0], -expected / 27.0, atol=2e-7)
    ket = np.where((source == 0) & (target != 0), -expected / 27.0, 0.0)
    np.testing.assert_allclose(result.ket_overlap.values[0, :, 0, 0], ket, atol=2e-7)
    # along one bond direction twice: d'' of the exponential, and the change of its direction
    second = compute_second_derivatives(model, atoms, moves, moves, step=2e-3)
    cosine = np.divide(vectors[:, 0], lengths, out=np.zeros_like(lengths), where=bonded)
    touched = bonded & ((source == 0) | (target == 0))
    curvature = (
        -2.7
        * np.exp(1.42 - lengths)
        * (cosine**2 - (1 - cosine**2) / np.where(bonded, lengths, 1.0))
    )
    np.testing.assert_allclose(
        second.hamiltonian.values[0, :, 0, 0], np.where(touched, curvature, 0.0), atol=5e-5
    )
    assert second.method == "central differences of 0.002 Å"
    both = np.zeros((1, len(atoms), 3))
    both[0, :2, 0] = 1.0
    assert compute_derivatives(model, atoms, both).ket_overlap is None


def moves_of_each_atom(atoms):
    """One atom along one direction at a time."""
    moves = np.zeros((3, len(atoms), 3))
    moves[0, 0, 0] = moves[1, 1, 1] = 1.0
    moves[2, 3] = [0.5, -0.3, 0.8]
    return moves


class Tabulated(Numerical):
    """A model without derivatives of its own that has the table of its overlaps."""

    def __init__(self, predictor):
        super().__init__(predictor)
        self.overlap_table = predictor.overlap_table


class AnyDistance(Numerical):
    """One that evaluates overlaps however close atoms are."""

    def __init__(self, predictor):
        self.hamiltonian, self.plain = predictor.hamiltonian, predictor.overlap
        self.table = predictor.overlap_table

    def overlap(self, atoms):
        if len(atoms) > 2:
            return self.plain(atoms)
        index, vectors = np.array([[0, 1, 1, 0], [0, 1, 0, 1]]), np.zeros((4, 3))
        vectors[2] = atoms.positions[1] - atoms.positions[0]
        vectors[3] = -vectors[2]
        size = MODEL_BASIS.max_orbitals
        blocks = compute_overlap_blocks(self.table, atoms.numbers, index, vectors, size)
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        return BlockMatrix(numbers, MODEL_BASIS, index, np.zeros((4, 3), dtype=np.int64), blocks)


def own_slopes(predictor, element, step=1e-4):
    """⟨φ|∂φ⟩ on one atom by differences of the table: (3, p, p), 1/Å."""
    vectors = step * np.concatenate([np.eye(3), -np.eye(3)])
    blocks = compute_overlap_blocks(
        predictor.overlap_table,
        np.array([element]),
        np.zeros((2, 6), dtype=np.int64),
        vectors,
        MODEL_BASIS.max_orbitals,
    )
    return (blocks[:3] - blocks[3:]) / (2.0 * step)


@pytest.mark.parametrize(
    ("model", "atol"), [(Tabulated, 1e-12), (Numerical, 1e-12), (AnyDistance, 1e-4)]
)
def test_orbitals_that_move_on_their_own_atom_are_differentiated_too(predictor, model, atol):
    """From the model's table, that of the model whose method it lends, or a copy of the atom."""
    atoms = bilayer()
    moves = moves_of_each_atom(atoms)
    exact = predictor.derivatives(atoms, moves)
    found = compute_derivatives(model(predictor), atoms, moves, step=1e-3)
    np.testing.assert_array_equal(found.ket_overlap.edge_index, exact.ket_overlap.edge_index)
    own = slice(len(atoms))  # on-site blocks come first
    assert np.abs(exact.ket_overlap.values[:, own]).max() > 0.05
    np.testing.assert_allclose(
        found.ket_overlap.values[:, own], exact.ket_overlap.values[:, own], atol=atol
    )
    source, target = exact.ket_overlap.edge_index
    apart = source != target  # images of an atom move with it in so small a cell
    np.testing.assert_allclose(
        found.ket_overlap.values[:, apart], exact.ket_overlap.values[:, apart], atol=1e-3
    )
    slopes = own_slopes(predictor, int(atoms.numbers[3]))
    np.testing.assert_allclose(
        found.ket_overlap.values[2, 3],
        np.tensordot(moves[2, 3], slopes, axes=1),
        atol=max(atol, 1e-6),
    )


class Refusing(AnyDistance):
    """One that refuses atoms so close."""

    def overlap(self, atoms):
        return self.plain(atoms)


class WithoutOrbitals(AnyDistance):
    """Overlaps that do not go to the on-site block: there are no orbitals behind the numbers."""

    def overlap(self, atoms):
        found = super().overlap(atoms)
        return replace(found, blocks=found.blocks * (2.0 if len(atoms) == 2 else 1.0))


def test_slopes_of_orbitals_that_do_not_exist_are_not_known(predictor):
    moves = moves_of_each_atom(bilayer())
    for model in (WithoutOrbitals, Refusing):
        assert compute_derivatives(model(predictor), bilayer(), moves[:1]).ket_overlap is None


def test_orbitals_without_overlap_have_no_slopes():
    atoms = build_graphene("monolayer").repeat((2, 2, 1))
    moves = np.zeros((1, len(atoms), 3))
    moves[0, 0, 0] = 1.0
    for orbitals in ("s", "sp"):
        found = compute_derivatives(TightBinding(orbitals=orbitals), atoms, moves)
        np.testing.assert_array_equal(found.ket_overlap.values, 0.0)


def test_blocks_that_appear_at_once_are_refused():
    atoms = build_honeycomb(a=3.46)  # neighbours at 1.998 Å, just inside the hard cutoff of 2 Å
    atoms = atoms.repeat((2, 2, 1))
    atoms.positions[0, 0] += 0.05
    moves = np.zeros((1, len(atoms), 3))
    moves[0, 0, 0] = 1.0
    with pytest.raises(
        PhysicsError, match=r"derivatives by differences: got a block of .* Use a smaller step"
    ):
        compute_derivatives(ToyElectron(), atoms, moves, step=0.2)
