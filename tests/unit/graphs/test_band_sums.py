"""Sums over occupied bands: their density matrices, supercells, metals and refused input."""

import numpy as np
import pytest
from scipy.linalg import eigvalsh
from scipy.special import entr

from mlepi.errors import PhysicsError
from mlepi.graphs.band_sums import sum_bands
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

MODEL = TightBinding(orthogonal=False)
TEMPERATURE = 2000.0


def contract(density, matrix):
    """Return Σ Tr[P(R)ᵀ M(R)] for matrices on the same edges."""
    np.testing.assert_array_equal(density.edge_index, matrix.edge_index)
    np.testing.assert_array_equal(density.edge_cell_shift, matrix.edge_cell_shift)
    return (density.blocks * matrix.blocks).sum()


def sheet(repeat=1):
    atoms = build_graphene("A").repeat((repeat, repeat, 1))
    atoms.positions[:, 2] += 0.1 * np.sin(np.arange(len(atoms)) % 2)
    return atoms


def matrices(atoms):
    return MODEL.hamiltonian(atoms), MODEL.overlap(atoms)


def test_densities_return_the_energy_and_the_electrons():
    hamiltonian, overlap = matrices(sheet())
    bands = sum_bands(hamiltonian, overlap, (5, 4, 1), 8, TEMPERATURE)
    assert contract(bands.density, hamiltonian) == pytest.approx(bands.energy, rel=1e-12)
    assert contract(bands.energy_density, overlap) == pytest.approx(bands.energy, rel=1e-12)
    assert contract(bands.density, overlap) == pytest.approx(8.0, rel=1e-10)


def test_no_filled_band_is_left_out_however_hot_the_electrons():
    hamiltonian, overlap = matrices(sheet(3))
    bands = sum_bands(hamiltonian, overlap, (1, 1, 1), 72, 50000.0)
    assert contract(bands.density, overlap) == pytest.approx(72.0, rel=1e-10)
    assert contract(bands.density, hamiltonian) == pytest.approx(bands.energy, rel=1e-10)


def test_a_finer_mesh_is_a_larger_cell():
    small, large = (
        sum_bands(*matrices(sheet(repeat)), mesh, 8 * repeat**2, TEMPERATURE)
        for repeat, mesh in ((1, (6, 6, 1)), (3, (2, 2, 1)))
    )
    assert large.energy / 9 == pytest.approx(small.energy, rel=1e-11)
    assert large.fermi_energy == pytest.approx(small.fermi_energy, abs=1e-8)


def test_the_density_is_the_slope_of_the_free_energy():
    """At fixed electrons dF = Σ Tr[Pᵀ ∂H − Wᵀ ∂S], whatever the occupations."""
    hamiltonian, overlap = matrices(sheet())
    rng = np.random.default_rng(3)
    changes = [rng.normal(size=m.blocks.shape) for m in (hamiltonian, overlap)]
    changes = [
        BlockMatrix(m.numbers, m.basis, m.edge_index, m.edge_cell_shift, change).symmetrised()
        for m, change in zip((hamiltonian, overlap), changes, strict=True)
    ]
    mesh, hot = (3, 3, 1), 20000.0

    def free_energy(step):
        moved = [
            BlockMatrix(m.numbers, m.basis, m.edge_index, m.edge_cell_shift, m.blocks + step * c)
            for m, c in zip((hamiltonian, overlap), (c.blocks for c in changes), strict=True)
        ]
        bands = sum_bands(*moved, mesh, 8, hot)
        return bands.energy - _heat(moved, mesh, bands.fermi_energy, hot)

    step = 1e-5
    slope = (free_energy(step) - free_energy(-step)) / (2 * step)
    bands = sum_bands(hamiltonian, overlap, mesh, 8, hot)
    expected = contract(bands.density, changes[0]) - contract(bands.energy_density, changes[1])
    assert slope == pytest.approx(expected, rel=1e-7)


def _heat(pair, mesh, fermi, temperature):
    """Return T·S of the electrons, from every k-point of the mesh one by one."""
    thermal = 8.617333262e-5 * temperature
    points = [(i / mesh[0], j / mesh[1], 0.0) for i in range(mesh[0]) for j in range(mesh[1])]
    levels = np.array([eigvalsh(pair[0].dense(k), pair[1].dense(k)) for k in points])
    filling = 1.0 / (1.0 + np.exp((levels - fermi) / thermal))
    return 2.0 * thermal * (entr(filling) + entr(1.0 - filling)).sum() / len(points)


def test_an_overlap_that_is_not_positive_is_refused():
    hamiltonian, overlap = matrices(sheet())
    negative = BlockMatrix(
        overlap.numbers,
        overlap.basis,
        overlap.edge_index,
        overlap.edge_cell_shift,
        -overlap.blocks,
    )
    with pytest.raises(PhysicsError, match=r"overlap at k = \[0\.0, 0\.0, 0\.0\].*positive"):
        sum_bands(hamiltonian, negative, (2, 2, 1), 8, TEMPERATURE)
