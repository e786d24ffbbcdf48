"""Codes that give energies and forces alone: inputs, what is read, what is refused.

Outputs of pw.x are genuine, recorded from runs of our own. VASP was not run: its files are those of
the writers of ``test_readers``, made by hand after the format, and OUTCARs of ASE's test data.
"""

import shutil
from pathlib import Path

import ase
import numpy as np
import pytest
import test_readers
from ase import Atoms
from plane_wave_programs import ESPRESSO, VASP, bn
from played_programs import play, write_files
from toy_labels import Told

from mlepi.errors import ConfigError, DataError, NotConvergedError, StructureError
from mlepi.labelling import Espresso, LabelledSet, Vasp, label_structures
from mlepi.labelling.espresso import read_espresso
from mlepi.labelling.structure_files import NamedStructure
from mlepi.labelling.vasp import check_convergence
from mlepi.structures import read_forces_dataset
from mlepi.structures.espresso_input import build_espresso_input
from mlepi.units import RYDBERG

DATA = Path(__file__).parents[2] / "data"
PSEUDOS = Path("/usr/share/espresso/pseudo")
"""Where Debian's quantum-espresso-data has them."""
GENUINE_ENERGY, GENUINE_FORCE = -26.81220902 * RYDBERG, (-0.914761, 0.019653, -1.715027)
"""eV, and eV/Å of the first atom, of pw.x 6.7."""
BN = NamedStructure("bn", bn(), {"kind": "pair"})


def espresso(folder, printed, **changes):
    """Return pw.x that prints a text."""
    given = {
        "command": play(folder, write_files(folder / "played", "x"), printed),
        "potential_folder": write_files(folder / "pseudos", *ESPRESSO["potentials"].values()),
    }
    return Espresso(**{**ESPRESSO, **given, **changes})


def test_a_genuine_calculation_of_espresso(tmp_path):
    code = espresso(tmp_path, (DATA / "espresso_bn.txt").read_text())
    folder = tmp_path / "set"
    summary = label_structures(folder, [BN], code, Told())
    assert summary.written.names == ["bn"], summary.written.failed
    assert not (folder / "hamiltonians.h5").exists()
    [stored] = read_forces_dataset(folder / "forces.extxyz")
    np.testing.assert_allclose(stored.atoms.positions, bn().positions, atol=1e-8)
    assert np.abs(stored.forces.sum(axis=0)).max() < 1e-4
    assert stored.energy == pytest.approx(GENUINE_ENERGY, abs=1e-4)
    assert stored.forces[0] == pytest.approx(GENUINE_FORCE, abs=1e-4)
    card = (folder / "README.md").read_text()
    assert "train with `data=forces.extxyz`" in card
    assert "| version, as the outputs tell | Quantum ESPRESSO 6.7MaX (1) |" in card
    assert "hamiltonians.h5" not in card


def test_a_genuine_failure_of_espresso(tmp_path):
    """Two steps of self-consistency are too few."""
    printed = (DATA / "espresso_bn_2_steps.txt").read_text()
    summary = label_structures(tmp_path / "set", [BN], espresso(tmp_path, printed), Told())
    assert "no convergence after 2 steps" in summary.written.failed["bn"]
    state = LabelledSet(tmp_path / "set").job("bn").read_state()
    assert len(state.attempts) == 2
    again = (tmp_path / "set" / "jobs" / "bn" / "attempt-2" / "input.txt").read_text()
    assert "electron_maxstep = 120\n" in again
    assert "mixing_beta = 0.2" in again


def test_what_espresso_breaks_off_with_is_told(tmp_path):
    path = tmp_path / "output.txt"
    path.write_text(
        " %%%%%%%%\n     Error in routine readpp (1):\n     file not found\n %%%%%%%%\n"
    )
    with pytest.raises(DataError, match=r"Error in routine readpp \(1\): file not found"):
        read_espresso(path, "bn")
    text = (DATA / "espresso_bn.txt").read_text()
    path.write_text(text.partition("JOB DONE.")[0])
    with pytest.raises(DataError, match="a text that ends too early"):
        read_espresso(path, "bn")
    path.write_text(text.replace("Forces acting on atoms", "Nothing acting"))
    with pytest.raises(DataError, match="no energy and forces"):
        read_espresso(path, "bn")


@pytest.mark.skipif(
    shutil.which("pw.x") is None or not PSEUDOS.is_dir(), reason="pw.x is not installed"
)
def test_espresso_gives_what_was_recorded(tmp_path):
    code = Espresso(**{**ESPRESSO, "potential_folder": str(PSEUDOS)})
    summary = label_structures(tmp_path / "set", [BN], code, Told(), threads=1)
    assert summary.written.names == ["bn"], summary.written.failed
    [stored] = read_forces_dataset(tmp_path / "set" / "forces.extxyz")
    assert stored.energy == pytest.approx(GENUINE_ENERGY, abs=1e-4)
    np.testing.assert_allclose(stored.forces[0], GENUINE_FORCE, atol=1e-3)


