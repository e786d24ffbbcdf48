"""Rebuild this data set from folders of OpenMX labels: ``python data/hbn_openmx/make.py FOLDER …``.

Each FOLDER holds one ``.npz`` per structure with the keys that ``openmx_labels`` lists. Everything
in them is used, in the order of the names, and all splits are made anew.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlepi.errors import MlepiError
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.openmx_labels import list_label_files, read_label_file, write_data_set
from mlepi.structures.splits import NamedSubsets, make_split, write_split
from mlepi.units import BOHR

HERE = Path(__file__).parent
BASIS = OrbitalBasis(
    shells={5: (0, 0, 1, 1), 7: (0, 0, 1, 1)},
    radii={5: 7.0 * BOHR, 7: 6.0 * BOHR},
    names={5: "B7.0-s2p2", 7: "N6.0-s2p2"},
)
SEED = 2602
SPLITS = {
    "hamiltonian_622": {"train": 0.6, "val": 0.2, "test": 0.2},
    "forces_81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
    "hamiltonian_81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
}
"""The ratios of the paper, for Hamiltonians and for forces; and for Hamiltonians of a network that
is shipped, which learns from as many as the forces do."""

IDEAL = "hbn1"
"""Kind of the undisplaced cell, a test subset of its own."""

PROVENANCE: dict[str, Any] = {
    "title": "bilayer hexagonal boron nitride: displaced and sliding configurations",
    "code": "OpenMX 3.9",
    "functional": "PBE + Grimme D2",
    "pseudopotentials": {"B": "B_PBE19", "N": "N_PBE19"},
    "basis": {"B": "B7.0-s2p2", "N": "N6.0-s2p2"},
    "settings": {
        "grid cutoff (Ry)": 200,
        "electronic temperature (K)": 300,
        "SCF criterion (Hartree)": 1e-8,
        "k-mesh": {"hbn1": [9, 9, 1], "hbn3": [3, 3, 1]},
        "spin": "none",
    },
    "orbital order": "e3nn (m = -l…l), permuted from OpenMX",
    "overlaps": "not stored: those of overlap_B7.0-s2p2_N6.0-s2p2.h5",
}


def make_splits(kinds: Mapping[str, str]) -> None:
    """Write the splits next to this file; kinds: name of a structure → how it was made."""
    (HERE / "splits").mkdir(exist_ok=True)
    displaced = {name: kind for name, kind in kinds.items() if kind != IDEAL}
    named = NamedSubsets(test={"ideal": sorted(set(kinds) - set(displaced))})
    for name, fractions in SPLITS.items():
        split = make_split(displaced, fractions, SEED)
        provenance = {"data": "hbn_openmx", "seed": SEED, "fractions": fractions}
        write_split(HERE / "splits" / f"{name}.json", split, provenance, named)


def main(folders: list[Path]) -> None:
    """Write hamiltonians.h5, forces.extxyz and the splits next to this file."""
    structures = [read_label_file(path, BASIS) for path in list_label_files(folders)]
    kinds = write_data_set(HERE, structures, PROVENANCE)
    make_splits(kinds)
    print(f"{len(structures)} structures written to {HERE}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python data/hbn_openmx/make.py FOLDER [FOLDER …]")
    try:
        main([Path(text) for text in sys.argv[1:]])
    except MlepiError as error:
        sys.exit(str(error))
