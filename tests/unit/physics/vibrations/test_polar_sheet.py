"""The long-range part of the phonons of a polar sheet, against a sum over point charges."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.vibrations.polar_sheet import compute_polar_term
from mlepi.units import COULOMB

CELL = 2.504 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
AREA = float(np.linalg.det(CELL))
MASSES = np.array([10.81, 14.007])
CHARGE = 2.7
CHARGES = CHARGE * np.array([np.eye(3), -np.eye(3)])


def sum_point_charges(q, n=1200):
    """Return D_xx − D_yy (eV/Å²) of a charge and its images, for a wave along x."""
    i = np.arange(-n, n + 1)
    x, y = np.moveaxis(np.stack(np.meshgrid(i, i), axis=-1) @ CELL, -1, 0)
    distance = np.hypot(x, y)
    inside = (distance > 0.0) & (distance < n * AREA / 2.504)
    x, y, distance = x[inside], y[inside], distance[inside]
    coupling = -COULOMB * CHARGE**2 * 3.0 * (x**2 - y**2) / distance**5
    return float((coupling * np.cos(q * x)).sum())


@pytest.mark.parametrize("q", [0.02, 0.05])
def test_bare_point_charges_split_linearly(q):
    found = compute_polar_term(np.array([[q, 0.0, 0.0]]), CHARGES, MASSES, AREA, 0.0)[0]
    split = MASSES[0] * (found[0, 0] - found[1, 1])
    assert split == pytest.approx(sum_point_charges(q), rel=0.7 * q)  # q² of the lattice


def test_the_long_range_part_acts_on_longitudinal_waves_alone():
    waves = np.array([[0.0, 0.0, 0.0], [0.01, 0.0, 0.0], [0.02, 0.0, 0.0], [0.0, 0.5, 0.0]])
    bare, screened = (
        compute_polar_term(waves, CHARGES, MASSES, AREA, length) for length in (0.0, 7.6)
    )
    assert not bare[0].any()
    assert np.allclose(bare[2], 2.0 * bare[1])
    assert np.allclose(screened * (1.0 + 7.6 * np.linalg.norm(waves, axis=1))[:, None, None], bare)
    for q, term in zip(waves[1:], screened[1:], strict=True):
        values, vectors = np.linalg.eigh(term)
        optical = np.kron(1.0 / np.sqrt(MASSES) * [1, -1], q / np.linalg.norm(q))
        assert np.abs(values[:-1]).max() < 1e-12
        assert abs(vectors[:, -1] @ optical) == pytest.approx(np.linalg.norm(optical))
        translation = np.kron(np.sqrt(MASSES), np.eye(3)[0])
        assert np.abs(term @ translation).max() < 1e-12  # charges of a cell are neutral
    with pytest.raises(PhysicsError, match=r"polar sheet: got an area of -1\.0"):
        compute_polar_term(waves, CHARGES, MASSES, -1.0, 0.0)
