"""Reader of the legacy "processed" folder of DeepH-pack 1, DeepH-E3 and the published data sets.

Blocks are ⟨i, cell 0 | · | j, cell R⟩ with rows = orbitals of i, both directions and on-site blocks
included, in eV; lengths are in Å. Atoms are counted from 1 and orbitals are in OpenMX's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import assemble_labels
from mlepi.structures.block_checks import check_atom_indices, check_finite
from mlepi.structures.deeph_folder import (
    build_basis,
    join_blocks,
    open_matrix,
    read_fermi_energy,
    read_info,
    refuse_spin,
    require_file,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.small_datasets import read_small_datasets
from mlepi.untrusted import (
    check_size,
    check_text,
    guard,
    limit_memory,
    parse_json,
    parse_shells,
    read_text,
)

NUMBER = r"-?(?:0|[1-9]\d{0,9})"
KEY = re.compile(rf"\[(?:{NUMBER}, ?){{4}}{NUMBER}\]", re.ASCII)
"""Key of a block as DeepH writes it."""
NO_BRACKETS = str.maketrans("[],", "   ")
LARGEST = 2**31
"""Beyond all numbers of a key."""


@guard("a legacy DeepH folder")
def read_deeph_legacy(
    folder: str | Path,
    *,
    radii: Mapping[str, float] | None = None,
    order: str = "openmx",
    name: str | None = None,
) -> LabelledStructure:
    """Read one structure of the legacy "processed" layout.

    Args:
        folder: holds lat.dat, site_positions.dat (both with vectors as columns), element.dat,
            orbital_types.dat, info.json, overlaps.h5 and, unless it is overlap-only,
            hamiltonians.h5, keyed "[Rx, Ry, Rz, i, j]" with atoms from 1.
        radii: chemical symbol → orbital radius, Å; inferred from the pairs when None.
        order: orbital order inside a shell, a name in ``basis.ORBITAL_ORDERS``.
        name: name of the structure; that of the folder when None.

    Returns:
        Labels in internal units and order; pairs that only one matrix lists are zero in the other.

    Raises:
        DataError: a file is missing or damaged, the data are spinful, or an invariant of
            ``validation`` is broken.
    """
    path = Path(folder)
    where = str(path)
    info = read_info(path)
    refuse_spin(where, info.get("isspinful", False))
    atoms = _read_structure(path)
    numbers = atoms.numbers
    shells = _read_orbital_types(path, numbers)
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in numbers])
    overlap = _read_legacy_blocks(path / "overlaps.h5", counts)
    file = path / "hamiltonians.h5"
    hamiltonian = _read_legacy_blocks(file, counts) if file.exists() else None
    return assemble_labels(
        where,
        name or path.resolve().name,
        atoms,
        build_basis(where, atoms, shells, radii, overlap, hamiltonian),
        order=order,
        overlap=overlap,
        hamiltonian=hamiltonian,
        fermi_energy=read_fermi_energy(where, info, "fermi_level"),
        provenance={
            "format": "DeepH legacy",
            "folder": path.resolve().name,
            "radii": "given" if radii else "inferred",
        },
    )


def _read_structure(path: Path) -> Atoms:
    """Read element.dat, lat.dat and site_positions.dat."""
    numbers = load_table(path / "element.dat").ravel().astype(np.int64)
    cell = load_table(path / "lat.dat").T
    positions = load_table(path / "site_positions.dat").T
    if cell.shape != (3, 3) or positions.shape != (len(numbers), 3):
        raise DataError(
            message(
                str(path),
                f"lat.dat of shape {cell.T.shape} and site_positions.dat of shape "
                f"{positions.T.shape}",
                f"(3, 3) and (3, {len(numbers)}): vectors as columns",
                "Transpose the files.",
            )
        )
    for z in numbers:
        if not 0 < z < len(chemical_symbols):
            raise DataError(
                message(
                    f"{path / 'element.dat'}",
                    f"{z}",
                    "atomic numbers",
                    "Write one atomic number per line.",
                )
            )
    return Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True)


def load_table(file: Path) -> NDArray[np.float64]:
    """Read a table of numbers: 2-dimensional."""
    path = require_file(file)
    size = check_size(path)
    check_text(path, ends=True)
    try:
        with limit_memory(size):
            table = np.loadtxt(path, ndmin=2)
    except (ValueError, MemoryError, RuntimeError) as error:
        raise DataError(
            message(
                str(path), f"text that is no table ({error})", "numbers", "Write the file again."
            )
        ) from error
    check_finite(str(path), "table", table)
    return table


def _read_orbital_types(folder: Path, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    """Read the shells of every atom and condense them to one list per element."""
    path = require_file(folder / "orbital_types.dat")
    lines = [line.split() for line in read_text(path, strict=True).splitlines() if line.strip()]
    if len(lines) != len(numbers) or not all(word.isdigit() for words in lines for word in words):
        raise DataError(
            message(
                str(path),
                f"{len(lines)} lines of shells",
                f"{len(numbers)} lists of l",
                "One line per atom.",
            )
        )
    shells: dict[int, tuple[int, ...]] = {}
    for z, words in zip(numbers.tolist(), lines, strict=True):
        ls = parse_shells(str(path), [int(word[:4]) for word in words])
        if shells.setdefault(z, ls) != ls:
            raise DataError(
                message(
                    str(path),
                    f"shells {shells[z]} and {ls} for element {z}",
                    "one basis per element",
                    "Use one basis.",
                )
            )
    return shells


def _read_legacy_blocks(path: Path, counts: NDArray[np.int64]) -> BlockList:
    """Read one dataset per pair; atoms are counted from 1 in the keys and from 0 in the result."""
    with open_matrix(path) as file:
        found = list(read_small_datasets(str(path), file))
    if not found:
        raise DataError(
            message(str(path), "no blocks", "one dataset per pair", "Write the file again.")
        )
    pairs = _read_keys(str(path), [name for name, _ in found])
    check_atom_indices(str(path), pairs[:, 3:], len(counts), base=1)
    pairs[:, 3:] -= 1
    return join_blocks(str(path), pairs, [block for _, block in found], counts)


def _read_keys(where: str, names: list[str]) -> NDArray[np.int64]:
    """Read keys "[Rx, Ry, Rz, i, j]", all at once or else one by one to find the wrong one.

    Returns:
        (n, 5) int.
    """
    if all(map(KEY.fullmatch, names)):
        words = " ".join(names).translate(NO_BRACKETS).split()
        keys = np.array(words, dtype=np.int64).reshape(-1, 5)
        if int(np.abs(keys).max(initial=0)) < LARGEST:
            return keys
    return np.array([_read_key(where, text) for text in names], dtype=np.int64)


def _read_key(where: str, text: str) -> list[int]:
    try:
        key = parse_json(where, text)
    except DataError:
        key = None
    if isinstance(key, list) and _is_key(key):
        return key
    expected = "'[Rx, Ry, Rz, i, j]'"
    raise DataError(message(where, f"key {text!r}", expected, "Write the file again."))


def _is_key(key: list[Any]) -> bool:
    return len(key) == 5 and all(type(v) is int and abs(v) < LARGEST for v in key)
