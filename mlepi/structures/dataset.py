"""The on-disk format of Hamiltonian data.

One HDF5 file, structures and ragged blocks in flat arrays with offsets.

``COLUMNS`` below is the format: every array with its type, unit and length. Besides them the file
holds, as attributes of its root, the format name and version, the orbital basis and the provenance
(JSON); every array carries its unit and the SHA-256 of its values. Blocks are float32, in internal
orbital order, one direction per pair (``ragged``); everything else is exact.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.ragged import (
    block_offsets,
    flatten_blocks,
    pad_blocks,
    restore_both_directions,
    select_one_direction,
)
from mlepi.structures.validation import check_hamiltonian_labels

FORMAT = "mlepi-hamiltonian"
FORMAT_VERSION = 1
CHUNK = 65536  # values per HDF5 chunk of a flat array; near one 36-atom structure


@dataclass(frozen=True)
class Column:
    """One array of the file: (length of its level, *shape), with its unit."""

    level: str  # structure | atom | edge | value; what the first axis counts
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = "1"
    ends: bool = False  # offsets: one entry more than its level has, the first is 0
    optional: bool = False


COLUMNS: dict[str, Column] = {
    "structures/name": Column("structure", "str"),
    "structures/provenance": Column("structure", "str"),  # JSON
    "structures/cell": Column("structure", "<f8", (3, 3), "angstrom"),  # rows = lattice vectors
    "structures/pbc": Column("structure", "|u1", (3,)),
    "structures/energy": Column("structure", "<f8", (), "eV"),  # NaN when there is none
    "structures/fermi_energy": Column("structure", "<f8", (), "eV"),  # NaN when there is none
    "structures/atom_offsets": Column("structure", "<i8", ends=True),
    "structures/edge_offsets": Column("structure", "<i8", ends=True),
    "structures/value_offsets": Column("structure", "<i8", ends=True),
    "atoms/numbers": Column("atom", "<i4"),
    "atoms/layer": Column("atom", "<i4"),
    "atoms/positions": Column("atom", "<f8", (3,), "angstrom"),
    "atoms/forces": Column("atom", "<f8", (3,), "eV/angstrom"),  # NaN when there are none
    "edges/index": Column("edge", "<i4", (2,)),  # source, target
    "edges/cell_shift": Column("edge", "<i4", (3,)),
    "blocks/hamiltonian": Column("value", "<f4", (), "eV"),
    "blocks/overlap": Column("value", "<f4", (), "1", optional=True),
}


def write_hamiltonian_dataset(
    path: str | Path, structures: Iterable[LabelledStructure], provenance: Mapping[str, Any]
) -> None:
    """Write structures with their Hamiltonians, one after the other, and move the finished file into place.

    Args:
        path: file to write; an existing one is replaced only after the new one is complete.
        structures: each with Hamiltonian blocks and a basis; overlaps for all of them or for none.
        provenance: how the data were made; plain Python data.

    Raises:
        DataError: a structure has no name, blocks or basis, a name occurs twice, blocks are not
            Hermitian, or the bases of two structures contradict each other.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with h5py.File(unfinished, "w", libver="v110") as file:
            _write(file, path, structures, provenance)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class HamiltonianDataset:
    """Structures with Hamiltonians, read one at a time from a file in the format of this module.

    The file is opened on first use in every process, so that an instance may be pickled to
    data-loader workers.

    Args:
        path: file written by ``write_hamiltonian_dataset``.

    Raises:
        DataError: the file is missing, is not such a file, is damaged, or is of an unknown version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = 0
        with self._reading("the file") as file:
            _check_layout(self.path, file)
            _verify(
                self.path,
                file,
                [key for key in COLUMNS if key.startswith(("structures/", "atoms/"))],
            )
            self.basis = OrbitalBasis.from_dict(json.loads(file.attrs["basis"]))
            self.provenance: dict[str, Any] = json.loads(file.attrs["provenance"])
            self.names = tuple(name.decode() for name in file["structures/name"][()])
            self.has_overlap = "blocks/overlap" in file
            self._ends = {
                level: file[f"structures/{level}_offsets"][()]
                for level in ("atom", "edge", "value")
            }
        self._positions = {name: index for index, name in enumerate(self.names)}
        if len(self._positions) != len(self.names):
            raise DataError(
                message(
                    str(self.path),
                    "two structures of one name",
                    "unique names",
                    "Write the data set again.",
                )
            )

    def __len__(self) -> int:
        """Count the structures."""
        return len(self.names)

    def __iter__(self) -> Iterator[LabelledStructure]:
        """Read all structures in order."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, item: int | str) -> LabelledStructure:
        """Read one structure, by position or by name, with both directions of its blocks in float64."""
        index = self.index(item) if isinstance(item, str) else range(len(self))[item]
        name = self.names[index]
        with self._reading(f"structure {name!r}") as file:
            row = {key: file[key][index] for key in COLUMNS if key.startswith("structures/")}
            part = {
                key: file[key][
                    self._ends[column.level][index] : self._ends[column.level][index + 1]
                ]
                for key, column in COLUMNS.items()
                if not key.startswith("structures/") and key in file
            }
            provenance = json.loads(row["structures/provenance"])
        forces = part["atoms/forces"]
        edge_index, edge_cell_shift, hamiltonian, overlap = self._blocks(name, part)
        return LabelledStructure(
            name=name,
            atoms=_atoms(row, part),
            basis=self.basis,
            edge_index=edge_index,
            edge_cell_shift=edge_cell_shift,
            hamiltonian_blocks=hamiltonian,
            overlap_blocks=overlap,
            fermi_energy=_number_or_none(row["structures/fermi_energy"]),
            energy=_number_or_none(row["structures/energy"]),
            forces=None if np.isnan(forces).any() else forces,
            provenance=provenance,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind when pickled."""
        return {**self.__dict__, "_file": None}

    def index(self, name: str) -> int:
        """Return the position of a structure; ``DataError`` when there is none of this name."""
        if name not in self._positions:
            raise DataError(
                message(
                    str(self.path),
                    f"the name {name!r}",
                    f"one of its {len(self)} structures",
                    "See .names.",
                )
            )
        return self._positions[name]

    def verify(self) -> None:
        """Compare the SHA-256 of every array with the stored one.

        ``DataError`` names the arrays that differ.
        """
        with self._reading("the file") as file:
            _verify(self.path, file, [key for key in COLUMNS if key in file])

    def close(self) -> None:
        """Close the file; the next access opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    @contextmanager
    def _reading(self, what: str) -> Iterator[h5py.File]:
        """Yield the open file of this process and turn what HDF5 raises on damaged files into one ``DataError``."""
        if not self.path.is_file():
            raise DataError(
                message(str(self.path), "no such file", "a Hamiltonian data set", "Check the path.")
            )
        try:
            if self._file is None or self._process != os.getpid():
                self._file, self._process = h5py.File(self.path, "r"), os.getpid()
            yield self._file
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            self.close()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                message(
                    str(self.path),
                    f"{what} unreadable ({reason})",
                    f"an intact HDF5 file of format {FORMAT}",
                    "Copy it again.",
                )
            ) from error

    def _blocks(
        self, name: str, part: Mapping[str, NDArray[Any]]
    ) -> tuple[
        NDArray[np.int64], NDArray[np.int64], NDArray[np.floating], NDArray[np.floating] | None
    ]:
        numbers, edge_index = part["atoms/numbers"], part["edges/index"].T
        if edge_index.size and (edge_index.min() < 0 or edge_index.max() >= len(numbers)):
            raise DataError(
                message(
                    f"{self.path}, {name}",
                    "an edge to no atom",
                    f"atoms 0…{len(numbers) - 1}",
                    "Copy it again.",
                )
            )
        counts = self.basis.counts(numbers)
        flat = [part[key] for key in ("blocks/hamiltonian", "blocks/overlap") if key in part]
        padded = [
            pad_blocks(
                values, counts[edge_index[1]], counts[edge_index[0]], self.basis.max_orbitals
            )
            for values in flat
        ]
        if not all(np.isfinite(blocks).all() for blocks in padded):
            raise DataError(
                message(
                    f"{self.path}, {name}",
                    "a block with NaN or infinity",
                    "finite numbers",
                    "Copy it again.",
                )
            )
        edges, shifts, blocks = restore_both_directions(
            edge_index, part["edges/cell_shift"], *padded
        )
        return edges, shifts, blocks[0], blocks[1] if len(blocks) > 1 else None


