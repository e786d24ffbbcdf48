"""Errors of site energies by wave vector: exact limits of the transform, and the tables."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mlepi.structures import build_graphene

PATH = Path(__file__).parents[2] / "benchmarks" / "site_energies.py"
SPEC = importlib.util.spec_from_file_location("site_energies_script", PATH)
site_energies = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site_energies)


@pytest.fixture(scope="module")
def bilayer():
    atoms = build_graphene("AB").repeat((6, 4, 1))
    return atoms.positions, (atoms.positions[:, 2] > atoms.positions[:, 2].mean()) * 1, atoms.cell


def test_a_plane_wave_appears_at_its_wave_vector_alone(bilayer):
    positions, layers, cell = bilayer
    wave = 2.0 * np.pi * np.linalg.inv(cell.array) @ np.array([1, 1, 0])
    signs = 1 - 2 * layers
    found = site_energies.transform(
        signs * np.cos(positions @ wave), positions, layers, cell.array, longest=1.5
    )
    at = np.isclose(found.lengths, np.linalg.norm(wave))
    n = len(positions)
    # a cosine is half of +q and half of −q: |ε(q)|² = N/4
    assert found.powers["antiphase"].max() == pytest.approx(n / 4)
    assert at[np.argmax(found.powers["antiphase"])]
    assert np.count_nonzero(found.powers["antiphase"] > 1e-9 * n) == 1
    assert np.nanmax(found.powers["in phase"]) < 1e-9 * n


def test_errors_without_correlation_have_their_variance_at_every_wave(bilayer):
    positions, layers, cell = bilayer
    rng = np.random.default_rng(0)
    found = [
        site_energies.transform(0.01 * rng.normal(size=len(layers)), positions, layers, cell.array)
        for _ in range(200)
    ]
    table = site_energies.bin_waves(found)
    for rows in table.values():
        for _, rms, number in rows:
            # a mean of `number` exponential variables: relative error 1/√number, half for the root
            assert rms == pytest.approx(0.01, rel=4 * 0.5 / np.sqrt(number) + 0.01)
    assert len(table["antiphase"]) == len(table["in phase"]) + 1  # q = 0


def test_one_of_two_opposite_waves_is_listed():
    cell = build_graphene("AB").repeat((5, 3, 1)).cell.array
    waves = site_energies.list_waves(cell, 1.5)
    both = np.concatenate([waves, -waves[np.linalg.norm(waves, axis=1) > 1e-9]])
    assert len(np.unique(both.round(9) + 0.0, axis=0)) == len(both)
    numbers = both @ cell[:2].T / (2.0 * np.pi)
    np.testing.assert_allclose(numbers, numbers.round(), atol=1e-9)
    area = (2.0 * np.pi) ** 2 / np.linalg.norm(np.cross(cell[0], cell[1]))
    assert len(both) == pytest.approx(np.pi * 1.5**2 / area, rel=0.2)


def test_tables_tell_every_bin():
    rows = {"in phase": [[0.5, 2e-3, 7]], "antiphase": [[0.0, 1e-3, 2], [0.5, 3e-3, 7]]}
    text = site_energies.write_markdown({"net": {"rms": 4e-3, "n_structures": 2, "waves": rows}})
    assert "RMS of all site energies 4.00 meV" in text
    assert "| 0.00 | – | 1.00 | 2 |" in text
    assert "| 0.50 | 2.00 | 3.00 | 7 |" in text
