"""Codes that are packages of Python: GPAW by its recorded files, both for real where they are.

The files of GPAW are those of our own run of 26.7.0 (tests/data/gpaw_bn), left by
``gpaw_export`` and ``gpaw_orbitals``; the script that computes, ``gpaw_label``, is played here.
"""

import functools
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase import Atoms
from toy_labels import Told

from mlepi.errors import ConfigError
from mlepi.labelling import Gpaw, LabelledSet, Pyscf, label_structures
from mlepi.labelling.card import compare_labels
from mlepi.labelling.structure_files import NamedStructure
from mlepi.physics import overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.predictors.electron import check_overlap_table
from mlepi.structures import HamiltonianDataset
from mlepi.structures.gpaw_files import GPAW_PYTHON
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.programs import gpaw_label
from mlepi.units import HARTREE

RUN = Path(__file__).parents[2] / "data" / "gpaw_bn"
COMMON = {
    "hours": 0.5,
    "electronic_temperature": 300.0,
    "largest_band_error": 0.005,
    "vacuum": 6.0,
    "steps": 50,
}
GPAW = {
    **COMMON,
    "python": "python",
    "basis": "sz(dzp)",
    "functional": "PBE",
    "grid_spacing": 0.22,
    "criterion": 1e-6,
    "k_spacing": 0.42,
    "mixing": 0.3,
}
PYSCF = {
    **COMMON,
    "python": os.environ.get("MLEPI_PYSCF_PYTHON"),
    "basis": "gth-szv-molopt-sr",
    "potential": "gth-pbe",
    "functional": "pbe",
    "cutoff": 80.0,
    "criterion": 1e-10,
    "k_spacing": 0.28,
    "mixing": 1.0,
}
pytestmark = pytest.mark.filterwarnings("ignore::mlepi.errors.UnusualDataWarning")


def python(folder, name, *lines):
    """Return a program in the place of a Python that has a package."""
    program = folder / "python"
    version = f'if [ "$1" = "-c" ]; then echo "{name} 26.7.0"; exit; fi'
    program.write_text("\n".join(["#!/bin/sh", version, *lines, ""]))
    program.chmod(0o755)
    return str(program)


def gpaw(folder, wrong=0.0):
    """Return a program in the place of GPAW's Python, which leaves the files of our own run.

    Bands are its levels at a few k-points, Hartree, all of them wrong by as much as is said.
    """
    table = np.loadtxt(RUN / "levels.txt")[::8]
    table[:, 3:] = table[:, 3:] / HARTREE + wrong
    np.savetxt(folder / "bands.txt", table, fmt="%.14e")
    copy = f"cp {RUN}/*.npy {RUN}/frames.xyz {RUN}/kmesh.json {folder}/bands.txt ."
    tells = f'case "$1" in *gpaw_orbitals.py) cp {RUN}/orbitals.json "$3"; exit;; esac'
    return python(folder, "gpaw", tells, copy, "echo DONE")


def recorded():
    """Return the structure of the recorded run."""
    atoms = ase.io.read(RUN / "frames.xyz")
    return NamedStructure("bn", Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))


def test_a_set_is_labelled_by_gpaw(tmp_path, monkeypatch):
    few = functools.partial(overlaps.read_augmented_orbitals, n_grid=129)
    monkeypatch.setattr(overlaps, "read_augmented_orbitals", few)
    code = Gpaw(**{**GPAW, "python": gpaw(tmp_path)})
    folder = tmp_path / "set"
    summary = label_structures(folder, [recorded()], code, Told(), measure_noise=False)
    assert summary.written.names == ["bn"], summary.written.failed
    assert summary.written.overlaps.largest < 2e-7  # S is not two-centre, its parts are
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    found = compare_labels(data["bn"], read_kmesh(RUN, 0))
    assert found.hamiltonian[1] < 1e-5  # float32
    assert found.overlap < 1e-6
    assert found.forces < 1e-8
    assert data["bn"].provenance["k_mesh"] == [7, 7, 1]
    assert data["bn"].provenance["band_error"] < 1e-5
    check_overlap_table(data.basis, read_overlap_table(folder / "overlap.h5"))
    data.close()
    assert "labelled by `mlepi label` with gpaw 26.7.0" in (folder / "README.md").read_text()


def test_labels_whose_bands_are_not_those_of_the_program_have_failed(tmp_path):
    code = Gpaw(**{**GPAW, "python": gpaw(tmp_path, wrong=1e-3)})
    summary = label_structures(tmp_path / "set", [recorded()], code, Told(), measure_noise=False)
    assert (
        "bands of H and S that differ from gpaw's own by 0.027 eV" in (summary.written.failed["bn"])
    )


def test_what_has_not_converged_is_tried_again_with_smaller_steps(tmp_path):
    words = "REFUSED not converged after 50 steps|self-consistency|Raise dft.steps."
    code = Gpaw(**{**GPAW, "python": python(tmp_path, "gpaw", f'echo "{words}" >&2', "exit 1")})
    summary = label_structures(tmp_path / "set", [recorded()], code, Told())
    assert "got not converged after 50 steps" in summary.written.failed["bn"]
    first, second = (
        json.loads((tmp_path / f"set/jobs/bn/attempt-{k}/input.txt").read_text()) for k in (1, 2)
    )
    assert (first["steps"], second["steps"]) == (50, 150)
    assert second["mixing"] == pytest.approx(first["mixing"] / 3)
    assert LabelledSet(tmp_path / "set").job("bn").read_state().status == "failed"


