"""Joins data sets of Hamiltonians to one, array by array, complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_format import COLUMNS
from mlepi.structures.dataset_writer import append_rows, finish
from mlepi.untrusted import note_own, open_hdf5


def merge_hamiltonian_datasets(
    path: str | Path,
    parts: Sequence[Path],
    provenance: Mapping[str, Any],
    largest_radii: bool = False,
    electrons: Mapping[int, float] | None = None,
) -> None:
    """Write the structures of several data sets, in their order, as one.

    Args:
        path: file to write; an existing one is replaced only after the new one is complete.
        parts: data sets with float32 blocks; all with overlaps or none.
        provenance: of the new data set.
        largest_radii: of an element with different radii take the largest, for formats that do not
            hold them; else they are an error.
        electrons: atomic number → valence electrons; of others those that the parts name.

    Raises:
        DataError: two parts contradict each other in shells, radii or overlaps, or a name repeats.
    """
    path = Path(path)
    basis: OrbitalBasis | None = None
    names: set[str] = set()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with h5py.File(unfinished, "w", libver="v110") as file:
            for part in parts:
                opened = HamiltonianDataset(part)
                basis = _unite(opened, basis, largest_radii)
                if names & set(opened.names):
                    got = f"the name {sorted(names & set(opened.names))[0]!r} twice"
                    raise DataError(message(str(path), got, "unique names", "Rename a file."))
                names |= set(opened.names)
                with open_hdf5(Path(part)) as given:
                    if "edges/index" in file and ("blocks/overlap" in given) != (
                        "blocks/overlap" in file
                    ):
                        got, fix = "overlaps for some structures only", "Leave the others out."
                        raise DataError(message(opened.names[0], got, "for all or none", fix))
                    append_rows(file, {key: _values(given, key) for key in COLUMNS if key in given})
            if basis is None:
                raise DataError(message(str(path), "no structure", "at least one", "Check them."))
            if electrons is not None:
                known = {**basis.valence_electrons, **electrons}
                basis = replace(basis, valence_electrons=known)
            finish(file, basis, provenance)
        unfinished.replace(path)
        note_own(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _values(file: h5py.File, key: str) -> Any:
    """Return the values of an array; lengths for offsets."""
    return np.diff(file[key][()]) if COLUMNS[key].ends else file[key][()]


def _unite(opened: HamiltonianDataset, basis: OrbitalBasis | None, largest: bool) -> OrbitalBasis:
    """Unite bases; an element must have the same shells, and radii unless the largest wins."""
    new = opened.basis
    if basis is None:
        return new
    radii = {**basis.radii, **new.radii}
    for z in set(basis.elements) & set(new.elements):
        differ = abs(basis.radii[z] - new.radii[z]) > 1e-9 and not largest
        if basis.shells[z] != new.shells[z] or differ:
            raise DataError(
                message(
                    opened.names[0],
                    f"shells {new.shells[z]}, radius {new.radii[z]} Å for element {z}",
                    f"{basis.shells[z]}, {basis.radii[z]} Å as before",
                    "Structures with different bases are different data sets.",
                )
            )
        radii[z] = max(basis.radii[z], new.radii[z])
    names = {**basis.names, **new.names}
    electrons = {**basis.valence_electrons, **new.valence_electrons}
    return OrbitalBasis({**basis.shells, **new.shells}, radii, names, electrons)
