"""Block matrices: dense = sparse = plain loops, orbital orders, Hermiticity, bands, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from hamiltonian_samples import real_sample, slater_koster_sample
from toys import honeycomb, tight_binding

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices, compute_bands
from mlepi.physics.bands.velocity_matrices import derivatives_at
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure

KPOINTS = np.array([[0.0, 0.0, 0.0], [0.31, -0.17, 0.0], [0.5, 0.25, 0.1]])


def matrices_of(sample) -> tuple[BlockMatrix, BlockMatrix]:
    """H and S of a sample, permuted by hand from OpenMX order (p: x, y, z → y, z, x)."""
    basis = OrbitalBasis(
        {z: tuple(ls) for z, ls in sample.shells.items()}, sample.radii, sample.pao
    )
    order = {0: [0], 1: [1, 2, 0], 2: [2, 4, 0, 3, 1]}
    permutation = {}
    for z, shells in sample.shells.items():
        starts = np.cumsum([0, *(2 * l + 1 for l in shells)])
        permutation[z] = np.concatenate(
            [start + np.array(order[l]) for start, l in zip(starts, shells, strict=False)]
        )
    blocks = np.zeros((2, len(sample.pairs), basis.max_orbitals, basis.max_orbitals))
    for k, (_, _, _, i, j) in enumerate(sample.pairs):
        rows, columns = permutation[int(sample.numbers[i])], permutation[int(sample.numbers[j])]
        for part, source in enumerate((sample.hamiltonian, sample.overlap)):
            blocks[part, k, : len(rows), : len(columns)] = source[k][rows][:, columns]
    first, second = (
        BlockMatrix(sample.numbers, basis, sample.pairs[:, [4, 3]].T, sample.pairs[:, :3], part)
        for part in blocks
    )
    return first, second


@pytest.fixture(scope="module", params=["real", "slater_koster"])
def sample(request):
    return {"real": real_sample, "slater_koster": slater_koster_sample}[request.param]()


def test_foreign_order_is_that_of_the_file(sample):
    hamiltonian, overlap = matrices_of(sample)
    for kpoint in KPOINTS:
        np.testing.assert_allclose(
            hamiltonian.dense(kpoint, "openmx"),
            sample.dense(sample.hamiltonian, kpoint),
            atol=1e-12,
        )
        np.testing.assert_allclose(
            overlap.dense(kpoint, "openmx"), sample.dense(sample.overlap, kpoint), atol=1e-12
        )


def test_every_form_of_the_bloch_sum_agrees(sample):
    hamiltonian, _ = matrices_of(sample)
    layout = hamiltonian.lay_out()
    many = hamiltonian.dense_many(KPOINTS)
    assert many.shape == (3, hamiltonian.n_orbitals, hamiltonian.n_orbitals)
    for kpoint, matrix in zip(KPOINTS, many, strict=True):
        np.testing.assert_allclose(hamiltonian.dense(kpoint), matrix, atol=1e-13)
        np.testing.assert_allclose(hamiltonian.sparse(kpoint).toarray(), matrix, atol=1e-13)
        np.testing.assert_allclose(layout.at(kpoint), matrix, atol=1e-13)
        np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-6)


def test_derivatives_are_those_of_the_bloch_sum(sample):
    """∂M/∂k along x, y and one direction, in the lattice and in the atomic gauge."""
    hamiltonian, _ = matrices_of(sample)
    cell, kpoint, step = np.asarray(sample.cell), KPOINTS[1], 1e-5
    direction = np.array([0.6, 0.8, 0.0])
    owner = np.repeat(np.arange(len(hamiltonian.numbers)), np.diff(hamiltonian.offsets))
    positions = np.asarray(sample.positions)

    def summed(k, gauge):
        turn = np.exp(1j * (k @ np.linalg.inv(cell).T * 2 * np.pi) @ (gauge * positions[owner]).T)
        return turn.conj()[:, None] * hamiltonian.dense(k) * turn

    def slope(along, gauge):
        moved = cell @ along * step / (2 * np.pi)
        return (summed(kpoint + moved, gauge) - summed(kpoint - moved, gauge)) / (2 * step)

    found = derivatives_at(hamiltonian.lay_out_derivatives(cell), kpoint)
    [along] = derivatives_at(hamiltonian.lay_out_derivatives(cell, direction=direction), kpoint)
    for matrix, axis in zip((*found, along), (*np.eye(3)[:2], direction), strict=True):
        np.testing.assert_allclose(matrix, slope(axis, 0.0), atol=1e-6)
    turn = np.exp(1j * (kpoint @ np.linalg.inv(cell).T * 2 * np.pi) @ positions[owner].T)
    atomic = derivatives_at(hamiltonian.lay_out_derivatives(cell, positions), kpoint)
    [along] = derivatives_at(
        hamiltonian.lay_out_derivatives(cell, positions, direction=direction), kpoint
    )
    for matrix, axis in zip((*atomic, along), (*np.eye(3)[:2], direction), strict=True):
        turned = turn.conj()[:, None] * matrix * turn
        np.testing.assert_allclose(turned, slope(axis, 1.0), atol=1e-6)


def test_bands_do_not_depend_on_the_orbital_order(sample):
    bands = compute_bands(*matrices_of(sample), KPOINTS)
    for kpoint, band in zip(KPOINTS, bands, strict=True):
        np.testing.assert_allclose(band, sample.eigenvalues(kpoint), rtol=0, atol=1e-6)


def test_bands_of_graphene():
    """±t|f(k)|: 3t at Γ, zero at K, t at M."""
    edge_index, shift, blocks, overlaps, _ = tight_binding(honeycomb())
    basis = OrbitalBasis({6: (0,)}, {6: 1.0}, {})
    numbers = np.array([6, 6])
    hamiltonian, overlap = (
        BlockMatrix(numbers, basis, edge_index, shift, b) for b in (blocks, overlaps)
    )
    bands = compute_bands(hamiltonian, overlap, [[0, 0, 0], [1 / 3, 1 / 3, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(bands, [[-8.1, 8.1], [0, 0], [-2.7, 2.7]], atol=1e-9)
    np.testing.assert_allclose(
        compute_bands(hamiltonian, overlap, [0.5, 0, 0]), [[-2.7, 2.7]], atol=1e-9
    )


def test_symmetrised_is_hermitian_exactly_and_keeps_the_mean():
    hamiltonian, _ = matrices_of(slater_koster_sample())
    noise = np.random.default_rng(0).normal(size=hamiltonian.blocks.shape)
    noisy = dataclasses.replace(hamiltonian, blocks=hamiltonian.blocks + noise)
    matrix = noisy.symmetrised()
    edges = np.concatenate([matrix.edge_index.T, matrix.edge_cell_shift], axis=1)
    rows = {tuple(edge): k for k, edge in enumerate(edges.tolist())}
    for (j, i, *r), k in rows.items():
        back = rows[i, j, *(-x for x in r)]
        assert np.array_equal(matrix.blocks[k], matrix.blocks[back].T)
        np.testing.assert_allclose(
            matrix.blocks[k], 0.5 * (noisy.blocks[k] + noisy.blocks[back].T), atol=1e-15
        )
    np.testing.assert_allclose(matrix.symmetrised().blocks, matrix.blocks, atol=0)


def test_offsets_count_the_orbitals_of_every_atom():
    hamiltonian, _ = matrices_of(slater_koster_sample())
    assert hamiltonian.offsets.tolist() == [0, 13, 17, 30]
    assert hamiltonian.n_orbitals == 30


def test_labels_become_two_matrices():
    hamiltonian, overlap = matrices_of(real_sample())
    sample = real_sample()
    labels = LabelledStructure(
        name="slide",
        atoms=Atoms(numbers=sample.numbers, positions=sample.positions, cell=sample.cell, pbc=True),
        basis=hamiltonian.basis,
        edge_index=hamiltonian.edge_index,
        edge_cell_shift=hamiltonian.edge_cell_shift,
        hamiltonian_blocks=hamiltonian.blocks.astype(np.float32),
        overlap_blocks=overlap.blocks.astype(np.float32),
    )
    first, second = block_matrices(labels)
    assert first.blocks.dtype == np.float64
    np.testing.assert_allclose(first.blocks, hamiltonian.blocks, atol=1e-5)
    np.testing.assert_allclose(second.blocks, overlap.blocks, atol=1e-6)
    for missing in (
        "basis",
        "edge_index",
        "edge_cell_shift",
        "hamiltonian_blocks",
        "overlap_blocks",
    ):
        with pytest.raises(
            DataError,
            match="structure 'slide': got no blocks; expected Hamiltonian and overlap blocks",
        ):
            block_matrices(dataclasses.replace(labels, **{missing: None}))


def test_wrong_shapes_are_refused():
    hamiltonian, _ = matrices_of(slater_koster_sample())
    for changes in (
        {"blocks": hamiltonian.blocks[:, :4]},
        {"edge_cell_shift": hamiltonian.edge_cell_shift[:-1]},
    ):
        with pytest.raises(DataError, match=r"BlockMatrix: got shifts .* and blocks .*; expected"):
            dataclasses.replace(hamiltonian, **changes)


def test_bands_of_unrelated_matrices_are_refused():
    hamiltonian, overlap = matrices_of(slater_koster_sample())
    other = dataclasses.replace(overlap, numbers=np.array([6, 6, 1]))
    with pytest.raises(
        DataError,
        match="compute_bands: got a Hamiltonian and an overlap of different atoms or bases",
    ):
        compute_bands(hamiltonian, other, KPOINTS)


def test_unknown_order_is_refused():
    with pytest.raises(DataError, match="orbital order"):
        matrices_of(slater_koster_sample())[0].dense(KPOINTS[0], "cp2k")
