"""Files that ABACUS and dftio wrote, ``tests/data/abacus``, and what their sources say they write.

Levels and matrices are compared with what ABACUS printed.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from foreign_files import bloch_sum
from foreign_writers import write_abacus
from hamiltonian_samples import slater_koster_sample
from scipy.spatial.transform import Rotation
from test_hamiltonian_readers import by_element

from mlepi.errors import DataError, MlepiError, UnusualDataWarning
from mlepi.structures.abacus import read_abacus
from mlepi.structures.dftio import read_dftio
from mlepi.structures.orientation import turn_to_overlaps
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.sources import find_sources, read_source

FILES = Path(__file__).parents[1] / "data" / "abacus" / "files.tar.xz"
TURNED = "structure turned by 173.1° against its overlaps"
SHELLS = """ READING ATOM TYPE 1
                               Atom label = Si
                      L=0, number of zeta = 1
                      L=1, number of zeta = 1
            Number of atoms for this type = 2

 DIRECT COORDINATES
 atom                  x                  y                  z     mag
   Si     0.000000000000     0.000000000000     0.000000000000  0.0000
   Si     0.250000000000     0.250000000000     0.250000000000  0.0000

"""
"""Of the log of the silicon, which its repository does not hold: as the source prints it."""


@pytest.fixture
def files(tmp_path):
    """The genuine files, to read or to doctor."""
    with tarfile.open(FILES) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "si" / "OUT.autotest" / "running_scf.log").write_text(SHELLS)
    return tmp_path


def edit(path, pattern, text):
    before = path.read_text()
    path.write_text(re.sub(pattern, text, before, count=1, flags=re.MULTILINE))
    assert path.read_text() != before


def read_levels(folder):
    """k-points of the log (n, 3), and ABACUS' own levels there (n, 16), eV."""
    log = (folder / "running_scf.log").read_text().split("nkstot now")[1]
    rows = re.findall(r"^ +\d+((?: +-?0\.\d{8}){3}) +0\.\d{4}$", log, re.MULTILINE)
    bands = np.loadtxt(folder / "BANDS_1.dat")
    return np.array([row.split() for row in rows], dtype=float)[: len(bands)], bands[:, 2:]


def test_aluminium_of_abacus_and_of_dftio(files):
    """All levels of all k-points are ABACUS' own; dftio's folders, whose cell is turned, agree."""
    out = files / "al" / "OUT.ABACUS"
    structure = read_abacus(out)
    assert structure.basis.shells == {13: (0, 0, 0, 0, 1, 1, 1, 1, 2)}
    assert structure.fermi_energy == pytest.approx(-0.35855080564)
    kpoints, own = read_levels(out)
    assert own.shape == (47, 16)
    for kpoint, expected in zip(kpoints, own, strict=True):
        pencil = (
            bloch_sum(structure, blocks, kpoint)
            for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
        )
        levels = scipy.linalg.eigvalsh(*pencil)[:16]
        np.testing.assert_allclose(levels, expected, atol=5e-5)  # Rydberg of another CODATA
    dat, ase = files / "dftio" / "Al.0", files / "ase" / "Al.0"
    shutil.copytree(dat, ase)
    (dat / "xdat.traj").unlink()
    for name in ("cell", "positions", "atomic_numbers", "pbc"):
        (ase / f"{name}.dat").unlink()
    for folder in (dat, ase):
        [source] = find_sources([folder.parent])
        assert (source.source_format, source.name) == ("dftio", "Al.0")
        with pytest.warns(UnusualDataWarning, match=TURNED):
            [copy] = read_source(source)
        assert copy.provenance["unusual"] == {"turned": pytest.approx(173.12, abs=0.01)}
        assert copy.energy == pytest.approx(structure.energy, abs=1e-6)
        np.testing.assert_array_equal(copy.edge_index, structure.edge_index)
        np.testing.assert_array_equal(copy.edge_cell_shift, structure.edge_cell_shift)
        np.testing.assert_allclose(copy.atoms.cell.array, structure.atoms.cell.array, atol=1e-6)
        np.testing.assert_allclose(copy.overlap_blocks, structure.overlap_blocks, atol=1e-8)
        np.testing.assert_allclose(
            copy.hamiltonian_blocks, structure.hamiltonian_blocks, rtol=4e-7, atol=1e-7
        )  # dftio's Rydberg is 13.605698 eV


