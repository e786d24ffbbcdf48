"""Codes with H and S that run as programs: inputs, what is read, what is refused.

SIESTA and ABACUS were not run for these tests, OpenMX was once. Inputs are compared with golden
ones, made by this package and read against the manuals; outputs are those of ``played_programs``,
written by hand after the formats, except where a test says that a file is genuine.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from foreign_files import foreign
from hamiltonian_samples import real_sample, slater_koster_sample, write_scfout
from played_programs import (
    ABACUS,
    OPENMX,
    SIESTA,
    abacus,
    carbon,
    differ,
    moved,
    openmx,
    play,
    siesta,
    unpack_openmx,
    write_files,
)
from toy_labels import Told

from mlepi.errors import ConfigError, DataError, NotConvergedError, StructureError
from mlepi.labelling import Abacus, LabelledSet, Openmx, Siesta, label_structures
from mlepi.labelling.abacus import check_convergence as check_abacus
from mlepi.labelling.openmx import check_convergence as check_openmx
from mlepi.labelling.program_code import TITLE, join_files
from mlepi.labelling.program_code import write_files as split_files
from mlepi.labelling.returned import return_labels
from mlepi.labelling.siesta import read_energy
from mlepi.labelling.structure_files import NamedStructure
from mlepi.structures import HamiltonianDataset, read_forces_dataset, read_openmx
from mlepi.structures.abacus_input import place_in_cell
from mlepi.structures.cp2k import compare_levels
from mlepi.structures.k_density import choose_even_mesh, choose_mesh
from mlepi.structures.siesta import read_siesta
from mlepi.units import BOHR, HARTREE

GOLDEN = Path(__file__).parents[2] / "data" / "dft_inputs"
PROGRAMS = {"openmx": openmx, "siesta": siesta, "abacus": abacus}
pytestmark = pytest.mark.filterwarnings("ignore::mlepi.errors.UnusualDataWarning")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_set_is_labelled_by_a_program(tmp_path, name):
    """Atoms that the program has in other cells than they were given in are taken back."""
    sample = real_sample()
    code = PROGRAMS[name](tmp_path, sample)
    folder = tmp_path / "set"
    given = moved(sample)
    summary = label_structures(folder, [given], code, Told())
    assert summary.written.names == ["one"], summary.written.failed
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    stored = data["one"]
    bands, forces = differ(stored, sample)
    assert bands < 1e-3  # blocks are stored in float32, S of this basis is ill-conditioned
    assert forces < 1e-6
    assert stored.energy == pytest.approx(sample.energy, abs=1e-5)
    np.testing.assert_array_equal(stored.atoms.positions, given.atoms.positions)
    assert stored.provenance["k_mesh"] == list(code.choose_mesh(given.atoms))
    data.close()
    version = {"openmx": "OpenMX 3.9.9", "siesta": "SIESTA 5.0.0", "abacus": "ABACUS 3.9.0"}[name]
    card = (folder / "README.md").read_text()
    assert f"labelled by `mlepi label` with {version.split()[0]}." in card
    assert f"| version, as the outputs tell | {version} (1) |" in card
    assert stored.provenance["code"] == version


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("openmx", {"change": 1e-3}),
        ("siesta", {"scf": "SCF_NOT_CONV: SCF did not converge in maximum number of steps"}),
        ("abacus", {"end": "convergence has NOT been achieved!"}),
    ],
)
def test_what_has_not_converged_is_tried_again_with_smaller_steps(tmp_path, name, failure):
    sample = real_sample()
    code = PROGRAMS[name](tmp_path, sample, **failure)
    summary = label_structures(tmp_path / "set", [moved(sample)], code, Told())
    state = LabelledSet(tmp_path / "set").job("one").read_state()
    assert [attempt.number for attempt in state.attempts] == [1, 2]
    assert "Raise dft.steps or lower dft.mixing" in summary.written.failed["one"]
    first, second = (
        (tmp_path / "set" / "jobs" / "one" / f"attempt-{k}" / "input.txt").read_text().splitlines()
        for k in (1, 2)
    )
    changed = [(a.split()[-1], b.split()[-1]) for a, b in zip(first, second, strict=True) if a != b]
    assert ("40", "120") in changed
    assert all(float(b) == pytest.approx(float(a) / 3) for a, b in changed if a != "40")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_breaks_off_is_told(tmp_path, name):
    sample = real_sample()
    code = PROGRAMS[name](tmp_path, sample)
    code._command = [play(tmp_path, write_files(tmp_path / "nothing", "x"))]
    summary = label_structures(tmp_path / "set", [moved(sample)], code, Told())
    reason = summary.written.failed["one"]
    assert "broken off" in reason or "end of the file" in reason


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [("openmx", Openmx, OPENMX), ("siesta", Siesta, SIESTA), ("abacus", Abacus, ABACUS)],
)
def test_golden_inputs(tmp_path, name, kind, settings):
    folders = {
        f"{kind_of}_folder": write_files(tmp_path / kind_of, *settings[f"{kind_of}s"].values())
        for kind_of in ("potential", "orbital")
        if f"{kind_of}s" in settings
    }
    code = kind(**{**settings, **folders})
    atoms = Atoms("C2", [[0.1, 0.2, 3.0], [0.0, 1.42, 13.0]], cell=[2.46, 4.26, 20.0], pbc=True)
    assert code.write_input(atoms, 1) == (GOLDEN / f"{name}.txt").read_text()


def test_a_set_is_labelled_by_genuine_files_of_openmx(tmp_path):
    """Bands of H and S, as read, are those that OpenMX prints; energy and a force are read off."""
    code, bands = unpack_openmx(tmp_path)
    played = tmp_path / "played"
    assert len(bands) == 3
    read = read_openmx(played / "label.scfout", played / "label.out")
    assert compare_levels(read, bands) < 1e-7
    folder = tmp_path / "set"
    given = NamedStructure("c2", carbon())
    summary = label_structures(folder, [given], code, Told(), measure_noise=False)
    assert summary.written.names == ["c2"], summary.written.failed
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    stored = data["c2"]
    data.close()
    assert stored.energy == pytest.approx(-11.142030039840 * HARTREE, abs=1e-5)
    assert stored.forces[1, 0] == pytest.approx(0.221876466888 * HARTREE / BOHR, abs=1e-5)
    assert compare_levels(stored, bands) < 1e-3  # blocks are stored in float32


def test_the_grid_of_openmx_follows_the_atoms_unless_told_otherwise():
    """A shift of all atoms then changes nothing, and would be taken for the absence of noise."""
    atoms = carbon()
    assert Openmx(**OPENMX).choose_noise_shift(atoms) is None
    code = Openmx(**{**OPENMX, "keywords": {"scf.Fixed.grid": "0.0 0.0 0.0"}})
    assert np.all(code.choose_noise_shift(atoms) > 0.05)


def test_genuine_steps_of_openmx():
    """MoTe2 of OpenMX 3.9.9, whose criterion was 5.4e-5 Hartree."""
    path = foreign("openmx-out/MoTe2/openmx.out")
    check_openmx(path, 5.4e-5)
    with pytest.raises(NotConvergedError, match=r"last change of 2e-05 Hartree in step 15"):
        check_openmx(path, 1e-8)


def test_genuine_matrices_of_siesta(tmp_path):
    """H, S and forces of SIESTA 5 for silicon, played; its text is not among the genuine files."""
    source = foreign("siesta/Si")
    played = tmp_path / "played"
    played.mkdir()
    for suffix in (".HSX", ".FA", ".ORB_INDX"):
        shutil.copyfile(source / f"Si{suffix}", played / f"label{suffix}")
    text = "SCF cycle converged after 9 iterations\nsiesta: FreeEng =   -215.0\n"
    given = {
        "command": play(tmp_path, played, text),
        "potential_folder": write_files(tmp_path / "pseudos", "Si.psml"),
        "potentials": {"Si": "Si.psml"},
    }
    right = read_siesta(source / "Si.HSX")
    atoms = right.atoms.copy()
    atoms.positions += [[0.0, 0.0, 0.0], atoms.cell[1] - atoms.cell[0]]
    named = NamedStructure("si", Atoms("Si2", atoms.positions, cell=atoms.cell, pbc=True))
    code = Siesta(**{**SIESTA, **given})
    summary = label_structures(tmp_path / "set", [named], code, Told())
    assert summary.written.names == ["si"], summary.written.failed
    [stored] = read_forces_dataset(tmp_path / "set" / "forces.extxyz")
    np.testing.assert_allclose(stored.forces, right.forces, atol=1e-8)


def test_labels_are_returned_in_the_order_and_cells_of_the_structure(tmp_path):
    """Against the plainest definition: a block belongs to a pair of places."""
    sample = slater_koster_sample()
    write_scfout(tmp_path / "a.scfout", sample)
    labels = read_openmx(tmp_path / "a.scfout")
    order = np.array([2, 0, 1])  # atom k of the program is atom order[k]
    vectors = np.array([[0, 1, 0], [2, 0, -1], [0, 0, 0]])
    atoms = Atoms(labels.atoms.numbers, labels.atoms.positions, cell=labels.atoms.cell, pbc=True)
    given = atoms[np.argsort(order)]
    given.positions += vectors @ given.cell.array - [0.3, 0.0, 0.1]
    returned = return_labels(labels, given, order, np.array([0.3, 0.0, 0.1]))

    def places(structure):
        positions, cell = structure.atoms.positions, structure.atoms.cell.array
        (j, i), shift = structure.edge_index, structure.edge_cell_shift
        return positions[j] + shift @ cell - positions[i]

    np.testing.assert_allclose(places(returned), places(labels), atol=1e-9)
    np.testing.assert_array_equal(
        returned.atoms.numbers[returned.edge_index], labels.atoms.numbers[labels.edge_index]
    )
    assert returned.hamiltonian_blocks is labels.hamiltonian_blocks
    with pytest.raises(DataError, match="differs by"):
        return_labels(labels, given, order)
    with pytest.raises(DataError, match="got labels of"):
        return_labels(labels, given)


def test_meshes_of_openmx_are_even_or_one():
    atoms = Atoms("C", cell=[2.46, 4.26, 20.0], pbc=True)
    assert choose_mesh(atoms, 0.5, 6.0) == (6, 3, 1)
    assert choose_even_mesh(atoms, 0.5, 6.0) == (6, 4, 1)
    assert choose_even_mesh(atoms, 0.5, 1e3) == (6, 4, 2)
    assert choose_even_mesh(atoms.repeat((3, 2, 1)), 0.5, 6.0) == (2, 2, 1)


def test_atoms_of_abacus_are_inside_its_cell():
    atoms = Atoms("C2", [[0.0, 5.0, -0.3], [1.0, 1.0, 9.9]], cell=[3.0, 4.0, 10.0], pbc=True)
    placed = place_in_cell(atoms)
    assert placed.min() > 1e-3
    assert placed.max() < 0.999
    difference = (
        placed[1] - placed[0] - atoms.cell.scaled_positions(np.diff(atoms.positions, axis=0))
    )
    np.testing.assert_allclose(difference, np.round(difference), atol=1e-12)


def test_inputs_of_several_files_are_one_text(tmp_path):
    files = {"INCAR": "A = 1\n", "KPOINTS": "0\n\nGamma\n"}
    text = join_files(files)
    assert text.startswith(TITLE)
    split_files(tmp_path, text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_ends_of_logs(tmp_path):
    log = tmp_path / "log"
    log.write_text(" #SCF IS CONVERGED#\n")
    check_abacus(log)
    log.write_text(" !!SCF IS NOT CONVERGED!!\n")
    with pytest.raises(NotConvergedError, match="self-consistency"):
        check_abacus(log)
    log.write_text("begin\n")
    with pytest.raises(DataError, match="ends too early"):
        check_abacus(log)
    with pytest.raises(DataError, match="no line 'SCF cycle converged'"):
        read_energy(log)
    log.write_text("SCF cycle converged after 2 iterations\n")
    with pytest.raises(DataError, match="no FreeEng"):
        read_energy(log)
    with pytest.raises(DataError, match="0 steps of self-consistency"):
        check_openmx(log, 1e-8)


def test_mistakes_in_settings_are_told(tmp_path):
    atoms = Atoms("BN", [[0, 0, 0], [0, 1.4, 0]], cell=[2.5, 4.3, 20.0], pbc=True)
    with pytest.raises(ConfigError, match=r"dft\.bases: got bases \{\}"):
        Openmx(**{**OPENMX, "bases": {}, "valence_electrons": {}})
    with pytest.raises(ConfigError, match="steps=0"):
        Openmx(**{**OPENMX, "steps": 0})
    with pytest.raises(ConfigError, match=r"dft\.command: got ' '"):
        Siesta(**{**SIESTA, "command": " "})
    with pytest.raises(StructureError, match="without a basis"):
        Openmx(**OPENMX).write_input(atoms, 1)
    with pytest.raises(ConfigError, match=r"dft\.potentials: got none for \['B', 'N'\]"):
        Siesta(**SIESTA).write_input(atoms, 1)
    given = {"potentials": {"B": "B.psml", "N": "N.psml"}, "potential_folder": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"no file .*B\.psml"):
        Siesta(**{**SIESTA, **given}).write_input(atoms, 1)
    with pytest.raises(ConfigError, match="no-such-openmx"):
        Openmx(**{**OPENMX, "command": "no-such-openmx"}).find_version()
