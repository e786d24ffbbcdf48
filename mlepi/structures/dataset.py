"""Reader of Hamiltonian data in the format of ``dataset_format``, one structure at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset_format import (
    COLUMNS,
    FORMAT,
    PACKED,
    add_to_checksum,
    check_layout,
    find_arrays,
    tell_changed,
    verify_checksums,
    verify_header,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.packing import unpack_blocks
from mlepi.structures.ragged import pad_blocks, restore_both_directions
from mlepi.untrusted import open_hdf5, parse_json

FAILURES = (
    OSError,
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
"""What HDF5 and the layers above it raise for damaged files."""

HEAVIEST = 118
"""Atomic number of the last element."""


class HamiltonianDataset:
    """Structures with Hamiltonians, read one at a time.

    The file is opened on first use in every process, so that an instance may be pickled to
    data-loader workers.

    Args:
        path: file written by ``write_hamiltonian_dataset``.

    Attributes:
        quantum: eV, of which all elements of H are whole multiples; None when they are float32.

    Raises:
        DataError: the file is missing, is not such a file, is damaged, or is of an unknown version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = 0
        with self._reading("the file") as file:
            check_layout(self.path, file)
            verify_header(self.path, file)
            verify_checksums(
                self.path,
                file,
                [key for key in find_arrays(file) if key.startswith(("structures/", "atoms/"))],
            )
            self.basis = OrbitalBasis.from_dict(parse_json(str(self.path), file.attrs["basis"]))
            self.provenance: dict[str, Any] = parse_json(str(self.path), file.attrs["provenance"])
            self.names = tuple(name.decode() for name in file["structures/name"][()])
            self.has_overlap = "blocks/overlap" in file
            self.quantum: float | None = (
                float(file.attrs["quantum"]) if file.attrs["format_version"] == PACKED else None
            )
            self._ends = {
                level: file[f"structures/{level}_offsets"][()]
                for level in ("atom", "edge", "value", "byte")
                if f"structures/{level}_offsets" in file
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
        """Read one structure, by position or by name, both directions of its blocks in float64."""
        return self._read(item, with_blocks=True)

    def outline(self, item: int | str) -> LabelledStructure:
        """Read one structure without its blocks, which are nearly all of the file."""
        return self._read(item, with_blocks=False)

    def _read(self, item: int | str, with_blocks: bool) -> LabelledStructure:
        index = self.index(item) if isinstance(item, str) else range(len(self))[item]
        name = self.names[index]
        with self._reading(f"structure {name!r}") as file:
            arrays = find_arrays(file)
            levels = {key: COLUMNS[key].level for key in arrays}
            row = {key: arrays[key][index] for key in arrays if key.startswith("structures/")}
            part = {
                key: arrays[key][self._stretch(level, index)]
                for key, level in levels.items()
                if level != "structure" and (with_blocks or level == "atom")
            }
            provenance = parse_json(str(self.path), row["structures/provenance"])
        forces = part["atoms/forces"]
        self._check_numbers(name, row, part)
        outline = LabelledStructure(
            name=name,
            atoms=_atoms(row, part),
            fermi_energy=_number_or_none(row["structures/fermi_energy"]),
            energy=_number_or_none(row["structures/energy"]),
            forces=None if np.isnan(forces).any() else forces,
            provenance=provenance,
        )
        if not with_blocks:
            return outline
        edge_index, edge_cell_shift, hamiltonian, overlap = self._blocks(name, part)
        return replace(
            outline,
            basis=self.basis,
            edge_index=edge_index,
            edge_cell_shift=edge_cell_shift,
            hamiltonian_blocks=hamiltonian,
            overlap_blocks=overlap,
        )

    def _check_numbers(self, name: str, row: Mapping[str, Any], part: Mapping[str, Any]) -> None:
        """Refuse a structure with NaN or infinity where there must be numbers."""
        wrong = {
            "cell": ~np.isfinite(row["structures/cell"]),
            "positions": ~np.isfinite(part["atoms/positions"]),
            "energy": np.isinf(row["structures/energy"]),  # NaN stands for none
            "fermi_energy": np.isinf(row["structures/fermi_energy"]),
            "forces": np.isinf(part["atoms/forces"]),
        }
        for what, places in wrong.items():
            if places.any():
                raise DataError(
                    message(
                        f"{self.path}, {name}",
                        f"NaN or infinity in the {what}",
                        "finite numbers",
                        "Make the data set again without this structure.",
                    )
                )

        numbers = part["atoms/numbers"]
        if numbers.size and not 0 < numbers.min() <= numbers.max() <= HEAVIEST:
            got = f"atomic numbers {numbers.min()} to {numbers.max()}"
            expected = f"1 to {HEAVIEST}"
            raise DataError(message(f"{self.path}, {name}", got, expected, "Copy it again."))

    def _stretch(self, level: str, index: int) -> slice:
        """Return where the atoms, edges or values of a structure stand in the arrays of a level."""
        ends = self._ends[level]
        return slice(ends[index], ends[index + 1])

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

        Raises:
            DataError: some differ; the message names them.
        """
        with self._reading("the file") as file:
            verify_checksums(self.path, file, find_arrays(file))

    def read_arrays(self) -> dict[str, NDArray[Any]]:
        """Read all arrays of the file, key of ``COLUMNS`` → values, and verify each.

        Raises:
            DataError: some are not those of the stored checksums; the message names them.
        """
        with self._reading("the file") as file:
            arrays = find_arrays(file)
            values = {key: array[()] for key, array in arrays.items()}
            stored = {key: array.attrs["sha256"] for key, array in arrays.items()}
        damaged = []
        for key, read in values.items():
            digest = hashlib.sha256()
            add_to_checksum(digest, read)
            damaged += [] if digest.hexdigest() == stored[key] else [key]
        tell_changed(self.path, damaged)
        return values

    def close(self) -> None:
        """Close the file; the next access opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    @contextmanager
    def _reading(self, what: str) -> Iterator[h5py.File]:
        """Yield the open file of this process; all that HDF5 raises becomes a ``DataError``."""
        if not self.path.is_file():
            raise DataError(
                message(str(self.path), "no such file", "a Hamiltonian data set", "Check the path.")
            )
        try:
            if self._file is None or self._process != os.getpid():
                expected = f"an intact HDF5 file of format {FORMAT}"
                self._file = open_hdf5(self.path, expected, "Copy it again.", f"{what} unreadable")
                self._process = os.getpid()
            yield self._file
        except DataError:
            self.close()
            raise
        except FAILURES as error:
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
        """Return edges, shifts, Hamiltonian and overlap blocks of one structure."""
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
        n_rows, n_columns = counts[edge_index[1]], counts[edge_index[0]]
        size = self.basis.max_orbitals
        padded = [pad_blocks(values, n_rows, n_columns, size) for values in flat]
        if self.quantum is not None:
            packed = part["blocks/packed_hamiltonian"]
            padded.insert(0, unpack_blocks(packed, len(n_rows), size, self.quantum))
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