def test_silicon_of_the_newer_layout(files):
    """S(k) is what ABACUS prints at its second k-point; H is Hermitian to the last digit."""
    structure = read_abacus(files / "si" / "OUT.autotest")
    assert structure.basis.shells == {14: (0, 1)}
    assert structure.basis.names == {14: "Si_dojo_6au_sz"}
    assert structure.provenance["hermiticity"] == {"overlap": 0.0, "Hamiltonian": 0.0}
    s, t, d, e, p, q = 5.10056e-02, 5.36878e-02, 4.11745e-03, 5.42626e-02, 5.90324e-02, 1.0
    own = np.array(
        [
            [q, 0, 0, 0, s, t, t, -t],
            [0, q, d, -d, -t, e, -p, p],
            [0, d, q, -d, -t, -p, e, p],
            [0, -d, -d, q, t, p, p, e],
        ]
    )
    order = structure.basis.permutation(14, "abacus")
    signs = structure.basis.signs(14, "abacus")
    expected = own[order][:, np.append(order, 4 + order)] * np.outer(signs, np.tile(signs, 2))
    found = bloch_sum(structure, structure.overlap_blocks, np.array([0.5, 0.0, 0.0]))[:4]
    np.testing.assert_allclose(found, expected, atol=3e-7)


NOTE = "# representation: gamma-only folded matrix; stored R-space contributions are summed"
LONG = " 0.123456789012345 0.123456789012345 0.123456789012345\n" * 80
SI_H, SI_S = "OUT.autotest/hrs1_nao.csr", "OUT.autotest/sr_nao.csr"
AL_H, AL_LOG = "OUT.ABACUS/data-HR-sparse_SPIN0.csr", "OUT.ABACUS/running_scf.log"
DOCTORED = {
    "another lattice": ("si", "STRU", r"^15\.3", "15.4", "times the volume of STRU's"),
    "another position": (
        "si",
        "STRU",
        r"^0\.25",
        "0.26",
        r"positions 0\.0\d+ Å from those of STRU",
    ),
    "one orbital more": ("si", SI_H, "^ 8 #", " 9 #", "inside matrix|row poin"),
    "two spins": ("si", SI_H, "^ 1 # number of s", " 2 # number of s", "2 spin directions"),
    "spin-orbit": ("si", SI_H, r"-1\.12133e-04", "(-1.12133e-04,0.0)", "complex numbers"),
    "folded": ("si", SI_H, r"^( 0\.25 .*\n)", rf"\1{LONG}{NOTE}\n", "folded matrix of a run at Γ"),
    "steps apart": ("si", SI_S, "Step 1", "Step 2", r"of ionic step 1 and S\(R\) of 2"),
    "a later step": (
        "al",
        AL_H.replace("HR", "?R"),
        "STEP: 0",
        "STEP: 3",
        "ionic step 4; expected",
    ),
    "log of another run": (
        "al",
        AL_LOG,
        r"^(tauc_Al1 +)0\.00",
        r"\g<1>0.01",
        r"0\.01 Å from those",
    ),
    "binary": ("al", AL_H, "STEP: 0", "\0\0\0", "a binary matrix"),
    "no cell": ("dftio", "Al.0/cell.dat", r"(?s)\A.*\Z", "", "no table|cell"),
    "another cell": ("dftio", "Al.0/cell.dat", r"\A5\.411", "4.411", "deviate from the bond"),
    "a molecule": ("dftio", "Al.0/cell.dat", r"(?s)\A.*\Z", "0 0 0\n" * 3, "no periodic cell"),
    "energies": ("dftio", "Al.0/total_energy.dat", r"\n\Z", "\n-1.0\n", "2 energies; expected 1"),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_doctored_genuine_files(files, name):
    kind, pattern, before, after, told = DOCTORED[name]
    for path in files.glob(f"{kind}/{pattern}"):
        edit(path, before, after)
    read, folder = {
        "si": (read_abacus, files / "si" / "OUT.autotest"),
        "al": (read_abacus, files / "al" / "OUT.ABACUS"),
        "dftio": (read_dftio, files / "dftio" / "Al.0"),
    }[kind]
    with pytest.raises(MlepiError, match=told) as refusal:
        read(folder)
    assert re.fullmatch(r"(.+?): got (.+); expected (.+?)\. ([A-Z].+\.)", str(refusal.value))


def test_spin_and_frames_of_dftio(files):
    """nspin 4 is complex and refused; a frame that has not converged is, the others are read."""
    folder = files / "dftio" / "Al.0"
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(folder / name, "r+") as file:
            file.copy("0", "1")
            file.copy("0", "2")
    for name in ("cell.dat", "positions.dat"):
        (folder / name).write_text((folder / name).read_text() * 3)
    (folder / "total_energy.dat").write_text("-1.0\n-3.0\n")
    (folder / "unconverged_frames.dat").write_text("# Frame indices that did not converge\n1\n")
    sources = find_sources([folder])
    assert [source.name for source in sources] == ["Al.0_00000", "Al.0_00001", "Al.0_00002"]
    with pytest.warns(UnusualDataWarning, match=TURNED):
        assert read_source(sources[2])[0].energy == -3.0
    with pytest.raises(DataError, match="got frame 1, which has not converged"):
        read_source(sources[1])
    with h5py.File(folder / "hamiltonians.h5", "r+") as file:
        for key in list(file["0"]):
            block = file["0"][key][()]
            del file["0"][key]
            file["0"][key] = np.kron(np.eye(2), block).astype(np.complex64)
    with pytest.raises(DataError, match="spinful data"):
        read_source(sources[0])


def test_forms_that_are_not_read_are_told(tmp_path):
    for name, told in (
        ("OUT.A/hrs1_nao.dat", "ABACUS' binary form"),
        ("OUT.A/sr_nao.npz", "ABACUS' form for numpy"),
        ("OUT.A/matrix/0_data-HR-sparse_SPIN0.csr", "one step of molecular dynamics"),
        ("data.17.lmdb/data.mdb", "pickles in a database"),
    ):
        folder = tmp_path / name.replace("/", "_")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"0")
        with pytest.raises(DataError, match=told):
            find_sources([folder])


