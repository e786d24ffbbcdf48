"""Writer of Hamiltonian data in the format of ``dataset_format``, complete or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.hdf5_files import check_written, replace_hdf5
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset_format import (
    CHUNK,
    COLUMNS,
    FORMAT,
    HEADER_CHECKSUM,
    PACKED,
    PLAIN,
    add_to_checksum,
    hash_header,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.packing import pack_blocks
from mlepi.structures.ragged import block_offsets, flatten_blocks, select_one_direction
from mlepi.structures.validation import check_hamiltonian_labels


def write_hamiltonian_dataset(
    path: str | Path,
    structures: Iterable[LabelledStructure],
    provenance: Mapping[str, Any],
    quantum: float | None = None,
    compression: int | str | None = None,
) -> None:
    """Write structures with their Hamiltonians, one after the other.

    Args:
        path: file to write; an existing one is replaced only after the new one is complete.
        structures: each with Hamiltonian blocks and a basis; overlaps for all of them or for none.
        provenance: how the data were made; plain Python data.
        quantum: eV; round H to whole multiples of it and compress them, to a third of the size;
            None keeps float32.
        compression: of all arrays, 1 to 9, or "lzf" for files that do not last; None for 1, and 9
            with a quantum, which saves 3 % of float32 blocks and takes five times as long.

    Raises:
        DataError: a structure has no name, blocks or basis, a name occurs twice, blocks are not
            Hermitian, or the bases of two structures contradict each other.
    """
    path = Path(path)
    with replace_hdf5(path, libver="v110") as file:
        writer = ArrayWriter(file, compression or (1 if quantum is None else 9))
        _write(writer, path, structures, provenance, quantum)


def _write(
    writer: ArrayWriter,
    path: Path,
    structures: Iterable[LabelledStructure],
    provenance: Mapping[str, Any],
    quantum: float | None,
) -> None:
    """Append every structure, then add basis, provenance and checksums."""
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
        if names and ("blocks/overlap" in rows) != writer.has("blocks/overlap"):
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
        writer.append(rows)
    if basis is None:
        raise DataError(
            message(str(path), "no structure", "at least one", "Check the folder of labels.")
        )
    writer.finish(basis, provenance, quantum)


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


class ArrayWriter:
    """Arrays of an open data set, appended to, with the checksums of what is appended.

    Args:
        file: data set, empty.
        compression: of the arrays, 1 to 9 or "lzf".
    """

    def __init__(self, file: h5py.File, compression: int | str) -> None:
        self._file, self._compression = file, compression
        self._arrays: dict[str, h5py.Dataset] = {}
        self._digests: dict[str, Any] = {}
        self._ends: dict[str, int] = {}

    def has(self, key: str) -> bool:
        """Say whether there is an array, by its key of ``COLUMNS``."""
        return key in self._arrays

    def append(self, rows: Mapping[str, Any]) -> None:
        """Append values, and make arrays that are not there.

        Args:
            rows: key of ``COLUMNS`` → values; lengths, or one of them, stand for offsets.

        Raises:
            OSError: something could not be written before.
        """
        check_written(self._file)
        for key, values in rows.items():
            column = COLUMNS[key]
            typed: NDArray[Any]
            if key not in self._arrays:
                self._create(key)
            if column.dtype == "str":
                texts = [text.encode() if isinstance(text, str) else text for text in values]
                typed = np.array(texts, dtype=object)
            elif column.ends:
                typed = self._ends[key] + np.cumsum(np.atleast_1d(values), dtype=column.dtype)
                self._ends[key] = int(typed[-1])
            else:
                typed = np.asarray(values, dtype=column.dtype)
            array, start = self._arrays[key], len(self._arrays[key])
            array.resize(start + len(typed), axis=0)
            array[start:] = typed
            add_to_checksum(self._digests[key], typed)

    def _create(self, key: str) -> None:
        """Make an array, empty or with the first of its offsets."""
        column = COLUMNS[key]
        is_text = column.dtype == "str"
        packed = {"compression": self._compression, "shuffle": True, "fletcher32": True}
        chunk = max(1, CHUNK // int(np.prod(column.shape))) if column.level != "structure" else 64
        self._arrays[key] = self._file.create_dataset(
            key,
            shape=(int(column.ends), *column.shape),
            data=[0] if column.ends else None,
            dtype=h5py.string_dtype() if is_text else np.dtype(column.dtype),
            maxshape=(None, *column.shape),
            chunks=(chunk, *column.shape),
            **({} if is_text else packed),
        )
        self._arrays[key].attrs["unit"] = column.unit
        self._digests[key] = hashlib.sha256()
        if column.ends:
            self._ends[key] = 0
            add_to_checksum(self._digests[key], np.zeros(1, dtype=column.dtype))

    def finish(
        self, basis: OrbitalBasis, provenance: Mapping[str, Any], quantum: float | None = None
    ) -> None:
        """Add what a data set has beside its arrays: basis, provenance, checksums of everything.

        Args:
            basis: of all structures.
            provenance: how the data were made; plain Python data.
            quantum: eV, of packed blocks; None where they are float32.
        """
        attributes = self._file.attrs
        attributes["format"] = FORMAT
        attributes["format_version"] = PLAIN if quantum is None else PACKED
        if quantum is not None:
            attributes["quantum"] = quantum
        attributes["basis"] = json.dumps(basis.to_dict())
        attributes["provenance"] = json.dumps(dict(provenance))
        for key, array in self._arrays.items():
            array.attrs["sha256"] = self._digests[key].hexdigest()
        attributes[HEADER_CHECKSUM] = hash_header(self._file)
