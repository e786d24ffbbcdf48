"""Writer of Hamiltonian data in the format of ``dataset_format``, complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset_format import (
    CHUNK,
    COLUMNS,
    FORMAT,
    HEADER_CHECKSUM,
    PACKED,
    PLAIN,
    checksum,
    hash_header,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.packing import pack_blocks
from mlepi.structures.ragged import block_offsets, flatten_blocks, select_one_direction
from mlepi.structures.validation import check_hamiltonian_labels
from mlepi.untrusted import note_own


def write_hamiltonian_dataset(
    path: str | Path,
    structures: Iterable[LabelledStructure],
    provenance: Mapping[str, Any],
    quantum: float | None = None,
) -> None:
    """Write structures with their Hamiltonians, one after the other.

    Args:
        path: file to write; an existing one is replaced only after the new one is complete.
        structures: each with Hamiltonian blocks and a basis; overlaps for all of them or for none.
        provenance: how the data were made; plain Python data.
        quantum: eV; round H to whole multiples of it and compress them, to a third of the size;
            None keeps float32.

    Raises:
        DataError: a structure has no name, blocks or basis, a name occurs twice, blocks are not
            Hermitian, or the bases of two structures contradict each other.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with h5py.File(unfinished, "w", libver="v110") as file:
            _write(file, path, structures, provenance, quantum)
        unfinished.replace(path)
        note_own(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(
    file: h5py.File,
    path: Path,
    structures: Iterable[LabelledStructure],
    provenance: Mapping[str, Any],
    quantum: float | None,
) -> None:
    """Append every structure to the open file, then add basis, provenance and checksums."""
    names: set[str] = set()
    basis: OrbitalBasis | None = None
    for structure in structures:
        if not structure.name or structure.name in names:
            raise DataError(
                message(
                    str(path),
                    f"the name {structure.name!r}",
                    "unique, not empty",
                    "Rename the structure.",
                )
            )
        rows = _rows(structure, quantum)
        if names and ("blocks/overlap" in rows) != ("blocks/overlap" in file):
            raise DataError(
                message(
                    structure.name,
                    "overlaps for some structures only",
                    "for all or none",
                    "Add or drop them.",
                )
            )
        names.add(structure.name)
        basis = _merge_bases(basis, structure)
        append_rows(file, rows, 1 if quantum is None else 9)
    if basis is None:
        raise DataError(
            message(str(path), "no structure", "at least one", "Check the folder of labels.")
        )
    finish(file, basis, provenance, quantum)


def finish(
    file: h5py.File,
    basis: OrbitalBasis,
    provenance: Mapping[str, Any],
    quantum: float | None = None,
) -> None:
    """Add what a data set has beside its arrays: basis, provenance and the checksums of everything.

    Args:
        file: open data set with all its arrays.
        basis: of all structures.
        provenance: how the data were made; plain Python data.
        quantum: eV, of packed blocks; None where they are float32.
    """
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = PLAIN if quantum is None else PACKED
    if quantum is not None:
        file.attrs["quantum"] = quantum
    file.attrs["basis"] = json.dumps(basis.to_dict())
    file.attrs["provenance"] = json.dumps(dict(provenance))
    for key in COLUMNS:
        if key in file:
            file[key].attrs["sha256"] = checksum(file[key])
    file.attrs[HEADER_CHECKSUM] = hash_header(file)


def _rows(structure: LabelledStructure, quantum: float | None) -> dict[str, Any]:
    """Turn one structure into what is appended to every array; lengths stand for offsets."""
    basis, atoms = structure.basis, structure.atoms
    edges, shifts = structure.edge_index, structure.edge_cell_shift
    blocks, forces = structure.hamiltonian_blocks, structure.forces
    if basis is None or edges is None or shifts is None or blocks is None:
        raise DataError(
            message(
                structure.name,
                "no Hamiltonian",
                "blocks, edges and a basis",
                "Use extxyz for forces alone.",
            )
        )
    if "layer" not in atoms.arrays:
        raise DataError(
            message(
                structure.name,
                "no layer array",
                "atoms.arrays['layer']",
                "Call assign_layers first.",
            )
        )
    check_hamiltonian_labels(structure)
    counts = basis.counts(atoms.numbers)
    keep = np.flatnonzero(select_one_direction(edges, shifts))
    if quantum is not None:
        keep = keep[_order_by_length(atoms, edges[:, keep], shifts[keep])]
    n_rows, n_columns = counts[edges[1, keep]], counts[edges[0, keep]]
    n_atoms = len(atoms)
    rows: dict[str, Any] = {
        "structures/name": [structure.name],
        "structures/provenance": [json.dumps(dict(structure.provenance))],
        "structures/cell": atoms.cell.array[None],
        "structures/pbc": atoms.pbc[None],
        "structures/energy": [_number_or_nan(structure.energy)],
        "structures/fermi_energy": [_number_or_nan(structure.fermi_energy)],
        "structures/atom_offsets": n_atoms,
        "structures/edge_offsets": len(keep),
        "structures/value_offsets": int(block_offsets(n_rows, n_columns)[-1]),
        "atoms/numbers": atoms.numbers,
        "atoms/layer": atoms.arrays["layer"],
        "atoms/positions": atoms.positions,
        "atoms/forces": np.full((n_atoms, 3), np.nan) if forces is None else forces,
        "edges/index": edges.T[keep],
        "edges/cell_shift": shifts[keep],
    }
    matrices = {"blocks/overlap": structure.overlap_blocks}
    if quantum is None:
        matrices["blocks/hamiltonian"] = blocks
    else:
        rows["blocks/packed_hamiltonian"] = pack_blocks(blocks[keep], quantum)
        rows["structures/byte_offsets"] = len(rows["blocks/packed_hamiltonian"])
    for key, values in matrices.items():
        if values is not None:
            rows[key] = flatten_blocks(values[keep], n_rows, n_columns)
    return rows


def _order_by_length(
    atoms: Atoms, edges: NDArray[np.int64], shifts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Order pairs of atoms by their length, those inside a layer first: similar blocks together."""
    target, source = edges[1], edges[0]
    vectors = atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target]
    between = atoms.arrays["layer"][source] != atoms.arrays["layer"][target]
    return np.lexsort([np.linalg.norm(vectors, axis=1), between])


def _number_or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def append_rows(file: h5py.File, rows: Mapping[str, Any], compression: int = 1) -> None:
    """Append values to the arrays of an open data set, and make those that are not there.

    Args:
        file: data set.
        rows: key of ``COLUMNS`` → values; lengths, or one of them, stand for offsets.
        compression: of new arrays, 1 to 9; more than 1 saves 3 % of float32 blocks and takes five
            times as long.
    """
    for key, values in rows.items():
        _append(file, key, values, compression)


def _append(file: h5py.File, key: str, values: Any, compression: int) -> None:
    column = COLUMNS[key]
    if key not in file:
        dtype: Any = h5py.string_dtype() if column.dtype == "str" else np.dtype(column.dtype)
        filters: dict[str, Any] = (
            {}
            if column.dtype == "str"
            else {"compression": compression, "shuffle": True, "fletcher32": True}
        )
        chunk = max(1, CHUNK // int(np.prod(column.shape))) if column.level != "structure" else 64
        data = [0] if column.ends else None
        shape = (len(data) if data else 0, *column.shape)
        file.create_dataset(
            key,
            shape=shape,
            data=data,
            dtype=dtype,
            maxshape=(None, *column.shape),
            chunks=(chunk, *column.shape),
            **filters,
        )
        file[key].attrs["unit"] = column.unit
    array = file[key]
    values = array[-1] + np.cumsum(np.atleast_1d(values)) if column.ends else values
    start = len(array)
    array.resize(start + len(values), axis=0)
    array[start:] = values


def _merge_bases(basis: OrbitalBasis | None, structure: LabelledStructure) -> OrbitalBasis | None:
    """Unite the bases of all structures; ``DataError`` when one element has two bases."""
    new = structure.basis
    if basis is None or new is None:
        return new
    for z in set(basis.elements) & set(new.elements):
        if (basis.shells[z], basis.radii[z]) != (new.shells[z], new.radii[z]):
            got = f"shells {new.shells[z]}, radius {new.radii[z]} Å for element {z}"
            expected = f"{basis.shells[z]}, {basis.radii[z]} Å as before"
            raise DataError(
                message(
                    structure.name,
                    got,
                    expected,
                    "Give the reader the same basis for every structure.",
                )
            )
    return OrbitalBasis(
        {**basis.shells, **new.shells},
        {**basis.radii, **new.radii},
        {**basis.names, **new.names},
        {**basis.valence_electrons, **new.valence_electrons},
    )