def test_matrices_that_do_not_name_their_step(files):
    """Before ABACUS 3 there was no line STEP: of a relaxation nothing says which step they are."""
    out = files / "al" / "OUT.ABACUS"
    expected = read_abacus(out)
    for path in out.glob("*.csr"):
        edit(path, r"\ASTEP: 0\n", "")
    np.testing.assert_array_equal(read_abacus(out).overlap_blocks, expected.overlap_blocks)
    with (out / "running_scf.log").open("a") as log:
        log.write(" TOTAL-FORCE (eV/Angstrom)\n" * 2)
    with pytest.raises(DataError, match=r"one H\(R\), of a run of 2 ionic steps"):
        read_abacus(out)


def table(fractional, title="DIRECT COORDINATES"):
    """Positions as ABACUS prints them before a step."""
    head = (
        f"{title}\n    atom                   x                   y                   z     mag\n"
    )
    rows = "".join(
        f"taud_C{n + 1:<5d}{x:20.10f}{y:20.10f}{z:20.10f}  0.0000\n"
        for n, (x, y, z) in enumerate(fractional)
    )
    return f"{head}{rows}\n\n"


def test_ionic_steps_of_abacus(tmp_path):
    """H(R) of the second step of a relaxation has the atoms, forces and energy of that step.

    ``STRU`` holds the first one. ABACUS writes the step into the matrices, prints positions before
    each, and with ``out_app_flag 0`` numbers the files of the newer layout.
    """
    sample = by_element(slater_koster_sample())
    inverse = np.linalg.inv(sample.cell)
    then = (sample.positions @ inverse + 1e4) % 1.0
    first = then.copy()
    first[0] += [0.02, -0.01, 0.0]
    for layout in ("older", "newer"):
        out = write_abacus(tmp_path / layout, sample, layout)
        expected = read_abacus(out)
        log, stru = out / "running_scf.log", out.parent / "STRU"
        text = log.read_text()
        start = text.index(" EFERMI")
        earlier = re.sub(r"EFERMI = \S+", "EFERMI = 9.0", text[start:].replace("0.", "1."))
        tables = f"K-POINTS {table(first)}{table(then)}"
        log.write_text(f"{text[:start]}{table(first)}{earlier}{tables}{text[start:]}")
        log.rename(out / "running_relax.log")
        (out / "running_nscf.log").write_text(" EFERMI = 7.0 eV\n")
        for old, new in zip(sample.positions @ inverse, first, strict=True):
            words = [" ".join(f"{x:.14f}" for x in row) for row in (old, new)]
            edit(stru, f"^{re.escape(words[0])} m", f"{words[1]} m")
        for path in list(out.glob("*.csr")):
            edit(path, "^STEP: 0|Ionic Step 1", "STEP: 1" if layout == "older" else "Ionic Step 2")
            if layout == "newer":
                path.rename(out / path.name.replace("_nao", "g2_nao"))
        [source] = find_sources([out])
        assert source.frame == (None if layout == "older" else 2)
        [structure] = read_source(source)
        moved = structure.atoms.positions @ inverse
        np.testing.assert_allclose(moved, then, atol=1e-9)
        assert structure.fermi_energy == pytest.approx(expected.fermi_energy)
        assert structure.energy == pytest.approx(expected.energy)
        np.testing.assert_allclose(structure.forces, expected.forces)
        bonds = [
            s.atoms.positions[s.edge_index[0]]
            + s.edge_cell_shift @ s.atoms.cell.array
            - s.atoms.positions[s.edge_index[1]]
            for s in (structure, expected)
        ]
        lengths = [np.sort(np.linalg.norm(vectors, axis=1)) for vectors in bonds]
        np.testing.assert_allclose(*lengths, atol=1e-8)


