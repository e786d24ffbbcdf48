"""One Hamiltonian and overlap in one HDF5 file, for use outside this package as well.

Layout (format 1): ``numbers`` (n_atoms,), ``positions`` (n_atoms, 3) Å, ``cell`` (3, 3) Å with
lattice vectors as rows, ``layer`` (n_atoms,) if known. The groups ``hamiltonian`` (eV) and
``overlap`` (dimensionless) each have their own pairs: ``edge_index`` (2, n_edges), row 0 = source
j, row 1 = target i; ``edge_cell_shift`` (n_edges, 3) = R; ``blocks`` (n_edges, p, p): block e = ⟨i,
cell 0| · |j, cell R⟩, rows are orbitals of i, zero-padded to p. On-site blocks and both directions
are present. The attribute ``mlepi`` is the version that wrote it (later than the first files);
``basis`` is JSON: ``shells`` maps an atomic number to its angular
momenta; inside a shell the functions are real harmonics in e3nn order, (y, z, x) for p. H(k) = Σ_R
e^{2πi k·R} H(R), k fractional.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.hdf5_files import replace_hdf5
from mlepi.results.provenance import find_version
from mlepi.results.upgrades import refuse_newer
from mlepi.structures.basis import OrbitalBasis
from mlepi.untrusted import open_hdf5, parse_json

FORMAT = 1
HEADER = "header_checksum"
UNITS = {"positions": "Å", "cell": "Å", "hamiltonian/blocks": "eV"}
"""Units of the datasets; the others are numbers without one."""
STRUCTURE = ("numbers", "positions", "cell", "layer")
MATRICES = ("hamiltonian", "overlap")


def write_hamiltonian(
    path: Path,
    atoms: Atoms,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    provenance: Mapping[str, Any],
) -> str:
    """Write H and S of one structure; the file appears complete or not at all.

    Args:
        path: the file.
        atoms: Å.
        hamiltonian: eV.
        overlap: of the same structure and basis.
        provenance: plain data.

    Returns:
        Checksum of all arrays (SHA-256).
    """
    arrays: dict[str, NDArray[Any]] = {
        "numbers": np.asarray(atoms.numbers, dtype=np.int64),
        "positions": atoms.positions,
        "cell": atoms.cell.array,
    }
    if "layer" in atoms.arrays:
        arrays["layer"] = np.asarray(atoms.arrays["layer"], dtype=np.int64)
    for name, matrix in zip(MATRICES, (hamiltonian, overlap), strict=True):
        arrays[f"{name}/edge_index"] = np.asarray(matrix.edge_index)
        arrays[f"{name}/edge_cell_shift"] = np.asarray(matrix.edge_cell_shift)
        arrays[f"{name}/blocks"] = np.asarray(matrix.blocks)
    checksum = _checksum(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_hdf5(path) as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "mlepi": find_version(),
                "basis": json.dumps(hamiltonian.basis.to_dict()),
                "checksum": checksum,
            }
        )
        file.attrs["provenance"] = json.dumps(provenance)
        file.attrs[HEADER] = _hash_header(file)
        for name, values in arrays.items():
            options = (
                {"compression": "gzip", "compression_opts": 1, "shuffle": True}
                if values.size > 4096
                else {}
            )
            file.create_dataset(name, data=values, **options).attrs["unit"] = UNITS.get(name, "1")
    return checksum


def read_hamiltonian(path: Path) -> tuple[Atoms, BlockMatrix, BlockMatrix]:
    """Read what ``write_hamiltonian`` wrote.

    Args:
        path: the file.

    Returns:
        Structure, Hamiltonian (eV) and overlap.

    Raises:
        DataError: the file is missing or damaged, or a newer version wrote it.
    """
    names = (
        *STRUCTURE,
        *(f"{m}/{part}" for m in MATRICES for part in ("edge_index", "edge_cell_shift", "blocks")),
    )
    try:
        with open_hdf5(path) as file:
            refuse_newer(str(path), int(file.attrs["format"]), FORMAT, file.attrs.get("mlepi"))
            arrays = {name: file[name][()] for name in names if name in file}
            basis = OrbitalBasis.from_dict(parse_json(str(path), str(file.attrs["basis"])))
            intact = file.attrs["checksum"] == _checksum(arrays)
            intact &= file.attrs.get(HEADER, _hash_header(file)) == _hash_header(file)
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            message(
                str(path),
                f"a missing or damaged file ({error})",
                "H and S of a structure",
                "Delete the run folder and run again.",
            )
        ) from error
    if not intact:
        raise DataError(
            message(
                str(path),
                "numbers that do not match their checksum",
                "H and S as written",
                "Delete the run folder and run again.",
            )
        )
    atoms = Atoms(arrays["numbers"], arrays["positions"], cell=arrays["cell"], pbc=True)
    if "layer" in arrays:
        atoms.arrays["layer"] = arrays["layer"]
    hamiltonian, overlap = (
        BlockMatrix(
            arrays["numbers"],
            basis,
            arrays[f"{m}/edge_index"],
            arrays[f"{m}/edge_cell_shift"],
            arrays[f"{m}/blocks"],
        )
        for m in MATRICES
    )
    return atoms, hamiltonian, overlap


def read_hamiltonian_provenance(path: Path) -> dict[str, Any]:
    """Return how the file was made, or nothing where it does not tell."""
    try:
        with open_hdf5(path) as file:
            found: dict[str, Any] = parse_json(str(path), str(file.attrs["provenance"]))
    except (DataError, OSError, LookupError, ValueError, RuntimeError):
        return {}
    return found


def _hash_header(file: h5py.File) -> str:
    """Digest basis and provenance; earlier versions did not write it."""
    words = [str(file.attrs[name]) for name in ("basis", "provenance")]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