def _write(
    file: h5py.File,
    path: Path,
    structures: Iterable[LabelledStructure],
    provenance: Mapping[str, Any],
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
        rows = _rows(structure)
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
        for key, values in rows.items():
            _append(file, key, values)
    if basis is None:
        raise DataError(
            message(str(path), "no structure", "at least one", "Check the folder of labels.")
        )
    file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
    file.attrs["basis"], file.attrs["provenance"] = (
        json.dumps(basis.to_dict()),
        json.dumps(dict(provenance)),
    )
    for key in COLUMNS:
        if key in file:
            file[key].attrs["sha256"] = _checksum(file[key])


def _rows(structure: LabelledStructure) -> dict[str, Any]:
    """Turn one structure into what is appended to every array of the file.

    Offsets are lengths here.
    """
    basis, atoms = structure.basis, structure.atoms
    edges, shifts, blocks = (
        structure.edge_index,
        structure.edge_cell_shift,
        structure.hamiltonian_blocks,
    )
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
    keep = select_one_direction(edges, shifts)
    n_rows, n_columns = counts[edges[1, keep]], counts[edges[0, keep]]
    n_atoms = len(atoms)
    rows: dict[str, Any] = {
        "structures/name": [structure.name],
        "structures/provenance": [json.dumps(dict(structure.provenance))],
        "structures/cell": atoms.cell.array[None],
        "structures/pbc": atoms.pbc[None],
        "structures/energy": [np.nan if structure.energy is None else structure.energy],
        "structures/fermi_energy": [
            np.nan if structure.fermi_energy is None else structure.fermi_energy
        ],
        "structures/atom_offsets": n_atoms,
        "structures/edge_offsets": int(keep.sum()),
        "structures/value_offsets": int(block_offsets(n_rows, n_columns)[-1]),
        "atoms/numbers": atoms.numbers,
        "atoms/layer": atoms.arrays["layer"],
        "atoms/positions": atoms.positions,
        "atoms/forces": np.full((n_atoms, 3), np.nan)
        if structure.forces is None
        else structure.forces,
        "edges/index": edges.T[keep],
        "edges/cell_shift": shifts[keep],
    }
    for key, values in (
        ("blocks/hamiltonian", blocks),
        ("blocks/overlap", structure.overlap_blocks),
    ):
        if values is not None:
            rows[key] = flatten_blocks(values[keep], n_rows, n_columns)
    return rows


def _append(file: h5py.File, key: str, values: Any) -> None:
    column = COLUMNS[key]
    if key not in file:
        dtype: Any = h5py.string_dtype() if column.dtype == "str" else np.dtype(column.dtype)
        filters: dict[str, Any] = (
            {} if column.dtype == "str" else {"compression": 9, "shuffle": True, "fletcher32": True}
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
    values = [array[-1] + values] if column.ends else values
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
        {**basis.shells, **new.shells}, {**basis.radii, **new.radii}, {**basis.names, **new.names}
    )


def _atoms(row: Mapping[str, Any], part: Mapping[str, NDArray[Any]]) -> Atoms:
    atoms = Atoms(
        numbers=part["atoms/numbers"],
        positions=part["atoms/positions"],
        cell=row["structures/cell"],
        pbc=row["structures/pbc"],
    )
    atoms.set_array("layer", part["atoms/layer"].astype(np.int64))
    return atoms


def _number_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_layout(path: Path, file: h5py.File) -> None:
    """Raise ``DataError`` unless format, version, types, shapes and offsets of the file are those of ``COLUMNS``."""
    if file.attrs.get("format") != FORMAT:
        raise DataError(
            message(
                str(path),
                "a foreign HDF5 file",
                f"format {FORMAT!r}",
                "Convert it with a reader of mlepi.",
            )
        )
    if file.attrs["format_version"] != FORMAT_VERSION:
        got = f"format version {file.attrs['format_version']}"
        raise DataError(
            message(str(path), got, f"{FORMAT_VERSION}", "Use the mlepi version that wrote it.")
        )
    problems = [key for key, column in COLUMNS.items() if key not in file and not column.optional]
    if not problems:
        ends = {
            level: file[f"structures/{level}_offsets"][()] for level in ("atom", "edge", "value")
        }
        lengths = {
            "structure": len(file["structures/name"]),
            **{level: int(values[-1]) for level, values in ends.items()},
        }
        problems += [
            f"{level}_offsets"
            for level, values in ends.items()
            if values[0] != 0 or (np.diff(values) < 0).any()
        ]
        for key, column in COLUMNS.items():
            if key in file:
                shape = (lengths[column.level] + column.ends, *column.shape)
                same_type = (
                    h5py.check_string_dtype(file[key].dtype)
                    if column.dtype == "str"
                    else file[key].dtype == column.dtype
                )
                problems += [] if file[key].shape == shape and same_type else [key]
    if problems:
        raise DataError(
            message(
                str(path),
                f"missing or inconsistent {problems}",
                "the arrays of the format",
                "Copy it again.",
            )
        )


def _verify(path: Path, file: h5py.File, keys: Iterable[str]) -> None:
    damaged = [key for key in keys if file[key].attrs["sha256"] != _checksum(file[key])]
    if damaged:
        raise DataError(
            message(
                str(path),
                f"changed values in {damaged}",
                "those of the stored checksums",
                "Copy it again.",
            )
        )


def _checksum(array: h5py.Dataset) -> str:
    """Compute the SHA-256 of the values of one array, in stretches.

    Strings are separated by a zero byte.
    """
    digest = hashlib.sha256()
    step = 16 * CHUNK
    for start in range(0, len(array), step):
        values = array[start : start + step]
        digest.update(
            b"\0".join(values) + b"\0"
            if values.dtype == object
            else np.ascontiguousarray(values).tobytes()
        )
    return digest.hexdigest()