def test_turning_needs_bonds_in_space_and_a_cell_without_axes():
    """Tetrahedral bonds give the turn back; bonds in a plane, or a cell with axes, are left."""
    turn = Rotation.from_rotvec([0.4, -1.1, 2.0]).as_matrix()
    cell = np.diag([9.0, 9.0, 9.0])
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])

    def blocks(bonds):
        matrices = [np.eye(4)] + [
            np.block(
                [[np.array([[0.2]]), -0.3 * (b @ turn.T)[None, [1, 2, 0]]],
                 [0.3 * (b @ turn.T)[[1, 2, 0], None], np.zeros((3, 3))]]
            )
            for b in bonds
        ]  # fmt: skip
        pairs = np.array([[0, 0, 0, 0, n] for n in range(len(bonds) + 1)])
        ends = 16 * np.arange(len(matrices) + 1)
        return BlockList(pairs, np.concatenate([m.ravel() for m in matrices]), ends)

    def atoms(bonds, cell):
        return Atoms(f"C{len(bonds) + 1}", [[0, 0, 0], *bonds], cell=cell, pbc=True)

    given = atoms(corners, cell)
    turned, angle = turn_to_overlaps(given, {6: (0, 1)}, blocks(corners))
    np.testing.assert_allclose(turned.cell.array, cell @ turn.T, atol=1e-12)
    np.testing.assert_allclose(turned.positions, given.positions @ turn.T, atol=1e-12)
    assert angle == pytest.approx(np.degrees(np.linalg.norm([0.4, -1.1, 2.0])))
    plane = np.array([[1.4, 0, 0], [-0.7, 1.2, 0], [-0.7, -1.2, 0]])
    for bonds, box in ((plane, cell), (corners, cell[[1, 2, 0]])):
        same, angle = turn_to_overlaps(atoms(bonds, box), {6: (0, 1)}, blocks(bonds))
        assert angle == 0.0
        np.testing.assert_array_equal(same.cell.array, box)
