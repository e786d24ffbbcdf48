"""Tight binding fitted to its own levels must find itself."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.fit import fit_tight_binding
from mlepi.structures import build_graphene

BOND = 2.46 / np.sqrt(3.0)


def displaced_levels(stacking, intralayer, interlayer, n_levels):
    atoms = build_graphene(stacking=stacking)
    model = TightBinding(
        orbitals="s", intralayer={"sss": intralayer}, interlayer={"sss": interlayer}
    )
    rng = np.random.default_rng(0)
    kpoints = np.array([[0.0, 0.0, 0.0], [0.1, 0.05, 0.0]])
    structures, levels = [], []
    for _ in range(3):
        structure = atoms.repeat((3, 3, 1))
        structure.positions += rng.normal(0.0, 0.04, (len(structure), 3))
        middle = len(structure) // 2
        part = (middle - n_levels // 2, middle + n_levels // 2 - 1)
        h = model.hamiltonian(structure).dense_many(kpoints)
        s = model.overlap(structure).dense_many(kpoints)
        structures.append(structure)
        # every structure with a zero of its own
        levels.append(solve_bands(h, s, subset=part) + rng.normal())
    return structures, kpoints, np.array(levels)


@pytest.mark.parametrize(("stacking", "n_levels"), [("monolayer", 4), ("AB", 8)])
def test_parameters_are_recovered(stacking, n_levels):
    structures, kpoints, levels = displaced_levels(stacking, (-2.9, 2.8), (0.33, 6.5), n_levels)
    fit = fit_tight_binding(structures, kpoints, levels, BOND, 3.35)
    assert fit.rms < 1e-6
    np.testing.assert_allclose(fit.intralayer, (-2.9, 2.8), rtol=1e-4)
    if stacking == "AB":
        np.testing.assert_allclose(fit.interlayer, (0.33, 6.5), rtol=1e-3)
    np.testing.assert_allclose(fit.found, fit.wanted, atol=1e-5)
    assert TightBinding(**fit.arguments()).intralayer["sss"] == pytest.approx((-2.9, 2.8), rel=1e-4)


def test_too_few_levels_are_refused():
    structures, kpoints, levels = displaced_levels("monolayer", (-2.7, 3.4), (0.4, 7.0), 4)
    for wrong in (levels[:, :, :2], levels[:, :, :3]):
        with pytest.raises(PhysicsError, match="an even number between 4 and the number of atoms"):
            fit_tight_binding(structures, kpoints, wrong, BOND, 3.35)
