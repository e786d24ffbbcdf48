"""Joins data sets of Hamiltonians to one, array by array, complete or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message
from mlepi.hdf5_files import replace_hdf5
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_format import COLUMNS
from mlepi.structures.dataset_writer import ArrayWriter


def merge_hamiltonian_datasets(
    path: str | Path,
    parts: Sequence[HamiltonianDataset],
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
    with replace_hdf5(path, libver="v110") as file:
        writer = ArrayWriter(file, 1)
        for part in parts:
            basis = _unite(part, basis, largest_radii)
            if names & set(part.names):
                got = f"the name {sorted(names & set(part.names))[0]!r} twice"
                raise DataError(message(str(path), got, "unique names", "Rename a file."))
            if names and part.has_overlap != writer.has("blocks/overlap"):
                got, fix = "overlaps for some structures only", "Leave the others out."
                raise DataError(message(part.names[0], got, "for all or none", fix))
            names |= set(part.names)
            arrays = part.read_arrays()
            part.close()
            writer.append({k: np.diff(v) if COLUMNS[k].ends else v for k, v in arrays.items()})
        if basis is None:
            raise DataError(message(str(path), "no structure", "at least one", "Check them."))
        if electrons is not None:
            known = {**basis.valence_electrons, **electrons}
            basis = replace(basis, valence_electrons=known)
        writer.finish(basis, provenance)


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
