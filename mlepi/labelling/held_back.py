"""Labels that are there already, in the place of DFT: what a loop would have done with fewer.

A data set is the oracle. A structure is looked up by its positions, so that its name and where it
comes from do not matter; one that the set does not hold cannot be labelled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mlepi.errors import ConfigError, DataError, message
from mlepi.labelling.code import Calculation, Code
from mlepi.project_files import find_file
from mlepi.results import hash_file
from mlepi.structures import HamiltonianDataset, LabelledStructure, read_forces_dataset

if TYPE_CHECKING:
    from mlepi.physics.overlaps import RadialOverlaps
    from mlepi.structures import OrbitalBasis

TOLERANCE = 1e-6
"""Å, of positions and cells by which structures are told apart; files keep eight decimals."""


class HeldBack(Code):
    """Labels of a data set, one by one as they are asked for.

    Args:
        hamiltonians: data set of H and S; None for forces alone.
        forces: data set of energies and forces; None for those that the other has.
        overlap: table of overlaps of the basis; None for no table.

    Raises:
        ConfigError: neither data set is given.
        DataError: a file is not there.
    """

    attempts = 1

    def __init__(
        self, *, hamiltonians: str | None, forces: str | None, overlap: str | None
    ) -> None:
        if hamiltonians is None and forces is None:
            fix = "Give dft.hamiltonians=FILE.h5, dft.forces=FILE.extxyz or both."
            raise ConfigError(message("dft", "no data set", "one that holds labels", fix))
        given = {"hamiltonians": hamiltonians, "forces": forces, "overlap": overlap}
        self._files = {
            kind: find_file(f"dft.{kind}", path) for kind, path in given.items() if path is not None
        }
        self.gives_matrices = hamiltonians is not None

    def find_version(self) -> str:
        """Return what computes."""
        return "labels held back"

    def describe(self) -> dict[str, Any]:
        """Return the digests of the files."""
        return {
            "model": "labels of a data set",
            **{kind: hash_file(path) for kind, path in self._files.items()},
        }

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the places of the structure in the data sets.

        Raises:
            DataError: one of them does not hold it.
        """
        places = {kind: find_place(atoms, known) for kind, known in self._known.items()}
        absent = [str(self._files[kind]) for kind, place in places.items() if place is None]
        if absent:
            fix = "Take candidates=FILE from the same data set."
            expected = f"one of {', '.join(absent)}"
            raise DataError(message("structure", "one without labels", expected, fix))
        return json.dumps(places)

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Return the labels of a structure."""
        places, found = json.loads(calculation.text), None
        if "hamiltonians" in places:
            data = HamiltonianDataset(self._files["hamiltonians"])
            try:
                found = data[places["hamiltonians"]]
            finally:
                data.close()
        if "forces" in places:
            own = self._frames[places["forces"]]
            kept = {"energy": own.energy, "forces": own.forces, "stress": own.stress}
            found = own if found is None else replace(found, **kept)
        if found is None or found.forces is None:
            fix = "Give dft.forces=FILE.extxyz as well."
            raise DataError(message(calculation.name, "no forces", "forces", fix))
        return found

    def tabulate_overlaps(self, basis: OrbitalBasis) -> RadialOverlaps | None:
        """Return the table that was given."""
        if "overlap" not in self._files:
            return None
        from mlepi.physics.overlaps import read_overlap_table

        return read_overlap_table(self._files["overlap"])

    @cached_property
    def _frames(self) -> Sequence[LabelledStructure]:
        return read_forces_dataset(self._files["forces"])

    @cached_property
    def _known(self) -> dict[str, list[Atoms]]:
        """Kind of data → structures of the data set, in order."""
        found: dict[str, list[Atoms]] = {}
        if "hamiltonians" in self._files:
            data = HamiltonianDataset(self._files["hamiltonians"])
            try:
                found["hamiltonians"] = [data.outline(name).atoms for name in data.names]
            finally:
                data.close()
        if "forces" in self._files:
            found["forces"] = [structure.atoms for structure in self._frames]
        return found


def find_place(atoms: Atoms, known: Sequence[Atoms]) -> int | None:
    """Return which of several structures has the atoms of this one; None for none of them."""
    for place, other in enumerate(known):
        if (
            len(other) == len(atoms)
            and np.array_equal(other.numbers, atoms.numbers)
            and np.allclose(other.positions, atoms.positions, rtol=0.0, atol=TOLERANCE)
            and np.allclose(other.cell.array, atoms.cell.array, rtol=0.0, atol=TOLERANCE)
        ):
            return place
    return None
