"""Sparse pencils, factorisations, counts and states against dense linear algebra."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.linalg

from mlepi.errors import PhysicsError, StructureError
from mlepi.graphs.neighbours import find_edges
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.eigenstates.sparse import (
    bloch_sum_sparse,
    build_pencil,
    choose_backend,
    choose_factorisation,
    count_states_below,
    factorisation,
    pardiso,
    pencil,
    prove_numbers,
    solve_numbered_states,
)
from mlepi.physics.eigenstates.sparse.pardiso import count_negative_pivots, pivot_probes
from mlepi.physics.eigenstates.sparse.states import NumberedStates
from mlepi.structures import build_twisted_bilayer
from mlepi.structures.labelled_structure import reverse_edges

BACKENDS = [
    pytest.param(
        "pardiso",
        marks=pytest.mark.skipif(find_spec("pypardiso") is None, reason="needs the extra large"),
    ),
    "superlu",
]
KPOINTS = [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (1 / 3, 2 / 3, 0.0), (0.13, -0.27, 0.0)]


@dataclass(frozen=True)
class Blocks:
    edge_index: np.ndarray
    edge_cell_shift: np.ndarray
    blocks: np.ndarray
    offsets: np.ndarray

    def dense(self, kpoint):
        return bloch_sum(
            self.blocks, self.edge_index, self.edge_cell_shift, self.offsets, [kpoint]
        )[0]


def twisted_blocks(m=1, cutoff=4.5, scale=1.0, diagonal=(-3.0, -1.0, 2.0), seed=0):
    """Random symmetric blocks that decay with distance.

    The atoms carry three orbitals and two by turns.
    """
    atoms = build_twisted_bilayer(m, 1)
    edge_index, shift = find_edges(atoms, cutoff)
    vectors = (
        atoms.positions[edge_index[0]] + shift @ atoms.cell.array - atoms.positions[edge_index[1]]
    )
    n, counts = len(atoms), 3 - np.arange(len(atoms)) % 2
    blocks = np.random.default_rng(seed).normal(size=(edge_index.shape[1], 3, 3))
    blocks *= scale * np.exp(1.4 - np.linalg.norm(vectors, axis=1))[:, None, None]
    blocks = 0.5 * (blocks + np.swapaxes(blocks[reverse_edges(edge_index, shift)], 1, 2))
    blocks = np.concatenate([np.tile(np.diag(diagonal), (n, 1, 1)), blocks])
    index = np.concatenate([np.tile(np.arange(n), (2, 1)), edge_index], axis=1)
    exists = np.arange(3) < counts[:, None]
    blocks = blocks * exists[index[1]][:, :, None] * exists[index[0]][:, None, :]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Blocks(index, np.concatenate([np.zeros((n, 3), dtype=np.int64), shift]), blocks, offsets)


@pytest.fixture(scope="module")
def pair():
    return twisted_blocks(m=3), twisted_blocks(
        m=3, cutoff=5.0, scale=0.03, diagonal=(1.0, 1.0, 1.0), seed=1
    )


@pytest.mark.parametrize("kpoint", KPOINTS)
@pytest.mark.parametrize("chunk", [40, 100000])
def test_sparse_sums_equal_dense_ones(pair, kpoint, chunk, monkeypatch):
    monkeypatch.setattr(pencil, "CHUNK", chunk)
    built = build_pencil(*pair, kpoint)
    assert built.is_real == (kpoint in KPOINTS[:2])
    block = np.random.default_rng(2).normal(size=(built.n_orbitals, 3))
    columns = block if built.is_real else block + 1j * block[::-1]
    for matrix, values, multiply in zip(
        pair,
        (built.hamiltonian, built.overlap),
        (built.multiply_hamiltonian, built.multiply_overlap),
        strict=True,
    ):
        dense = matrix.dense(kpoint)
        np.testing.assert_allclose(built.triangle(values).toarray(), np.triu(dense), atol=1e-13)
        np.testing.assert_allclose(multiply(columns), dense @ columns, atol=1e-11)
        full = bloch_sum_sparse(matrix, kpoint)
        assert np.iscomplexobj(full.data) != built.is_real
        np.testing.assert_allclose(full.toarray(), dense, atol=1e-13)
    shifted = built.triangle(built.shifted(0.7)).toarray()
    np.testing.assert_allclose(
        shifted, np.triu(pair[0].dense(kpoint) - 0.7 * pair[1].dense(kpoint)), atol=1e-13
    )
    assert np.all(built.columns[built.starts[:-1]] == np.arange(built.n_orbitals))


def test_vanishing_elements_are_dropped(pair):
    empty = Blocks(
        pair[0].edge_index, pair[0].edge_cell_shift, np.zeros_like(pair[0].blocks), pair[0].offsets
    )
    assert bloch_sum_sparse(empty, KPOINTS[0]).nnz == empty.offsets[-1]


def test_pencil_refuses_what_does_not_fit(pair):
    hamiltonian, overlap = pair
    with pytest.raises(StructureError, match=r"sparse pencil: got H and S of different sizes"):
        build_pencil(hamiltonian, twisted_blocks(m=1), KPOINTS[0])
    cut = Blocks(overlap.edge_index, overlap.edge_cell_shift, overlap.blocks[:-1], overlap.offsets)
    with pytest.raises(StructureError, match=r"\(n_edges, p, p\), one block per edge"):
        build_pencil(hamiltonian, cut, KPOINTS[0])


def test_too_many_elements_are_refused(pair, monkeypatch):
    monkeypatch.setattr(pencil, "MAX_ELEMENTS", 1000)
    with pytest.raises(
        StructureError, match=r"sparse sum: got \d+ elements; expected at most 1000"
    ):
        build_pencil(*pair, KPOINTS[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kpoint", KPOINTS)
def test_counts_and_states(pair, kpoint, backend):
    built, factorise = build_pencil(*pair, kpoint), choose_factorisation(backend)
    exact = scipy.linalg.eigh(pair[0].dense(kpoint), pair[1].dense(kpoint), eigvals_only=True)
    for energy in (
        exact[0] - 1.0,
        *(0.5 * (exact[[9, 40, 80, 150]] + exact[[10, 41, 81, 151]])),
        exact[-1] + 1.0,
    ):
        assert count_states_below(built, energy, factorise) == np.count_nonzero(exact < energy)
    for first, n_states, guess in (
        (60, 10, exact[65] + 1e-3),
        (60, 10, exact[90]),
        (0, 4, exact[3]),
        (100, 6, exact[100]),
    ):
        found = solve_numbered_states(built, first, n_states, guess, factorise)
        np.testing.assert_allclose(found.energies, exact[first : first + n_states], atol=1e-10)
        assert found.residuals.max() < 1e-4
        metric = found.vectors.conj().T @ built.multiply_overlap(found.vectors)
        np.testing.assert_allclose(metric, np.eye(n_states), atol=1e-10)
        low, high = prove_numbers(built, found, factorise)
        assert first < low <= high < first + n_states
        again = solve_numbered_states(built, first, n_states, guess, factorise, start=found.vectors)
        np.testing.assert_allclose(again.energies, found.energies, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_state_is_noticed(pair, backend):
    built, factorise = build_pencil(*pair, KPOINTS[0]), choose_factorisation(backend)
    found = solve_numbered_states(built, 60, 10, -1.0, factorise)
    fewer = NumberedStates(np.delete(found.energies, 5), found.vectors, 60, found.residuals, 1)
    with pytest.raises(PhysicsError, match=r"by the states found. Lower the tolerance"):
        prove_numbers(built, fewer, factorise)


def test_small_pencils_are_diagonalised_densely():
    small = twisted_blocks(m=1), twisted_blocks(m=1, scale=0.03, diagonal=(1.0, 1.0, 1.0), seed=1)
    for kpoint in KPOINTS:
        exact = scipy.linalg.eigh(small[0].dense(kpoint), small[1].dense(kpoint), eigvals_only=True)
        found = solve_numbered_states(build_pencil(*small, kpoint), 20, 8, 0.0, Blind)
        np.testing.assert_allclose(found.energies, exact[20:28], atol=1e-12)


def test_numbers_that_do_not_exist(pair):
    built = build_pencil(*pair, KPOINTS[0])
    with pytest.raises(PhysicsError, match=r"expected numbers from 0 to \d+. Ask for fewer"):
        solve_numbered_states(built, built.n_orbitals - 2, 4, 0.0, choose_factorisation("superlu"))


class Blind:
    n_negative = None

    def __init__(self, pencil, shift):
        pass

    def release(self):
        pass


def test_a_factorisation_that_cannot_count(pair):
    built = build_pencil(*pair, KPOINTS[0])
    with pytest.raises(
        PhysicsError, match=r"no states 60 to 69 near 0.000 eV with 6 factorisations"
    ):
        solve_numbered_states(built, 60, 10, 0.0, Blind)
    with pytest.raises(
        PhysicsError,
        match=r"pivots away from the diagonal; expected a factorisation that gives the inertia",
    ):
        count_states_below(built, 0.0, Blind)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_limit_is_kept(pair, backend):
    built = build_pencil(*pair, KPOINTS[0])
    with pytest.raises(PhysicsError, match=r"GB for the factors; expected at most 0.0 GB"):
        choose_factorisation(backend, 1e-6)(built, 0.0)


def test_superlu_refuses_the_magic_angle_cell_early(pair):
    built = build_pencil(*pair, KPOINTS[0])
    large = pencil.SparsePencil(
        np.zeros(89313, dtype=np.int32), built.columns, built.hamiltonian, built.overlap
    )
    with pytest.raises(
        PhysicsError,
        match=r"SuperLU, 89312 orbitals: got about \d+ GB .* `pip install pypardiso`",
    ):
        choose_factorisation("superlu", 12.0)(large, 0.0)


def test_superlu_on_a_singular_matrix():
    diagonal = Blocks(
        np.zeros((2, 1), dtype=int),
        np.zeros((1, 3), dtype=int),
        np.diag([1.0, 2.0, 3.0])[None],
        np.array([0, 3]),
    )
    unit = Blocks(diagonal.edge_index, diagonal.edge_cell_shift, np.eye(3)[None], diagonal.offsets)
    with pytest.raises(PhysicsError, match=r"The shift is an eigenvalue: move it"):
        choose_factorisation("superlu")(build_pencil(diagonal, unit, KPOINTS[0]), 2.0)


@pytest.mark.parametrize(
    ("code", "words"),
    [(-4, "a zero pivot: the shift is an eigenvalue"), (-2, "not enough memory"), (-9, "error -9")],
)
def test_pardiso_says_what_failed(pair, code, words, monkeypatch):
    def fail(*arguments):
        arguments[15]._obj.value = code

    monkeypatch.setattr(pardiso, "_library", lambda: fail)
    with pytest.raises(
        PhysicsError,
        match=rf"PARDISO, \d+ orbitals: got {words}; expected a factorisation. Move the shift, or",
    ):
        pardiso.PardisoFactors(build_pencil(*pair, KPOINTS[0]), 0.0, 1.0)


@pytest.mark.skipif(find_spec("pypardiso") is None, reason="needs the extra large")
@pytest.mark.parametrize("kpoint", KPOINTS[:1] + KPOINTS[3:])
def test_pardiso_on_an_eigenvalue_neither_counts_nor_solves(pair, kpoint):
    exact = scipy.linalg.eigh(pair[0].dense(kpoint), pair[1].dense(kpoint), eigvals_only=True)
    factors = pardiso.PardisoFactors(build_pencil(*pair, kpoint), float(exact[90]), 1.0)
    assert factors.n_perturbed > 0
    assert factors.n_negative is None
    with pytest.raises(PhysicsError, match=r"a zero pivot: the shift is an eigenvalue"):
        factors.solve(np.ones((len(exact), 2)))
    beside = pardiso.PardisoFactors(build_pencil(*pair, kpoint), float(exact[90]) + 1e-7, 1.0)
    assert beside.n_negative == 91


def test_choice_of_the_backend(monkeypatch):
    with pytest.raises(PhysicsError, match=r"sparse factorisation: got 'mumps'; expected one of"):
        choose_backend("mumps")
    monkeypatch.setattr(factorisation, "pardiso_is_installed", lambda: False)
    assert choose_backend("auto") == "superlu"
    with pytest.raises(PhysicsError, match=r"got no MKL PARDISO; .*`pip install pypardiso`"):
        choose_backend("pardiso")
    monkeypatch.setattr(factorisation, "pardiso_is_installed", lambda: True)
    assert choose_backend("auto") == "pardiso"


def pivots(n=40, seed=0):
    """A random block-diagonal Hermitian matrix with 2×2 blocks on rows that are not neighbours."""
    rng = np.random.default_rng(seed)
    matrix = np.diag(rng.normal(size=n)).astype(complex)
    rows = rng.permutation(n)[: n // 2].reshape(-1, 2)
    for i, j in rows:
        matrix[i, j] = 2.0 * np.exp(1j * rng.uniform(0, 6))
        matrix[j, i] = matrix[i, j].conj()
    return matrix, rows


def test_inertia_from_what_the_inverse_pivots_do_to_four_vectors():
    for seed in range(5):
        matrix, rows = pivots(seed=seed)
        expected = np.count_nonzero(np.linalg.eigvalsh(matrix) < 0)
        assert count_negative_pivots(matrix @ pivot_probes(40)) == expected
        incomplete = matrix.copy()
        incomplete[rows[0].max(), rows[0].min()] = 0.0
        assert count_negative_pivots(incomplete @ pivot_probes(40)) == expected


def test_matrices_without_such_pivots_are_not_counted():
    matrix = pivots()[0]
    full = matrix + np.random.default_rng(1).normal(size=matrix.shape)
    assert count_negative_pivots(full @ pivot_probes(40)) is None
    solution = matrix @ pivot_probes(40)
    solution[3, 3] += 1.0
    assert count_negative_pivots(solution) is None
    chain = np.diag(np.arange(1.0, 41.0)) + np.diag(np.full(39, 2.0), 1)
    assert count_negative_pivots(chain @ pivot_probes(40)) is None
