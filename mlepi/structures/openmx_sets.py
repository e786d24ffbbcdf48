"""A data set of OpenMX labels: what it consists of, and the command that rebuilds it.

The scripts ``make.py`` in folders below ``data`` describe their set and call ``OpenmxSet.run``.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mlepi.errors import MlepiError
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.openmx_labels import list_label_files, read_label_file, write_data_set
from mlepi.structures.splits import NamedSubsets, make_split, write_split


@dataclass(frozen=True, kw_only=True)
class OpenmxSet:
    """Hamiltonians, forces and splits of one material.

    Attributes:
        folder: gets ``hamiltonians.h5``, ``forces.extxyz`` and ``splits``.
        basis: of the calculations.
        title: of the data set.
        pseudopotentials: symbol → name.
        k_mesh: kind of cell → divisions.
        overlap_table: file of the radial overlap functions, which stand in for S.
        splits: name → subset → fraction of the displaced structures.
        seed: of the splits.
        ideal: kinds of undisplaced cells, which are a test subset of their own, "ideal".
    """

    folder: Path
    basis: OrbitalBasis
    title: str
    pseudopotentials: Mapping[str, str]
    k_mesh: Mapping[str, Sequence[int]]
    overlap_table: str
    splits: Mapping[str, Mapping[str, float]]
    seed: int
    ideal: Collection[str]

    @property
    def provenance(self) -> dict[str, Any]:
        """What the data set says of its calculations, whose settings all sets share."""
        names = self.basis.names
        return {
            "title": self.title,
            "code": "OpenMX 3.9",
            "functional": "PBE + Grimme D2",
            "pseudopotentials": dict(self.pseudopotentials),
            "basis": {chemical_symbols[z]: names[z] for z in self.basis.elements},
            "settings": {
                "grid cutoff (Ry)": 200,
                "electronic temperature (K)": 300,
                "SCF criterion (Hartree)": 1e-8,
                "k-mesh": {kind: list(mesh) for kind, mesh in self.k_mesh.items()},
                "spin": "none",
            },
            "orbital order": "e3nn (m = -l…l), permuted from OpenMX",
            "overlaps": f"not stored: those of {self.overlap_table}",
        }

    def make_splits(self, kinds: Mapping[str, str]) -> None:
        """Write every split, each kind in proportion.

        Kinds alternate in the training subset, so that its first structures, ``data.n_train``, are
        a smaller one of the same kinds.

        Args:
            kinds: name of a structure → how it was made.
        """
        (self.folder / "splits").mkdir(exist_ok=True)
        displaced = {name: kind for name, kind in kinds.items() if kind not in self.ideal}
        named = NamedSubsets(test={"ideal": sorted(set(kinds) - set(displaced))})
        for name, fractions in self.splits.items():
            split = make_split(displaced, fractions, self.seed, strata=displaced)
            split["train"] = alternate(split["train"], displaced)
            provenance = {
                "data": self.folder.name,
                "seed": self.seed,
                "fractions": dict(fractions),
            }
            write_split(self.folder / "splits" / f"{name}.json", split, provenance, named)

    def rebuild(self, folders: Sequence[Path]) -> int:
        """Write all files anew from folders with one ``.npz`` of labels per structure.

        Everything in them is used, in the order of the names.

        Returns:
            Number of structures.

        Raises:
            DataError: labels are missing, damaged or do not fit the basis.
        """
        structures = [read_label_file(path, self.basis) for path in list_label_files(folders)]
        self.make_splits(write_data_set(self.folder, structures, self.provenance))
        return len(structures)

    def run(self) -> None:
        """Rebuild the set from the folders on the command line; end with a message on errors."""
        if len(sys.argv) < 2:
            sys.exit(f"usage: python data/{self.folder.name}/make.py FOLDER [FOLDER …]")
        try:
            number = self.rebuild([Path(text) for text in sys.argv[1:]])
        except MlepiError as error:
            sys.exit(str(error))
        print(f"{number} structures written to {self.folder}")


def alternate(names: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """Order structures so that any first part of them has their kinds in proportion.

    Args:
        names: unique, in the order that each kind keeps.
        kinds: name → kind.
    """
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(kinds[name], []).append(name)

    def place(name: str) -> tuple[float, str]:
        same = members[kinds[name]]
        return (same.index(name) + 0.5) / len(same), kinds[name]

    return sorted(names, key=place)
