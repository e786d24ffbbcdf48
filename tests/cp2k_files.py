"""A recorded calculation of CP2K, the data that it needs, and a program that plays it.

``tests/data/cp2k_hbn.tar.xz`` holds what CP2K 2023.1 wrote for two atoms of hexagonal boron
nitride, displaced, one of them outside the cell that CP2K counts from, with ``SETTINGS``; its list
of references and its timings are cut out. ``cp2k_hbn_input.txt`` is the input of another
calculation that has run. ``python tests/cp2k_files.py FOLDER`` records anew.
"""

import sys
import tarfile
from pathlib import Path

import numpy as np
from ase import Atoms

from mlepi.labelling import Cp2k
from mlepi.structures import OrbitalBasis

RECORDED = Path(__file__).parent / "data" / "cp2k_hbn.tar.xz"
INPUT = RECORDED.with_name("cp2k_hbn_input.txt")

SETTINGS = {
    "command": "cp2k",
    "data_folder": None,
    "hours": 0.1,
    "basis": "SZV-MOLOPT-SR-GTH",
    "potential": "GTH-PBE",
    "basis_file": "BASIS_MOLOPT",
    "potential_file": "GTH_POTENTIALS",
    "functional": "PBE",
    "dispersion": "DFTD3",
    "dispersion_reach": 15.0,
    "cutoff": 300.0,
    "relative_cutoff": 50.0,
    "k_spacing": 0.8,
    "vacuum": 6.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-7,
    "accuracy": 1e-12,
    "orbital_threshold": 1e-6,
    "steps": 60,
    "mixing": 0.3,
}

# VandeVondele, Hutter, J. Chem. Phys. 127, 114105 (2007), doi:10.1063/1.2770708
BASIS_SETS = """
 B  SZV-MOLOPT-SR-GTH SZV-MOLOPT-SR-GTH-q3
 1
 2 0 1 4 1 1
      3.053444073497  0.142389531583 -0.124774394633
      0.915483968316  0.070304308347 -0.383517801425
      0.329920053516 -0.657626233726 -0.645201457411
      0.101655384143 -0.417625483973 -0.369557407831
 N  SZV-MOLOPT-SR-GTH SZV-MOLOPT-SR-GTH-q5
 1
 2 0 1 5 1 1
      7.341988051825  0.113789156500 -0.053744330400
      2.542637110957  0.097294516500 -0.165752516200
      0.888574967229 -0.445077422600 -0.317365165600
      0.333802200435 -0.584142233900 -0.312039675200
      0.112012109029 -0.139562383500 -0.117936008100
"""

# Krack, Theor. Chem. Acc. 114, 145 (2005), doi:10.1007/s00214-005-0655-y; electrons only
POTENTIALS = "B GTH-PBE-q3 GTH-PBE\n    2    1\nN GTH-PBE-q5 GTH-PBE\n    2    3\n"


def hbn():
    """Return two displaced atoms of hexagonal boron nitride in a flat cell."""
    cell = np.array([[2.51, 0.0, 0.0], [-1.255, 2.1737237635, 0.0], [0.0, 0.0, 10.0]])
    positions = [[0.02, 0.0, 0.1], [0.0, 1.4491491757, 0.0]]
    return Atoms("BN", positions, cell=cell, pbc=True)


def write_data(folder):
    """Write what Cp2k reads of CP2K's data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "BASIS_MOLOPT").write_text(BASIS_SETS)
    (folder / "GTH_POTENTIALS").write_text(POTENTIALS)
    return folder


def unpack(folder):
    """Unpack the recorded calculation."""
    with tarfile.open(RECORDED) as archive:
        archive.extractall(folder, filter="data")
    return folder


def basis():
    """Return the basis of the recorded calculation, whose radii the output tells."""
    names = dict.fromkeys((5, 7), "SZV-MOLOPT-SR-GTH")
    return OrbitalBasis({5: (0, 1), 7: (0, 1)}, {5: 9.0, 7: 9.0}, names, {5: 3, 7: 5})


def play(folder, lines=()):
    """Return a code whose program plays the recorded calculation after some lines of shell."""
    write_data(folder / "data")
    recorded = unpack(folder / "played")
    program = folder / "cp2k_player"
    script = [
        "#!/bin/sh",
        'if [ "$1" = "--version" ]; then echo " CP2K version 2023.1"; exit; fi',
        *lines,
        f'cp "{recorded}"/*.csr "{recorded}"/bands.bs "{recorded}"/forces.txt .',
        f'cat "{recorded}/output.txt"',
    ]
    program.write_text("\n".join([*script, ""]))
    program.chmod(0o755)
    given = {"command": str(program), "data_folder": str(folder / "data")}
    return Cp2k(**{**SETTINGS, **given})


def main(folder):
    """Record the calculation anew: python tests/cp2k_files.py FOLDER, with CP2K installed."""
    from toy_labels import Told

    from mlepi.labelling import label_structures
    from mlepi.labelling.structure_files import NamedStructure

    label_structures(
        folder, [NamedStructure("hbn", hbn())], Cp2k(**SETTINGS), Told(), threads=1, keep="all"
    )
    done = folder / "jobs" / "hbn" / "attempt-1"
    with tarfile.open(RECORDED, "w:xz") as archive:
        for path in sorted(done.iterdir()):
            entry = archive.gettarinfo(path, f"./{path.name}")
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
    print(RECORDED, RECORDED.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
