"""One Hamiltonian and overlap in one HDF5 file, for use outside this package as well.

Layout (format 1): ``numbers`` (n_atoms,), ``positions`` (n_atoms, 3) Å, ``cell`` (3, 3) Å with lattice vectors as rows, ``layer``
(n_atoms,) if known; ``edge_index`` (2, n_edges), row 0 = source j, row 1 = target i; ``edge_cell_shift`` (n_edges, 3) = R;
``hamiltonian_blocks`` eV and ``overlap_blocks``, both (n_edges, p, p): block e = ⟨i, cell 0| · |j, cell R⟩, rows are orbitals of
i, zero-padded to p. On-site blocks and both directions are present. The attribute ``basis`` is JSON: ``shells`` maps an atomic
number to its angular momenta; inside a shell the functions are real harmonics in e3nn order, (y, z, x) for p.
H(k) = Σ_R e^{2πi k·R} H(R), k fractional.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.structures.basis import OrbitalBasis

FORMAT = 1
UNITS = {
    "numbers": "1",
    "positions": "Å",
    "cell": "Å",
    "layer": "1",
    "edge_index": "1",
    "edge_cell_shift": "1",
    "hamiltonian_blocks": "eV",
    "overlap_blocks": "1",
}


def write_hamiltonian(
    path: Path, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix, provenance: Mapping[str, Any]
) -> str:
    """Write H and S of one structure, atomically.

    Args:
        path: the file.
        atoms: Å.
        hamiltonian: eV.
        overlap: on the same edges.
        provenance: plain data.

    Returns:
        Checksum of all arrays (SHA-256).

    Raises:
        DataError: the two matrices do not share their edges.
    """
    if not (
        np.array_equal(hamiltonian.edge_index, overlap.edge_index)
        and np.array_equal(hamiltonian.edge_cell_shift, overlap.edge_cell_shift)
    ):
        raise DataError(message(str(path), "a Hamiltonian and an overlap on different edges", "the same edges", "Report this."))
    arrays = {
        "numbers": np.asarray(atoms.numbers, dtype=np.int64),
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "edge_index": np.asarray(hamiltonian.edge_index),
        "edge_cell_shift": np.asarray(hamiltonian.edge_cell_shift),
        "hamiltonian_blocks": np.asarray(hamiltonian.blocks),
        "overlap_blocks": np.asarray(overlap.blocks),
    }
    if "layer" in atoms.arrays:
        arrays["layer"] = np.asarray(atoms.arrays["layer"], dtype=np.int64)
    checksum = _checksum(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs.update({"format": FORMAT, "basis": json.dumps(hamiltonian.basis.to_dict()), "checksum": checksum})
            file.attrs["provenance"] = json.dumps(provenance)
            for name, values in arrays.items():
                options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if values.size > 4096 else {}
                file.create_dataset(name, data=values, **options).attrs["unit"] = UNITS[name]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return checksum


def read_hamiltonian(path: Path) -> tuple[Atoms, BlockMatrix, BlockMatrix]:
    """Read what ``write_hamiltonian`` wrote.

    Returns:
        Structure, Hamiltonian (eV) and overlap.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: file[name][()] for name in UNITS if name in file}
            basis = OrbitalBasis.from_dict(json.loads(str(file.attrs["basis"])))
            intact = file.attrs["format"] == FORMAT and file.attrs["checksum"] == _checksum(arrays)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(
            message(str(path), f"a missing or damaged file ({error})", "H and S of a structure", "Run stage=hamiltonian again.")
        ) from error
    if not intact:
        raise DataError(
            message(str(path), "numbers that do not match their checksum", "H and S as written", "Run stage=hamiltonian again.")
        )
    atoms = Atoms(arrays["numbers"], arrays["positions"], cell=arrays["cell"], pbc=True)
    if "layer" in arrays:
        atoms.arrays["layer"] = arrays["layer"]
    hamiltonian, overlap = (
        BlockMatrix(arrays["numbers"], basis, arrays["edge_index"], arrays["edge_cell_shift"], arrays[name])
        for name in ("hamiltonian_blocks", "overlap_blocks")
    )
    return atoms, hamiltonian, overlap


def _checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
