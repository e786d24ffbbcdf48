"""A material of one's own, the way a new user walks: own structure, own engine, no checkpoint."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.io import write

from mlepi.command_line import compose_config
from mlepi.observables import all_stages
from mlepi.pipeline import infer
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.results import ResultsStore

SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 8.0
"""Å, eV and Å: argon's Lennard-Jones potential, cut off between two shells."""

CONF = Path(__file__).parents[2] / "conf"


def run_infer(folder, *arguments):
    config = compose_config(CONF, "infer", [f"folder={folder}", "report=false", *arguments])
    infer(config, folder, all_stages())
    return ResultsStore(folder)


def solve_pair_potential(atoms, q):
    """THz, of one atom per cell: D(q) = Σ_R K(R)(1 − cos 2πq·R)/M, K = φ″ r̂r̂ + φ′/r (1 − r̂r̂)."""
    matrix = np.zeros((3, 3))
    for shift in itertools.product(range(-4, 5), repeat=3):
        vector = np.array(shift) @ atoms.cell.array
        r = np.linalg.norm(vector)
        if 0.0 < r < CUTOFF:
            x = (SIGMA / r) ** 6
            first = 4.0 * EPSILON * (-12.0 * x**2 + 6.0 * x) / r
            second = 4.0 * EPSILON * (156.0 * x**2 - 42.0 * x) / r**2
            along = np.outer(vector, vector) / r**2
            spring = second * along + first / r * (np.eye(3) - along)
            matrix += spring * (1.0 - np.cos(2.0 * np.pi * np.dot(q, shift)))
    squares = np.linalg.eigvalsh(matrix / atoms.get_masses()[0])
    return np.sqrt(squares) * 1e3 * units.fs / (2.0 * np.pi)  # ASE's unit of time is Å√(amu/eV)


def test_phonons_of_solid_argon_by_a_keyword_style_calculator(tmp_path):
    write(tmp_path / "argon.extxyz", bulk("Ar", "fcc", a=5.26))
    store = run_infer(
        tmp_path / "run",
        "stage=phonon",
        f"structure={tmp_path / 'argon.extxyz'}",
        "phonon._target_=ase.calculators.lj.LennardJones",
        f"phonon.sigma={SIGMA}",
        f"phonon.epsilon={EPSILON}",
        f"phonon.rc={CUTOFF}",
        "supercell=[2,2,2]",
        "stage.phonon.in_plane=false",
        "stage.phonon.dos_mesh=[4,4,4]",
    )
    record = store.read("phonon", PhononRecord)
    at_x = np.argmin(
        np.abs(record.band_distances - record.band_label_distances[record.band_labels.index("X")])
    )
    expected = solve_pair_potential(bulk("Ar", "fcc", a=5.26), [0.5, 0.0, 0.5])
    np.testing.assert_allclose(record.band_frequencies[at_x], expected, rtol=1e-3)
    assert record.lowest_frequency > 0.0
