"""GPAW's H(k) and S(k): a recorded run, the program that exports, and how it is called."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ase.io
import numpy as np
import pytest
import scipy.linalg
from foreign_files import bloch_sum

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures import gpaw_files
from mlepi.structures.gpaw_files import read_gpaw
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.programs.gpaw_export import export
from mlepi.structures.sources import find_sources
from mlepi.units import HARTREE

RUN = Path(__file__).parents[2] / "data" / "gpaw_bn"
pytestmark = pytest.mark.filterwarnings("ignore::mlepi.errors.UnusualDataWarning")


def test_levels_are_those_that_gpaw_computed():
    """Boron nitride, one atom displaced: eigenvalues of GPAW 26.7.0 itself, its E_F and forces."""
    with pytest.warns(UnusualDataWarning, match="three-centre terms"):
        structure = read_kmesh(RUN, 0)
    assert structure.provenance["unusual"]["not_two_centre"] == pytest.approx(0.0067, abs=1e-4)
    table = np.loadtxt(RUN / "levels.txt")
    for row in table[::6]:
        H, S = (
            bloch_sum(structure, blocks, row[:3])
            for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
        )
        np.testing.assert_allclose(scipy.linalg.eigvalsh(H, S), row[3:], atol=2e-6)
    assert structure.fermi_energy == pytest.approx(-1.384096, abs=1e-6)
    assert np.abs(structure.forces).max() == pytest.approx(2.5, abs=0.1)
    assert structure.energy < 0


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A program in the place of GPAW's Python: it leaves the recorded files."""

    def install(script):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv(gpaw_files.GPAW_PYTHON, str(program))
        (tmp_path / "bn.gpw").write_bytes(b"x")
        return tmp_path / "bn.gpw"

    return install


def test_a_gpw_is_read_through_gpaws_own_python(python):
    path = python(f'[ -f "$1" ] && [ -f "$2" ] && cp {RUN}/* "$3"')
    (source,) = find_sources([path])
    assert (source.source_format, source.name) == ("gpaw", "bn")
    structure = read_gpaw(path)
    np.testing.assert_array_equal(
        structure.hamiltonian_blocks, read_kmesh(RUN, 0).hamiltonian_blocks
    )
    assert structure.provenance["code"] == "GPAW"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo 'REFUSED two spins|one|Repeat it.' >&2; exit 1", r"got two spins; expected one\. R"),
        ("echo ImportError: gpaw >&2; exit 3", r"python that ended with status 3: ImportError"),
        ("exit 0", r"bn\.gpw: got no \*_fock_0\.npy"),
    ],
)
def test_a_failure_is_one_message(python, script, text):
    path = python(script)
    with pytest.raises(DataError, match=text) as refusal:
        read_gpaw(path)
    assert str(path) in str(refusal.value)


def test_without_gpaw(python, monkeypatch):
    path = python("")
    monkeypatch.delenv(gpaw_files.GPAW_PYTHON)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match=r"no program gpaw; .* Set MLEPI_GPAW_PYTHON"):
        read_gpaw(path)
    with pytest.raises(DataError, match="no such file"):
        read_gpaw(path.with_name("b.gpw"))


@pytest.fixture
def calculation(monkeypatch):
    """A stand-in for GPAW 26 with the recorded run: half of the k-points, on −½ … ½."""
    hamiltonian, overlap = (np.load(RUN / f"bn_{what}_0.npy") for what in ("fock", "over"))
    mesh = np.array([7, 7, 1])
    places = np.array(list(np.ndindex(*mesh)))
    opposite = np.ravel_multi_index(tuple((-places % mesh).T), mesh)
    kept = np.flatnonzero(np.arange(49) <= opposite)
    where = {place: k for k, place in enumerate(kept.tolist())}
    partner = np.minimum(np.arange(49), opposite)
    centred = (places / mesh + 0.5 - 1e-9) % 1.0 - 0.5 + 1e-9
    order = np.random.default_rng(0).permutation(49)
    kd = SimpleNamespace(
        N_c=mesh,
        bzk_kc=centred[order],
        bz2ibz_k=np.array([where[k] for k in partner])[order],
        time_reversal_k=(np.arange(49) > opposite)[order],
        symmetry=SimpleNamespace(op_scc=np.eye(3)[None]),
    )
    shells = [SimpleNamespace(l=0), SimpleNamespace(l=1)]
    atoms = ase.io.read(RUN / "frames.xyz")
    setups = [
        SimpleNamespace(symbol=s, basis=SimpleNamespace(bf_j=shells))
        for s in atoms.get_chemical_symbols()
    ]
    run = SimpleNamespace(
        wfs=SimpleNamespace(kd=kd, setups=setups),
        parameters=SimpleNamespace(mode=SimpleNamespace(name="lcao")),
        results=dict(atoms.calc.results),
        get_atoms=lambda: atoms,
        get_number_of_spins=lambda: 1,
        get_fermi_level=lambda: -1.384096,
    )
    gpaw, tools = ModuleType("gpaw"), ModuleType("gpaw.lcao.tools")
    gpaw.GPAW, gpaw.__version__ = lambda path, txt: run, "26.7.0"
    tools.get_lcao_hamiltonian = lambda _: (hamiltonian[None, kept] * HARTREE, overlap[kept])
    for name, module in (("gpaw", gpaw), ("gpaw.lcao", gpaw), ("gpaw.lcao.tools", tools)):
        monkeypatch.setitem(sys.modules, name, module)
    return run


def test_the_whole_mesh_comes_from_its_half(calculation, tmp_path):
    export("bn.gpw", str(tmp_path))
    for what in ("fock", "over"):
        name = f"bn_{what}_0.npy"
        np.testing.assert_allclose(np.load(tmp_path / name), np.load(RUN / name), atol=1e-7)
    structure, recorded = read_kmesh(tmp_path, 0), read_kmesh(RUN, 0)
    np.testing.assert_allclose(structure.forces, recorded.forces, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda run: run.parameters.mode.__setattr__("name", "pw"), "mode 'pw'"),
        (lambda run: run.__setattr__("get_number_of_spins", lambda: 2), "two spins"),
        (
            lambda run: run.wfs.kd.symmetry.__setattr__("op_scc", np.zeros((6, 3, 3))),
            "k-points reduced by 6 symmetries",
        ),
        (
            lambda run: run.wfs.kd.__setattr__("bzk_kc", run.wfs.kd.bzk_kc + 0.01),
            "k-points that are no mesh with Γ",
        ),
    ],
)
def test_runs_that_cannot_be_exported(calculation, tmp_path, change, text):
    change(calculation)
    with pytest.raises(SystemExit, match=rf"^REFUSED .*{text}.*\|.+\|Repeat it"):
        export("bn.gpw", str(tmp_path))
