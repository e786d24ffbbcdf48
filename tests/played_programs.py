"""Programs of DFT that play prepared files, for the tests of labelling.

No run of SIESTA, ABACUS or VASP was recorded for these tests: what is played was written by the
independent writers of ``hamiltonian_samples`` and ``foreign_writers``, which follow the formats, or
comes from ``shared/data/foreign`` and from ASE's own test data, where a test says so.

``tests/data/openmx_c2.tar.xz`` holds .out (without its timings) and .scfout of a calculation of
``carbon()`` by OpenMX 3.9, changed to put its k-points on a mesh through Γ, with ``RECORDED``.
"""

import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.linalg
from ase import Atoms
from foreign_files import bloch_sum
from foreign_writers import write_abacus, write_hsx
from hamiltonian_samples import HARTREE, openmx_out, write_scfout

from mlepi.labelling import Abacus, Openmx, Siesta
from mlepi.labelling.abacus import LOG
from mlepi.labelling.structure_files import NamedStructure
from mlepi.structures.abacus_input import place_in_cell

COMMON = {"hours": 0.1, "k_spacing": 0.8, "vacuum": 6.0, "steps": 40, "mixing": 0.3}
HISTORY = "   SCF=    1  NormRD=  1.000000000000  Uele= -3.523169099737\n"
LAST = "   SCF=    2  NormRD=  0.000000100000  Uele= {:.12f}\n"


def play(folder, played, printed="", lines=()):
    """Return the command of a program that leaves files and prints a text.

    Args:
        folder: for the program.
        played: folder whose content it leaves.
        printed: what it prints.
        lines: of shell, before that.
    """
    (folder / "printed").write_text(printed)
    program = folder / "player"
    script = ["#!/bin/sh", *lines, f'cp -r "{played}"/. .', f'cat "{folder / "printed"}"', ""]
    program.write_text("\n".join(script))
    program.chmod(0o755)
    return str(program)


def moved(sample):
    """Return the structure of a sample with two atoms taken to other cells."""
    vectors = np.zeros((len(sample.numbers), 3))
    vectors[0], vectors[-1] = (1, 0, 0), (-2, 1, 0)
    atoms = Atoms(sample.numbers, sample.positions, cell=sample.cell, pbc=True)
    atoms.positions += vectors @ sample.cell
    return NamedStructure("one", atoms, {"kind": "played"})


def differ(structure, sample):
    """Return the largest difference of bands at a k-point on no mesh, eV, and of forces, eV/Å."""
    kpoint = np.array([0.11, 0.23, 0.0])
    dense = [
        bloch_sum(structure, blocks, kpoint)
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    ]
    bands = scipy.linalg.eigvalsh(*dense) - sample.eigenvalues(kpoint)
    return np.abs(bands).max(), np.abs(structure.forces - sample.forces).max()


def write_files(folder, *names):
    """Write files of some content, such as pseudopotentials, and return their folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    return str(folder)


def openmx(folder, sample, *, change=0.0, lines=()):
    """Return OpenMX that plays a sample; the energy of its last step changes by so much."""
    played = folder / "played"
    played.mkdir()
    write_scfout(played / "label.scfout", sample)
    banner = "This calculation was performed by OpenMX Ver. 3.9.9\n"
    history = HISTORY + LAST.format(-3.523169099737 + change)
    (played / "label.out").write_text(banner + history + openmx_out(sample))
    return Openmx(**{**OPENMX, "command": play(folder, played, lines=lines)})


OPENMX = {
    **COMMON,
    "command": "openmx",
    "data_folder": None,
    "bases": {"C": "C6.0-s2p2"},
    "valence_electrons": {"C": 4},
    "pseudopotentials": None,
    "functional": "GGA-PBE",
    "grid_cutoff": 200.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-8,
    "dispersion": True,
    "keywords": {"scf.Mixing.StartPulay": 10},
}
RECORDED = {
    **OPENMX,
    "bases": {"C": "C6.0-s1p1"},
    "grid_cutoff": 100.0,
    "electronic_temperature": 2000.0,
    "criterion": 1e-9,
    "dispersion": False,
    "k_spacing": 0.5,
    "steps": 100,
    "keywords": {"scf.fixed.grid": "0.0 0.0 0.0"},
}
BANDS = re.compile(r"k1=\s*(\S+) k2=\s*(\S+) k3=\s*(\S+)\s+((?:\d+ +\S+ +\S+\s+)+)")
BESIDE = np.array([1e-6, -1e-6, 2e-6])
"""How far OpenMX's k-points are from the mesh (Shift_K_Point), fractional."""


