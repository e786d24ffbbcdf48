"""Debye–Waller sums from few directions, and second derivatives summed over the cells."""

import numpy as np
import pytest
from toy_models import HoneycombSprings
from toys import honeycomb, tight_binding

from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.coupling.mode_interpolation import covariance_rows
from mlepi.physics.coupling.second_order import (
    RANK_TOLERANCE,
    Bands,
    factor_covariance,
    half_cell_sum,
    sum_debye_waller,
)
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble

SUPERCELL = (2, 2, 1)
TEMPERATURES = (0.0, 300.0)


@pytest.fixture(scope="module")
def ensemble():
    atoms = honeycomb()
    atoms.positions[:, 2] += 6.0
    force_constants = compute_force_constants(atoms, HoneycombSprings(), SUPERCELL)
    return HarmonicEnsemble(compute_modes(force_constants), TEMPERATURES)


def test_few_directions_hold_the_covariance(ensemble):
    rows = covariance_rows(ensemble, SUPERCELL)
    factors = factor_covariance([ensemble, ensemble], SUPERCELL)
    assert len(factors) == rows.shape[1] == 6
    for coordinate, factor in enumerate(factors):
        exact = np.concatenate([rows[:, coordinate], rows[:, coordinate]])
        found = np.tensordot(factor.weights, factor.directions, axes=1)
        assert len(factor.directions) <= len(TEMPERATURES)
        np.testing.assert_allclose(
            found, exact, rtol=0, atol=2 * RANK_TOLERANCE * np.abs(exact).max()
        )


def test_debye_waller_is_the_contraction_with_the_covariance(ensemble):
    """With second derivatives that are diagonal in the bands the sum can be written down."""
    rng = np.random.default_rng(0)
    curvatures = rng.normal(size=(6, 8, 3, 2))  # ∂²E/∂u_c∂u_b of two bands
    bands = Bands(np.zeros((1, 3)), np.array([[-1.0, 2.0]]), np.eye(2, dtype=complex)[None])

    def derivatives(coordinate, direction):
        energies = np.tensordot(direction, curvatures[coordinate], axes=2)
        return np.diag(energies).astype(complex)[None], np.zeros((1, 2, 2), dtype=complex)

    factors = factor_covariance([ensemble], SUPERCELL)
    [found] = sum_debye_waller(bands, factors, derivatives, 1)
    expected = np.einsum("tcax,caxb->tb", covariance_rows(ensemble, SUPERCELL), curvatures)
    assert found.shape == (2, 1, 2)
    np.testing.assert_allclose(
        found[:, 0], expected, rtol=0, atol=10 * RANK_TOLERANCE * np.abs(expected).max()
    )


def test_half_cell_sum_is_half_the_sum_over_the_bloch_sums():
    primitive, kpoint = honeycomb(), np.array([0.1, 0.3, 0.0])
    atom_map, atoms = cell_major_map(2, SUPERCELL), primitive.repeat(SUPERCELL)
    edge_index, shifts, h, _, _ = tight_binding(atoms)
    _, _, blocks, _, _ = tight_binding(primitive)
    edges, own_shifts, *_ = tight_binding(primitive)
    counts = np.ones(2, dtype=int)
    single = cell_major_map(2, (1, 1, 1))
    [found] = half_cell_sum(atom_map, edge_index, shifts, h, counts, kpoint[None])
    [cell] = half_cell_sum(single, edges, own_shifts, blocks, counts, kpoint[None])
    np.testing.assert_allclose(found, 4 * cell, atol=1e-12)
