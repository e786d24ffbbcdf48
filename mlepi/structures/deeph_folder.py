"""What both layouts of DeepH's folders have: info.json, HDF5 files, and no spin and no radii.

Neither layout holds orbital radii: give them as ``radii``; without, half the longest pair of equal
elements is taken (see ``assembly.infer_radii``), a lower bound that may differ between the
structures of one data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import infer_radii
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.block_checks import check_atom_indices
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.small_datasets import REFUSED_SPIN
from mlepi.untrusted import open_hdf5, read_json


def require_file(path: Path) -> Path:
    """Return the path of a file of a folder; ``DataError`` when it is missing."""
    if not path.is_file():
        raise DataError(
            message(
                str(path.parent),
                f"no file {path.name}",
                f"a DeepH folder with {path.name}",
                "Check the folder.",
            )
        )
    return path


def read_info(folder: Path) -> dict[str, Any]:
    """Read info.json; ``DataError`` when it is no JSON object."""
    path = require_file(folder / "info.json")
    info = read_json(path)
    if not isinstance(info, dict):
        raise DataError(
            message(str(path), type(info).__name__, "a JSON object", "Write the file again.")
        )
    return info


def refuse_spin(where: str, spinful: Any) -> None:
    """Raise ``DataError`` for spinful data."""
    if spinful:
        raise DataError(
            message(
                where,
                *REFUSED_SPIN,
                "Repeat the calculation without spin.",
            )
        )


def read_fermi_energy(where: str, info: Mapping[str, Any], key: str) -> float | None:
    """Return the Fermi energy in eV, None where the file has none."""
    value = info.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(
            message(
                f"{where}/info.json",
                f"{key} = {value!r}",
                "a number in eV",
                f"Write the Fermi energy as {key}, or leave the key out.",
            )
        )
    return float(value)


def build_basis(
    where: str,
    atoms: Atoms,
    shells: Mapping[int, tuple[int, ...]],
    radii: Mapping[str, float] | None,
    overlap: BlockList,
    hamiltonian: BlockList | None,
    names: Mapping[str, str] | None = None,
) -> OrbitalBasis:
    """Join shells with radii, given or inferred from all pairs.

    Args:
        where: folder, for messages.
        atoms: structure, Å.
        shells: atomic number → l of its shells.
        radii: chemical symbol → orbital radius, Å; None to infer them.
        overlap: overlap blocks.
        hamiltonian: Hamiltonian blocks, or None.
        names: chemical symbol → name of its basis.

    Raises:
        DataError: an element has no radius.
    """
    elements = sorted({int(z) for z in atoms.numbers})
    if radii is None:
        lists = [blocks.pairs for blocks in (overlap, hamiltonian) if blocks is not None]
        for pairs in lists:
            check_atom_indices(where, pairs[:, 3:], len(atoms), base=0)
        by_number = infer_radii(atoms, np.concatenate(lists))
    else:
        missing = sorted({chemical_symbols[z] for z in elements} - set(radii))
        if missing:
            raise DataError(
                message(
                    where,
                    f"no radius for {missing}",
                    "one radius in Å per element",
                    "Give their radii.",
                )
            )
        by_number = {z: float(radii[chemical_symbols[z]]) for z in elements}
    return OrbitalBasis(
        shells={z: shells[z] for z in elements},
        radii=by_number,
        names={z: (names or {}).get(chemical_symbols[z], "") for z in elements},
    )


def open_matrix(path: Path) -> h5py.File:
    """Open the HDF5 file of a matrix; ``DataError`` when it is missing or damaged."""
    return open_hdf5(require_file(path))


def check_shape(where: str, key: str, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Check that a block has the orbitals of its two atoms as rows and columns."""
    if shape != expected:
        raise DataError(
            message(
                where,
                f"a block of shape {shape} for pair {key}",
                f"{expected}, the orbitals of its atoms",
                "The orbital types do not belong to the matrices.",
            )
        )


def join_blocks(
    where: str,
    pairs: NDArray[np.int64],
    blocks: Sequence[NDArray[np.float64]],
    counts: NDArray[np.int64],
) -> BlockList:
    """Join blocks that were read one by one.

    Args:
        where: file, for messages.
        pairs: (n_pairs, 5) int, as in ``BlockList``.
        blocks: one per pair.
        counts: (n_atoms,) int, orbitals of every atom.

    Raises:
        DataError: a block has not the orbitals of its atoms, or has them twice (spin).
    """
    sizes = counts[pairs[:, 3:]].tolist()
    for pair, block, (n_rows, n_columns) in zip(pairs, blocks, sizes, strict=True):
        if block.shape != (n_rows, n_columns):
            refuse_spin(where, block.shape == (2 * n_rows, 2 * n_columns))
            check_shape(where, str(pair.tolist()), block.shape, (n_rows, n_columns))
    ends = np.concatenate([[0], np.cumsum([block.size for block in blocks])]).astype(np.int64)
    return BlockList(pairs, np.concatenate([block.ravel() for block in blocks]), ends)
