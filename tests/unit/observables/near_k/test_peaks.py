"""Edges of bands, names of k-points, and the zero of energy of a matrix."""

import numpy as np
import pytest
from shifted_samples import raise_energies
from toy_ensembles import toy_ensemble
from toys import honeycomb

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables.near_k.peaks import PeakSettings, find_edges, mean_potential, name_points


def test_mean_potential_follows_a_rigid_shift():
    _, h, s = toy_ensemble(0.0, overlap=0.1).equilibrium
    raised = raise_energies(h, s, 0.3)
    assert mean_potential(raised, s) - mean_potential(h, s) == pytest.approx(0.3)


def test_edges_of_a_gapped_honeycomb_lie_at_its_corner():
    equilibrium = toy_ensemble(0.0, bilayer=False, overlap=0.0, stagger=0.25).equilibrium
    edges = find_edges(equilibrium, [6, 6, 1], {6: 1})
    np.testing.assert_allclose(np.abs(edges), [[1 / 3, 1 / 3, 0.0]], atol=1e-12)
    with pytest.raises(PhysicsError, match="an even number"):
        find_edges(equilibrium, [6, 6, 1], {6: 1.5})


def test_points_are_named_or_given():
    found = name_points(honeycomb(), ["Γ", "M", [0.1, 0.2, 0.0]], "stage.gap.kpoints")
    np.testing.assert_allclose(found[[0, 2]], [[0, 0, 0], [0.1, 0.2, 0.0]])
    np.testing.assert_allclose(np.mod(2 * found[1], 1.0), 0.0, atol=1e-12)
    with pytest.raises(ConfigError, match=r"stage\.gap\.kpoints: got 'W'; expected Γ, M, K, K'"):
        name_points(honeycomb(), ["W"], "stage.gap.kpoints")


def test_energies_of_a_window_hold_its_middle_and_both_ends():
    peaks = PeakSettings("gap", {6: 1}, 0.5, 0.01, 0.05, "none", 20)
    assert peaks.energies[50] == 0.0
    np.testing.assert_allclose(peaks.energies[[0, -1]], [-0.5, 0.5])