def triple():
    """Return the structure that ``test_readers`` writes, its atoms in another order and cells."""
    step = test_readers.STEPS[0]
    atoms = Atoms(
        test_readers.SYMBOLS, step["scaled"] @ test_readers.CELL, cell=test_readers.CELL, pbc=True
    )
    atoms.positions[1] += test_readers.CELL[0]
    return NamedStructure("mos2", atoms[[1, 0, 2]])


def vasp(folder, end="because EDIFF is reached"):
    """Return VASP that plays the first step of ``test_readers``."""
    played = folder / "played"
    played.mkdir()
    test_readers.TestVasprun().write(played / "vasprun.xml")
    head, calculation = (played / "vasprun.xml").read_text().split("<calculation>")[:2]
    (played / "vasprun.xml").write_text(f"{head}<calculation>{calculation}\n</modeling>\n")
    text = f" vasp.6.4.2 20Jul23\n---- aborting loop {end} ----\n TOTAL-FORCE (eV/Angst)\n"
    (played / "OUTCAR").write_text(text)
    given = {
        "command": play(folder, played),
        "potential_folder": write_files(folder / "pseudos", "Mo_sv/POTCAR", "S/POTCAR"),
    }
    return Vasp(**{**VASP, **given})


def test_a_set_is_labelled_by_vasp(tmp_path):
    """Atoms come back in the order in which they were given; the POTCAR is not kept."""
    code = vasp(tmp_path)
    code._command = ["sh", "-c", f'cat POTCAR > "{tmp_path}/seen"; exec {code._command[0]}']
    summary = label_structures(tmp_path / "set", [triple()], code, Told(), keep="all")
    assert summary.written.names == ["mos2"], summary.written.failed
    [stored] = read_forces_dataset(tmp_path / "set" / "forces.extxyz")
    step = test_readers.STEPS[0]
    assert stored.atoms.get_chemical_symbols() == ["S", "Mo", "S"]
    np.testing.assert_allclose(stored.forces, step["forces"][[1, 0, 2]], atol=1e-8)
    assert stored.energy == pytest.approx(step["free_energy"])
    assert (tmp_path / "seen").read_text() == "Mo_sv/POTCAR\nS/POTCAR\n"
    assert not list((tmp_path / "set").rglob("POTCAR"))
    assert stored.provenance["code"] == "VASP 6.4.2"


def test_steps_of_vasp_that_have_not_converged(tmp_path):
    code = vasp(tmp_path, "EDIFF was not reached (unconverged)")
    summary = label_structures(tmp_path / "set", [triple()], code, Told())
    assert "'EDIFF was not reached'" in summary.written.failed["mos2"]
    state = LabelledSet(tmp_path / "set").job("mos2").read_state()
    assert len(state.attempts) == 2
    again = (tmp_path / "set" / "jobs" / "mos2" / "attempt-2" / "INCAR").read_text()
    assert "NELM = 120\n" in again
    assert "AMIX = 0.2" in again


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OUTCAR_example_1", None),
        ("convergence_OUTCAR_n_y", None),
        ("convergence_OUTCAR_y_n", "'EDIFF was not reached'"),
        ("POSCAR_example_1", "no line 'EDIFF is reached'"),
    ],
)
def test_genuine_ends_of_vasp(name, text):
    """Those that come with ASE."""
    path = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    if text is None:
        check_convergence(path)
        return
    with pytest.raises(NotConvergedError, match=text):
        check_convergence(path)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "atoms"),
    [("espresso", Espresso, ESPRESSO, bn()), ("vasp", Vasp, VASP, triple().atoms)],
)
def test_golden_inputs(tmp_path, name, kind, settings, atoms):
    names = [f"{x}/POTCAR" if name == "vasp" else x for x in settings["potentials"].values()]
    code = kind(**{**settings, "potential_folder": write_files(tmp_path / "pseudos", *names)})
    assert code.write_input(atoms, 1) == (DATA / "dft_inputs" / f"{name}.txt").read_text()


def test_mistakes_in_settings_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"dft\.potentials: got no folder of them"):
        Vasp(**{**VASP, "potential_folder": None}).write_input(triple().atoms, 1)
    with pytest.raises(ConfigError, match="cutoff=0"):
        Espresso(**{**ESPRESSO, "cutoff": 0})
    with pytest.raises(StructureError, match="a cell of rank 0"):
        build_espresso_input(Atoms("B"), {"SYSTEM": {}}, {"B": "b"}, (1, 1, 1))