def carbon():
    """Return a chain of molecules of carbon."""
    positions = [[0.2, 3.3, 3.2], [1.3, 3.8, 3.6]]
    return Atoms("C2", positions, cell=[4.6, 7.0, 7.0], pbc=True)


def unpack_openmx(folder):
    """Unpack the recorded calculation; return OpenMX that plays it, and its bands in eV."""
    played = folder / "played"
    with tarfile.open(Path(__file__).parent / "data" / "openmx_c2.tar.xz") as archive:
        archive.extractall(played, filter="data")
    bands = [
        (
            np.array([float(x) for x in found.groups()[:3]]) + BESIDE,
            np.array([float(line.split()[1]) for line in found[4].strip().splitlines()]) * HARTREE,
        )
        for found in BANDS.finditer((played / "label.out").read_text())
    ]
    return Openmx(**{**RECORDED, "command": play(folder, played)}), bands


SIESTA_TEXT = """Siesta Version  : 5.0.0
{scf}
siesta: Program's energy decomposition (eV):
siesta: Etot    =      {energy:.6f}
siesta: FreeEng =      {energy:.6f}
"""


def siesta(folder, sample, *, scf="SCF cycle converged after 12 iterations"):
    """Return SIESTA that plays a sample and says of itself what ``scf`` says."""
    played = folder / "played"
    played.mkdir()
    write_hsx(played / "label.HSX", sample)
    text = SIESTA_TEXT.format(scf=scf, energy=sample.energy)
    given = {
        "command": play(folder, played, text),
        "potential_folder": write_files(folder / "pseudos", "C_pbe.psml"),
    }
    return Siesta(**{**SIESTA, **given})


SIESTA = {
    **COMMON,
    "command": "siesta",
    "potential_folder": None,
    "potentials": {"C": "C_pbe.psml"},
    "basis_size": "DZP",
    "energy_shift": 0.02,
    "functional": "GGA PBE",
    "grid_cutoff": 300.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-5,
    "fdf": {"DFTD3": True},
    "blocks": {"PAO.Basis": "C 1\n n=2 0 1"},
}


def abacus(folder, sample, *, end="charge density convergence is achieved"):
    """Return ABACUS that plays a sample and says of itself what ``end`` says.

    Its matrices count cells between the atoms as ``STRU`` has them: with atom a taken from r_a to
    r_a + n_a and all shifted alike, R of the pair i, j becomes R − n_j + n_i.
    """
    atoms = Atoms(sample.numbers, sample.positions, cell=sample.cell, pbc=True)
    steps = place_in_cell(atoms) - atoms.cell.scaled_positions(atoms.positions)
    n = np.rint(steps - steps[0]).astype(int)
    pairs = sample.pairs.copy()
    pairs[:, :3] += n[pairs[:, 3]] - n[pairs[:, 4]]
    placed = place_in_cell(atoms) @ sample.cell
    write_abacus(folder / "made", replace(sample, pairs=pairs, positions=placed))
    played = folder / "played"
    shutil.copytree(folder / "made" / "OUT.sample", played / "OUT.label")
    log = played / "OUT.label" / LOG
    log.write_text(f"WELCOME TO ABACUS v3.9.0\n {end}\n{log.read_text()}")
    given = {
        "command": play(folder, played),
        "potential_folder": write_files(folder / "pseudos", "C.upf"),
        "orbital_folder": write_files(folder / "orbitals", ABACUS["orbitals"]["C"]),
    }
    return Abacus(**{**ABACUS, **given})


ABACUS = {
    **COMMON,
    "command": "abacus",
    "potential_folder": None,
    "potentials": {"C": "C.upf"},
    "orbital_folder": None,
    "orbitals": {"C": "C_gga_6au_100Ry_2s2p.orb"},
    "functional": "pbe",
    "dispersion": "d3_bj",
    "cutoff": 100.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-8,
    "keywords": {"mixing_gg0": 0},
}
