"""Levels, weights and slopes of single supercells against full diagonalisation."""

from __future__ import annotations

import numpy as np
import pytest
from real_supercells import REAL_SUPERCELL, real_supercell
from toy_ensembles import toy_ensemble

from mlepi.observables.near_k import unfold_sample as module
from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.physics.bands.lattice import to_fractional
from mlepi.physics.bands.state_slopes import state_velocity_matrix
from mlepi.physics.eigenstates import window_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline import SampleKey
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND


@pytest.mark.parametrize("distances", [(0.0, 0.05), (0.0, 0.03, 0.06, 0.09, 0.13)])
def test_real_bilayer_agrees_with_full_diagonalisation(distances):
    atoms, primitive, h, s = real_supercell()
    reference = build_near_k(atoms, *primitive, REAL_SUPERCELL, distances, {6: 4})
    assert 7.5e5 < fit_velocity(reference) < 9.5e5
    result = unfold_sample(reference, h, s, 1.2)
    for number, kpoint in enumerate(reference.solved):
        values = solve_bands(h.dense(kpoint), s.dense(kpoint)) - reference.centre
        first, levels = int(result["first"][number]), result["levels"][number]
        levels = levels[np.isfinite(levels)]
        np.testing.assert_allclose(levels, values[first : first + len(levels)], atol=5e-5)
        assert values[first - 1] < -1.2
        assert values[first + len(levels)] > 1.2
    assert np.all(result["weights"] <= 4 + 1e-9)


def fit_velocity(reference):
    """Slope of the low conduction band between 0 and 0.05 Å⁻¹ is no velocity yet.

    The split-off bands carry it, hence γ₁ + E.
    """
    outer = reference.eigenvalues[:, 9] - reference.eigenvalues[:, 6]
    k = np.abs(reference.distances)
    gap = outer[k == 0][0]
    return (
        np.mean(np.sqrt((outer[k > 0] / 2) ** 2 - (gap / 2) * (outer[k > 0] / 2)) / k[k > 0])
        * EV_ANGSTROM_TO_METRE_PER_SECOND
    )


def test_slopes_are_the_derivatives_of_the_bands():
    """Of the undisplaced crystal along the line, and of the own bands of a displaced supercell."""
    ensemble = toy_ensemble(0.03)
    atoms, h, s = ensemble.equilibrium
    reference = build_near_k(atoms, h, s, ensemble.supercell, (0.02, 0.05, 0.1), {6: 1})
    step = to_fractional(1e-5 * reference.direction, atoms.cell.array)
    beyond, before = (
        solve_bands(h.dense_many(reference.kpoints + x), s.dense_many(reference.kpoints + x))
        for x in (step, -step)
    )
    np.testing.assert_allclose(reference.slopes, (beyond - before) / 2e-5, atol=1e-6)

    (sample,) = ensemble.predict([SampleKey(0, 300.0)])
    h, s = sample.hamiltonian, sample.overlap
    derivatives = (
        h.lay_out_derivatives(reference.cell, direction=reference.direction)[0],
        s.lay_out_derivatives(reference.cell, direction=reference.direction)[0],
    )
    kpoint, step = reference.solved[1], to_fractional(1e-5 * reference.direction, reference.cell)
    values, vectors = solve_bands(h.dense(kpoint), s.dense(kpoint), vectors=True)
    matrix = state_velocity_matrix(values, vectors, kpoint, derivatives)
    beyond, before = (solve_bands(h.dense(kpoint + x), s.dense(kpoint + x)) for x in (step, -step))
    np.testing.assert_allclose(np.diag(matrix).real, (beyond - before) / 2e-5, atol=1e-6)


def test_slopes_at_rest_are_those_of_the_primitive_cell():
    """Also in the degenerate levels of an undisplaced supercell."""
    ensemble = toy_ensemble(0.0)
    reference = build_near_k(*ensemble.equilibrium, ensemble.supercell, (0.05, 0.1), {6: 1})
    assert reference.reversed_.any()
    (sample,) = ensemble.predict([SampleKey(0, 0.0)])
    result = unfold_sample(reference, sample.hamiltonian, sample.overlap, 1.5, moving=range(4))
    np.testing.assert_allclose(result["slopes"].sum(axis=2), reference.slopes, atol=1e-6)


def test_a_device_gives_what_a_processor_gives(monkeypatch):
    atoms, primitive, h, s = real_supercell()
    reference = build_near_k(atoms, *primitive, REAL_SUPERCELL, (0.0, 0.03, 0.06, 0.09), {6: 4})
    followed = unfold_sample(reference, h, s, 1.2)

    def together(sequence, layouts, centre, window, device):
        return window_states.solve_points_together(sequence, layouts, centre, window, device)

    monkeypatch.setattr(module, "solve_points", together)
    other = unfold_sample(reference, h, s, 1.2)
    np.testing.assert_array_equal(other["first"], followed["first"])
    np.testing.assert_allclose(other["levels"], followed["levels"], atol=5e-5)
    np.testing.assert_allclose(
        other["weights"].sum(axis=2), followed["weights"].sum(axis=2), atol=2e-3
    )
