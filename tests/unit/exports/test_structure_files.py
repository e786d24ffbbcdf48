"""Structures leave as files that ASE, sisl and a GPAW of the test's own take up."""

import gc
import runpy
import sys
import warnings
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mlepi.commands.export_sources import read_yaml
from mlepi.errors import ConfigError, DataError, StructureError
from mlepi.exports import Frame, build_settings, write_frames

VASP = "incar: {ENCUT: 500, LWAVE: false}\nprimitive_kgrid: [12, 12, 1]\n"
OPENMX = """
bases: {5: B7.0-s2p2d1, 7: N6.0-s2p2d1}
pseudopotentials: {5: B_PBE19, 7: N_PBE19}
valence_electrons: {5: 3, 7: 5}
functional: GGA-PBE
grid_cutoff: 300
electronic_temperature: 300
criterion: 1.0e-8
dispersion: false
primitive_kgrid: [12, 12, 1]
"""
SIESTA = """
fdf: {PAO.BasisSize: DZP, XC.Functional: GGA, Mesh.Cutoff: 300 Ry, TS.HS.Save: true}
primitive_kgrid: [12, 12, 1]
blocks: {Geometry.Constraints: "atom 1\\n"}
"""
SCRIPT = "parameters: {mode: lcao, basis: dzp, xc: PBE}\nprimitive_kgrid: [12, 12, 1]\n"


@pytest.fixture
def frames():
    cell = [[5.02, 0, 0], [-2.51, 4.347, 0], [0, 0, 15.0]]
    atoms = Atoms("BNBNNBNB", cell=cell, pbc=True)
    atoms.set_scaled_positions(np.random.default_rng(1).random((8, 3)))
    moved = atoms.copy()
    moved.rattle(0.1, seed=2)
    info = {"sample": 3, "temperature": 300.0}
    return [Frame("sample_000003_T300", atoms, (2, 2, 1), info), Frame("other", moved, (2, 2, 1))]


def write(tmp_path, kind, frames, text=None):
    path = tmp_path / "settings.yaml"
    if text is not None:
        path.write_text(text)
    content = read_yaml(path if text else None)
    write_frames(kind, tmp_path / "out", frames, build_settings(kind, content, path.name))
    return tmp_path / "out"


def same(found, expected, order=slice(None)):
    np.testing.assert_array_equal(found.numbers, expected.numbers[order])
    np.testing.assert_allclose(found.positions, expected.positions[order], atol=1e-8)
    np.testing.assert_allclose(found.cell.array, expected.cell.array, atol=1e-8)


def test_extxyz(tmp_path, frames):
    write_frames("extxyz", tmp_path / "out.extxyz", frames)
    found = ase.io.read(tmp_path / "out.extxyz", ":")
    for atoms, frame in zip(found, frames, strict=True):
        same(atoms, frame.atoms)
    assert found[0].info == {"name": "sample_000003_T300", "sample": 3, "temperature": 300.0}


@pytest.mark.parametrize("settings", [None, VASP])
def test_poscar(tmp_path, frames, settings):
    out = write(tmp_path, "poscar", frames, settings)
    for frame in frames:
        order = np.argsort(frame.atoms.numbers, kind="stable")
        same(ase.io.read(out / frame.name / "POSCAR"), frame.atoms, order)
        assert (out / frame.name / "INCAR").exists() == (settings is not None)
    if settings:
        assert "6 6 1" in (out / "other" / "KPOINTS").read_text()


def test_openmx(tmp_path, frames):
    out = write(tmp_path, "openmx", frames, OPENMX)
    text = (out / "other" / "other.dat").read_text()
    assert "scf.Kgrid                           6 6 1" in text
    rows = text.split("<Atoms.SpeciesAndCoordinates\n")[1].split("Atoms.SpeciesAndC")[0]
    found = np.array([row.split()[2:5] for row in rows.strip().splitlines()], dtype=float)
    np.testing.assert_allclose(found, frames[1].atoms.positions, atol=1e-9)


def test_siesta(tmp_path, frames):
    out = write(tmp_path, "siesta", frames, SIESTA)
    path = out / "other" / "other.fdf"
    lines = path.read_text().splitlines()
    assert {"SaveHS true", "TS.HS.Save true", "Mesh.Cutoff 300 Ry"} <= set(lines)
    assert lines[lines.index("%block kgrid_Monkhorst_Pack") + 1] == "6 0 0 0.0"
    assert lines[-3:] == ["%block Geometry.Constraints", "atom 1", "%endblock Geometry.Constraints"]
    sisl = pytest.importorskip("sisl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sisl leaves its file open
        geometry = sisl.get_sile(path).read_geometry()
        gc.collect()
    same(Atoms(geometry.atoms.Z, geometry.xyz, cell=geometry.cell), frames[1].atoms)


def test_gpaw(tmp_path, frames, monkeypatch):
    """The script runs with a calculator of GPAW's name that keeps what it was given."""
    given = []

    class GPAW:
        def __init__(self, **parameters):
            given.append(parameters)

        def get_potential_energy(self, atoms=None, force_consistent=False):
            given.append(atoms.copy())
            return 0.0

        def get_forces(self, atoms=None):
            return np.zeros((len(atoms), 3))

        def write(self, path, mode):
            given.append((path, mode))

    module = ModuleType("gpaw")
    module.GPAW = GPAW
    monkeypatch.setitem(sys.modules, "gpaw", module)
    out = write(tmp_path, "gpaw", frames, SCRIPT)
    monkeypatch.chdir(out / "other")
    runpy.run_path("run.py")
    kpts = {"size": (6, 6, 1), "gamma": True}
    parameters = {"mode": "lcao", "basis": "dzp", "xc": "PBE", "kpts": kpts, "txt": "gpaw.txt"}
    assert given[0] == parameters
    same(given[1], frames[1].atoms)
    assert given[-1] == ("calculation.gpw", "all")


@pytest.mark.parametrize(
    ("kind", "text", "error", "match"),
    [
        ("openmx", None, ConfigError, r"settings.yaml: got nothing; expected YAML for openmx\."),
        ("extxyz", VASP, ConfigError, r"settings.yaml: got settings; expected none with"),
        ("siesta", "fdf: [", ConfigError, r"settings.yaml: got an unreadable file \(.*; expected"),
        ("siesta", "- 1", ConfigError, r"settings.yaml: got .*; expected YAML: key: value"),
        ("gpaw", "parameters: {}", ConfigError, "primitive_kgrid"),
        ("poscar", VASP + "kpts: 3\n", ConfigError, "kpts"),
        (
            "siesta",
            "fdf: {system-label: x}\nprimitive_kgrid: [1, 1, 1]",
            ConfigError,
            r"siesta: got \['system-label'\]; expected labels that the structure does not decide",
        ),
    ],
)
def test_settings_with_mistakes(tmp_path, frames, kind, text, error, match):
    with pytest.raises(error, match=match):
        write(tmp_path, kind, frames, text)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_is_left_behind(tmp_path, frames):
    write(tmp_path, "poscar", frames)
    with pytest.raises(DataError, match=r"out: got an existing path; expected a new"):
        write(tmp_path, "poscar", frames)
    broken = [frames[0], Frame("b", Atoms("Xe", cell=[4, 4, 4], pbc=True))]
    with pytest.raises(StructureError, match="elements"):
        write_frames("openmx", tmp_path / "mx", broken, settings(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["openmx.yaml", "out"]


def settings(tmp_path):
    (tmp_path / "openmx.yaml").write_text(OPENMX)
    return build_settings("openmx", read_yaml(tmp_path / "openmx.yaml"))
