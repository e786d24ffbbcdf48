"""Structures drawn for labelling: supercells of every shape, and the right thermal amplitudes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.structures.builders import build_graphene

SCRIPT = Path(__file__).parents[3] / "data" / "blg_openmx" / "draw_shapes.py"
HEXAGONAL = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("draw_shapes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def phonons():
    return compute_force_constants(build_graphene("AB"), HoneycombSprings(), (3, 3, 1))


def test_every_shape_is_new_wide_enough_and_not_a_square_of_the_tests(script):
    shapes = script.list_shapes(HEXAGONAL)
    sizes = [abs(round(np.linalg.det(shape))) for shape in shapes]
    assert len(shapes) > 60
    assert set(sizes) == set(script.SIZES)
    for shape in shapes:
        lengths = np.linalg.norm(np.array(shape) @ HEXAGONAL, axis=1)
        assert lengths.min() >= script.SHORTEST_ROW
    lattices = {canonical(shape) for shape in shapes}
    assert len(lattices) == len(shapes)
    assert canonical(((3, 0), (0, 3))) not in lattices
    assert canonical(((4, 0), (0, 4))) not in lattices


def canonical(shape):
    """Return the Hermite normal form, equal for equal lattices."""
    (a, b), (c, d) = np.array(shape).tolist()
    while c:
        a, b, c, d = c, d, a - (a // c) * c, b - (a // c) * d
    if a < 0:
        a, b = -a, -b
    d = abs(d)
    return a, b % d, d


def test_displacements_have_the_covariance_of_the_harmonic_ensemble(script, phonons):
    ensemble = HarmonicEnsemble(compute_modes(phonons), (300.0,), imaginary="error")
    expected = ensemble.covariance()[0]
    size = len(expected)
    units = np.eye(size).reshape(size, 9, 12)
    root = np.array([script.displace(phonons, ((3, 0), (0, 3)), 300.0, z) for z in units])
    got = root.reshape(size, size).T @ root.reshape(size, size)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(got), np.linalg.eigvalsh(expected), atol=1e-9, rtol=1e-6
    )


def test_one_lattice_has_one_covariance_whatever_its_rows(script, phonons):
    def spectrum(shape):
        units = np.eye(108).reshape(108, 9, 12)
        root = np.array([script.displace(phonons, shape, 300.0, z) for z in units])
        return np.linalg.svd(root.reshape(108, 108), compute_uv=False)

    np.testing.assert_allclose(spectrum(((3, 0), (0, 3))), spectrum(((3, 0), (3, 3))), atol=1e-9)
