"""Rebuild this data set from folders of OpenMX labels: ``python data/blg_openmx/make.py FOLDER …``.

Each FOLDER holds one ``.npz`` per structure with the keys that the data card (README.md) lists.
Everything in them is used, in the order of the names, and all splits are made anew; those of the
first 45 structures stay what they were.
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
BASIS = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 6.0 * BOHR}, names={6: "C6.0-s2p2"})
QUANTUM = 5e-5
"""eV, of which all elements of H are multiples: 0.014 meV RMS, within what two versions differ."""

SEED = 2602
FRACTIONS = {
    "622": {"train": 0.6, "val": 0.2, "test": 0.2},
    "81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
}
"""The ratios of the paper, for Hamiltonians and for forces."""

FIRST = ("random3", "slide")
"""Kinds of the first version of this set, whose splits have to stay."""

TRAINED = (*FIRST, "thermal3", "shape")
"""Kinds that are divided; all others are test subsets of their own."""

TOGETHER = {"ideal3": "pair3"}
"""Kind → the test subset that it belongs to, where that has another name."""

PROVENANCE: dict[str, Any] = {
    "title": "bilayer graphene: random, sliding, thermal and twisted configurations in many cells",
    "code": "OpenMX 4.0 (random3, slide) and 3.9 (all others)",
    "functional": "PBE + Grimme D2",
    "pseudopotentials": {"C": "C_PBE19"},
    "basis": {"C": "C6.0-s2p2"},
    "settings": {
        "grid cutoff (Ry)": 200,
        "electronic temperature (K)": 300,
        "SCF criterion (Hartree)": 1e-8,
        "k-mesh": "18·2.46 Å/|A| along each lattice vector A in the plane",
        "spin": "none",
    },
    "orbital order": "e3nn (m = -l…l), permuted from OpenMX",
    "overlaps": "not stored: those of overlap_C6.0-s2p2.h5, to 5e-6",
}


def make_splits(kinds: Mapping[str, str]) -> None:
    """Write every split of the set next to this file.

    Args:
        kinds: name of a structure → how it was made.
    """
    (HERE / "splits").mkdir(exist_ok=True)
    provenance = {"data": "blg_openmx", "seed": SEED}
    first = {name: kind for name, kind in kinds.items() if kind in FIRST}
    trained = {name: kind for name, kind in kinds.items() if kind in TRAINED}
    tested: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if kind not in TRAINED:
            tested.setdefault(TOGETHER.get(kind, kind), []).append(name)
    for task, ratio in (("hamiltonian", "622"), ("forces", "81_09_10")):
        split = make_split(first, FRACTIONS[ratio], SEED, strata=first)
        described = {
            **provenance,
            "fractions": FRACTIONS[ratio],
            "strata": f"kind ({', '.join(FIRST)})",
        }
        unused = NamedSubsets(unused=sorted(set(kinds) - set(first)))
        write_split(HERE / "splits" / f"{task}_{ratio}.json", split, described, unused)
    for ratio, fractions in FRACTIONS.items():
        split = make_split(trained, fractions, SEED, strata=trained)
        # shapes last: data.n_train then gives the learning curve over their number
        split["train"].sort(key=lambda name: (TRAINED.index(kinds[name]), name))
        described = {
            **provenance,
            "fractions": fractions,
            "strata": f"kind ({', '.join(TRAINED)})",
        }
        parts = {
            subset: {
                kind: members
                for kind in ("thermal3", "shape")
                if (members := [name for name in split[subset] if kinds[name] == kind])
            }
            for subset in ("val", "test")
        }
        named = NamedSubsets(test={**parts["test"], **tested}, val=parts["val"])
        write_split(HERE / "splits" / f"shapes_{ratio}.json", split, described, named)
        if ratio == "622":
            square = [name for name in split["train"] if kinds[name] != "shape"]
            left = NamedSubsets(named.test, named.val, sorted(set(split["train"]) - set(square)))
            described["left out"] = "every cell of another shape than 1×1 and 3×3 from train"
            write_split(
                HERE / "splits" / "no_shapes_622.json", {**split, "train": square}, described, left
            )


def main(folders: list[Path]) -> None:
    """Write hamiltonians.h5, forces.extxyz and the splits next to this file."""
    structures = [read_label_file(path, BASIS) for path in list_label_files(folders)]
    kinds = write_data_set(HERE, structures, PROVENANCE, QUANTUM)
    make_splits(kinds)
    print(f"{len(structures)} structures written to {HERE}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python data/blg_openmx/make.py FOLDER [FOLDER …]")
    try:
        main([Path(text) for text in sys.argv[1:]])
    except MlepiError as error:
        sys.exit(str(error))
