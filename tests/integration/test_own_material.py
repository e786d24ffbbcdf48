"""A material of one's own, the way a new user walks: own structure, own engine, no checkpoint."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from ase import units
from ase.build import bulk
from ase.io import write

from mlepi.command_line import compose_config
from mlepi.errors import ConfigError, StructureError
from mlepi.observables import all_stages
from mlepi.observables.domain.record import DomainRecord
from mlepi.observables.domain.stage import DomainStage
from mlepi.observables.sparse_bands.record import SparseBandsRecord
from mlepi.pipeline import infer
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.results import ResultsStore, read_hamiltonian

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


@pytest.fixture
def diamond(tmp_path):
    write(tmp_path / "diamond.extxyz", bulk("C", "diamond", a=3.567))
    return [f"structure={tmp_path / 'diamond.extxyz'}", "phonon=null", "electron=toy"]


def dense_levels(folder, record):
    _, hamiltonian, overlap = read_hamiltonian(folder / "hamiltonian.h5")
    return np.array([
        scipy.linalg.eigh(hamiltonian.dense(k), overlap.dense(k), eigvals_only=True)
        for k in record.kpoints
    ])  # fmt: skip


def test_bands_of_a_crystal_along_the_path_of_its_lattice(tmp_path, diamond):
    """Without a guess of the Fermi energy, and all eight levels of the small cell."""
    store = run_infer(tmp_path / "run", "stage=bands", *diamond, "stage.bands.spacing=0.5")
    record = store.read("sparse_bands", SparseBandsRecord)
    assert {"Γ", "X", "L"} <= set("".join(record.labels).replace("|", ""))
    assert "U|K" in record.labels or "K|U" in record.labels
    assert record.distances[-1] == record.label_distances[-1]
    np.testing.assert_allclose(record.energies, dense_levels(tmp_path / "run", record), atol=1e-9)
    assert record.first_state == 0
    assert not record.moire
    assert np.isfinite(record.fermi_energy)


def test_atoms_that_nearly_touch_are_named(tmp_path):
    atoms = bulk("C", "diamond", a=3.567, cubic=True)
    atoms.positions[1] = 1.0 / 3**0.5  # from the first, 1.0 Å along the diagonal
    write(tmp_path / "close.extxyz", atoms)
    with pytest.raises(StructureError, match=r"atoms C [01] and C [01] 1\.000 Å apart"):
        run_infer(tmp_path / "run", "stage=hamiltonian", f"structure={tmp_path}/close.extxyz")


def test_a_monolayer_lies_outside_the_bilayers_of_the_shipped_networks(tmp_path):
    """Whatever its distances say."""
    chosen = ["structure.stacking=monolayer", "~structure.spacing", "phonon=toy"]
    chosen += ["n_samples=2", "temperature=300", "supercell=[2,2,1]"]
    store = run_infer(tmp_path / "run", "stage=domain", *chosen)
    record = store.read("domain", DomainRecord)
    assert record.unseen == ("1 layer, where the training structures have 2",)
    assert DomainStage.doubts(record)[0].startswith("the structure lies outside the training data")


def test_bands_along_points_of_ones_own(tmp_path, diamond):
    store = run_infer(
        tmp_path / "run",
        "stage=bands",
        *diamond,
        "stage.bands.route=[GAMMA,MINE,[0.25,0.0,0.0],'|',L,X]",
        "stage.bands.points={MINE:[0.5,0.0,0.0]}",
        "stage.bands.spacing=1.0",
        "stage.bands.n_states=6",
    )
    record = store.read("sparse_bands", SparseBandsRecord)
    assert record.labels == ("Γ", "MINE", "(0.25, 0, 0)|L", "X")
    exact = dense_levels(tmp_path / "run", record)
    np.testing.assert_allclose(record.energies, exact[:, 1:7], atol=1e-9)
    assert record.band_gap() == pytest.approx(exact[:, 4].min() - exact[:, 3].max())


def test_bands_of_a_monolayer_and_a_wrong_name(tmp_path):
    chosen = ["structure.stacking=monolayer", "~structure.spacing", "phonon=null", "electron=toy"]
    store = run_infer(tmp_path / "run", "stage=bands", *chosen, "stage.bands.spacing=0.5")
    record = store.read("sparse_bands", SparseBandsRecord)
    assert record.labels == ("K", "Γ", "M", "K'")
    assert record.band_gap() == pytest.approx(0.0, abs=1e-6)  # the Dirac point at K
    with pytest.raises(ConfigError, match=r"route \['Γ', 'Q'\].*expected at least two of.*GAMMA"):
        run_infer(tmp_path / "run", "stage=bands", *chosen, "stage.bands.route=[GAMMA,Q]")