def test_what_a_script_breaks_off_with_is_told(tmp_path):
    code = Gpaw(**{**GPAW, "python": python(tmp_path, "gpaw", "echo 'ValueError: basis'")})
    summary = label_structures(tmp_path / "set", [recorded()], code, Told())
    assert "got ValueError: basis; expected DONE" in summary.written.failed["bn"]


def test_a_python_without_the_package_is_told(tmp_path):
    program = python(tmp_path, "other")
    with pytest.raises(ConfigError, match=r"which cannot import pyscf.*mlepi\[pyscf\]"):
        Pyscf(**{**PYSCF, "python": program}).find_version()
    with pytest.raises(ConfigError, match=r"which cannot import gpaw.*pip install gpaw"):
        Gpaw(**{**GPAW, "python": program}).find_version()
    with pytest.raises(ConfigError, match="cutoff=0"):
        Pyscf(**{**PYSCF, "cutoff": 0})


def test_grids_of_gpaw_grow_with_the_cell():
    """Four divides them; of a spacing that divides the cell, a long cell has as many times more."""
    code = Gpaw(**{**GPAW, "grid_spacing": 2.5 / 12})
    atoms = Atoms("C", cell=[2.5, 2.5, 9.9], pbc=True)
    assert code.choose_grid(atoms) == (12, 12, 48)
    assert code.choose_grid(atoms.repeat((3, 2, 1))) == (36, 24, 48)
    np.testing.assert_allclose(code.choose_noise_shift(atoms), [2.5 / 24, 2.5 / 24, 9.9 / 96])


def test_what_gpaw_is_told():
    given = json.loads(Gpaw(**GPAW).write_input(recorded().atoms, 1))
    parameters = gpaw_label.build_parameters(given)
    assert parameters["mode"] == "lcao"
    assert parameters["basis"] == "sz(dzp)"
    assert parameters["kpts"] == {"size": (7, 7, 1), "gamma": True}
    assert parameters["symmetry"] == {"point_group": False}
    assert parameters["occupations"]["width"] == pytest.approx(0.025852, abs=1e-6)
    assert all(n % 4 == 0 for n in parameters["gpts"])


def test_a_run_of_gpaw_without_convergence_ends_with_one_line(tmp_path, monkeypatch):
    """GPAW is played by a module that raises its error."""

    class KohnShamConvergenceError(Exception):
        pass

    class GPAW_:  # noqa: N801 - the class of another package
        def __init__(self, **parameters):
            self.parameters = parameters

        def get_potential_energy(self, *args, **kwargs):
            raise KohnShamConvergenceError

        get_property = calculate = get_potential_energy

    gpaw, export = ModuleType("gpaw"), ModuleType("gpaw_export")
    gpaw.GPAW, gpaw.KohnShamConvergenceError = GPAW_, KohnShamConvergenceError
    export.export = None
    monkeypatch.setitem(sys.modules, "gpaw", gpaw)
    monkeypatch.setitem(sys.modules, "gpaw_export", export)
    source = tmp_path / "input.txt"
    source.write_text(Gpaw(**GPAW).write_input(recorded().atoms, 1))
    with pytest.raises(SystemExit, match=r"REFUSED not converged after 50 steps\|"):
        gpaw_label.label(str(source), str(tmp_path))


@pytest.mark.skipif(
    not os.environ.get(GPAW_PYTHON), reason=f"no GPAW; {GPAW_PYTHON} may name a Python that has it"
)
def test_gpaw_for_real(tmp_path):
    """Boron nitride, one atom displaced: bands beside the mesh, S from single atoms, H = H†."""
    code = Gpaw(**{**GPAW, "python": os.environ[GPAW_PYTHON]})
    folder = tmp_path / "set"
    summary = label_structures(folder, [recorded()], code, Told(), threads=1, measure_noise=False)
    assert summary.written.names == ["bn"], summary.written.failed
    assert summary.written.overlaps.largest < 1e-6
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    provenance = data["bn"].provenance
    data.close()
    assert provenance["band_error"] < 1e-4
    assert provenance["hermiticity"]["Hamiltonian"] < 1e-9


HAS_PYSCF = PYSCF["python"] or importlib.util.find_spec("pyscf")


@pytest.mark.skipif(
    not HAS_PYSCF, reason="no PySCF; MLEPI_PYSCF_PYTHON may name a Python that has it"
)
def test_pyscf_for_real(tmp_path):
    """A chain of SiS: bands of H(R), S(R) beside the mesh are PySCF's, forces its derivatives.

    The central difference exceeds the force by a third of what the mean force of both ends does.
    """
    code = Pyscf(**PYSCF)
    folder, step = tmp_path / "set", 0.01
    structures = []
    for name, moved in (("middle", 0.0), ("plus", step), ("minus", -step)):
        positions = [[0.3, 3.4, 3.6], [1.9, 4.3 + moved, 4.15]]
        atoms = Atoms("SiS", positions, cell=[4.5, 7.8, 7.4], pbc=True)
        structures.append(NamedStructure(name, atoms))
    summary = label_structures(folder, structures, code, Told(), threads=1, measure_noise=False)
    assert summary.written.names == ["middle", "plus", "minus"], summary.written.failed
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    middle, plus, minus = (data[name] for name in summary.written.names)
    assert data.basis.shells == {14: (0, 1), 16: (0, 1)}
    data.close()
    assert max(s.provenance["band_error"] for s in (middle, plus, minus)) < 1e-3
    force = middle.forces[1, 1]
    bend = 0.5 * (plus.forces[1, 1] + minus.forces[1, 1]) - force
    found = (minus.energy - plus.energy) / (2.0 * step)
    assert found == pytest.approx(force + bend / 3.0, abs=1e-4)
    assert force == pytest.approx(1.64, abs=0.01)
