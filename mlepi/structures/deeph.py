"""Readers and writer of DeepH's folders.

The legacy "processed" folder and the new layout (POSCAR, ``*.h5`` in chunks).

Both hold ⟨i, cell 0 | · | j, cell R⟩ with rows = orbitals of i, both directions and on-site blocks,
in eV and Å. They differ in layout, in the base of atom indices (legacy 1, new 0) and in the orbital
order (legacy OpenMX's, new e3nn's). Neither holds orbital radii: give them as ``radii``; without,
half the longest pair of equal elements is taken (see ``assembly.infer_radii``), a lower bound that
may differ between the structures of one data set.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read as read_ase
from ase.io import write as write_ase
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import BlockList, assemble_labels, element_number, infer_radii
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.validation import check_atom_indices, check_finite, check_hamiltonian_labels

EXTRA_KEY = "mlepi"
"""Key of ``info.json`` under which ``write_deeph`` keeps what the layout has no place for; other
programs ignore it."""


def read_deeph_legacy(
    folder: str | Path,
    *,
    radii: Mapping[str, float] | None = None,
    order: str = "openmx",
    name: str | None = None,
) -> LabelledStructure:
    """Read a legacy "processed" folder, as DeepH-pack 1, DeepH-E3 and the published data sets use it.

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
    info = _read_info(path)
    _refuse_spin(where, info.get("isspinful", False))
    numbers = _load_text(path, "element.dat").ravel().astype(np.int64)
    cell = _load_text(path, "lat.dat").T
    positions = _load_text(path, "site_positions.dat").T
    if cell.shape != (3, 3) or positions.shape != (len(numbers), 3):
        raise DataError(
            message(
                where,
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
    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True)
    shells = _read_orbital_types(path, numbers)
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in numbers])
    overlap = _read_legacy_blocks(path / "overlaps.h5", counts)
    file = path / "hamiltonians.h5"
    hamiltonian = _read_legacy_blocks(file, counts) if file.exists() else None
    return assemble_labels(
        where,
        name or path.resolve().name,
        atoms,
        _build_basis(where, atoms, shells, radii, overlap, hamiltonian),
        order=order,
        overlap=overlap,
        hamiltonian=hamiltonian,
        fermi_energy=_fermi_energy(where, info, "fermi_level"),
        provenance={
            "format": "DeepH legacy",
            "folder": path.resolve().name,
            "radii": "given" if radii else "inferred",
        },
    )


def read_deeph(
    folder: str | Path, *, radii: Mapping[str, float] | None = None, name: str | None = None
) -> LabelledStructure:
    """Read one structure of the new layout of DeepH-pack 2 and DeepH-dock.

    Args:
        folder: holds POSCAR, info.json, overlap.h5 and, unless it is overlap-only, hamiltonian.h5.
        radii: chemical symbol → orbital radius, Å; when None those that ``write_deeph`` stored,
            else inferred from the pairs.
        name: name of the structure; that of the folder when None.

    Returns:
        Labels in internal units and order; pairs that only one matrix lists are zero in the other.
        Layers and basis names come back when ``write_deeph`` wrote the folder.

    Raises:
        DataError: a file is missing or damaged, the data are spinful, or an invariant of
            ``validation`` is broken.
    """
    path = Path(folder)
    where = str(path)
    info = _read_info(path)
    _refuse_spin(where, info.get("spinful", False))
    atoms = _read_poscar(path / "POSCAR")
    extra = info.get(EXTRA_KEY, {})
    table = info.get("elements_orbital_map", {})
    missing = sorted(set(atoms.get_chemical_symbols()) - set(table))
    if missing:
        raise DataError(
            message(
                f"{path / 'info.json'}",
                f"no elements_orbital_map for {missing}",
                "all elements of POSCAR",
                "Add the shells.",
            )
        )
    shells = {
        element_number(where, symbol): tuple(int(l) for l in ls) for symbol, ls in table.items()
    }
    shells = {z: ls for z, ls in shells.items() if z in set(atoms.numbers.tolist())}
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    for key, expected in (("atoms_quantity", len(atoms)), ("orbits_quantity", int(counts.sum()))):
        if int(info.get(key, expected)) != expected:
            raise DataError(
                message(
                    f"{path / 'info.json'}",
                    f"{key} = {info[key]}",
                    f"{expected} by POSCAR and elements_orbital_map",
                    "Correct it.",
                )
            )
    overlap = _read_chunks(path / "overlap.h5", counts)
    file = path / "hamiltonian.h5"
    hamiltonian = _read_chunks(file, counts) if file.exists() else None
    basis = _build_basis(
        where,
        atoms,
        shells,
        radii or extra.get("radii"),
        overlap,
        hamiltonian,
        extra.get("basis_names"),
    )
    if "layer" in extra:
        atoms.arrays["layer"] = np.array(extra["layer"], dtype=np.int64)
    return assemble_labels(
        where,
        name or path.resolve().name,
        atoms,
        basis,
        order="e3nn",
        overlap=overlap,
        hamiltonian=hamiltonian,
        fermi_energy=_fermi_energy(where, info, "fermi_energy_eV"),
        provenance={
            "format": "DeepH",
            "folder": path.resolve().name,
            "radii": "given" if radii else "stored" if extra.get("radii") else "inferred",
        },
    )


def write_deeph(folder: str | Path, structure: LabelledStructure) -> NDArray[np.int64]:
    """Write one structure in the new layout, complete or not at all.

    POSCAR wants the atoms grouped by element, so atoms and pairs are reordered (elements by first
    appearance, stable within). Energy and forces have no place in the layout and are not written;
    layers, orbital radii and basis names go under the key "mlepi" of info.json, which
    ``read_deeph`` knows.

    Args:
        folder: new folder; must not exist.
        structure: labels with overlap blocks; the Hamiltonian may be None.

    Returns:
        (n_atoms,) int; atom k of the folder is atom result[k] of the structure.

    Raises:
        DataError: the folder exists, there are no overlap blocks, or the labels are inconsistent.
    """
    path = Path(folder)
    if path.exists():
        raise DataError(
            message(
                str(path), "an existing path", "a new folder", "Remove it or choose another name."
            )
        )
    basis, edge_index, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    if basis is None or edge_index is None or shift is None or structure.overlap_blocks is None:
        raise DataError(
            message(
                structure.name,
                "no overlap blocks",
                "basis, edges and overlap",
                "Compute the overlap first.",
            )
        )
    check_hamiltonian_labels(structure)
    symbols = structure.atoms.get_chemical_symbols()
    elements = list(dict.fromkeys(symbols))
    order = np.argsort([elements.index(s) for s in symbols], kind="stable")
    rank = np.argsort(order)
    atoms = structure.atoms[order]
    counts = basis.counts(atoms.numbers)
    pairs = np.column_stack([shift, rank[edge_index[1]], rank[edge_index[0]]])
    by_pair = np.lexsort(pairs.T[::-1])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.mkdir(parents=True)
    try:
        plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        write_ase(temporary / "POSCAR", plain, format="vasp", direct=False, sort=False)
        _write_chunks(
            temporary / "overlap.h5",
            pairs[by_pair],
            counts,
            np.asarray(structure.overlap_blocks)[by_pair],
        )
        if structure.hamiltonian_blocks is not None:
            _write_chunks(
                temporary / "hamiltonian.h5",
                pairs[by_pair],
                counts,
                np.asarray(structure.hamiltonian_blocks)[by_pair],
            )
        info: dict[str, Any] = {
            "atoms_quantity": len(atoms),
            "orbits_quantity": int(counts.sum()),
            "orthogonal_basis": False,
            "spinful": False,
            "fermi_energy_eV": structure.fermi_energy,
            "elements_orbital_map": {
                s: list(basis.shells[chemical_symbols.index(s)]) for s in elements
            },
            EXTRA_KEY: {
                "radii": {s: basis.radii[chemical_symbols.index(s)] for s in elements},
                "basis_names": {
                    s: basis.names.get(chemical_symbols.index(s), "") for s in elements
                },
            },
        }
        if "layer" in atoms.arrays:
            info[EXTRA_KEY]["layer"] = atoms.arrays["layer"].tolist()
        (temporary / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return order


def _require(path: Path) -> Path:
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


def _load_text(folder: Path, file: str) -> NDArray[np.float64]:
    """Read a table of numbers: 2-dimensional."""
    path = _require(folder / file)
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(
            message(
                str(path), f"text that is no table ({error})", "numbers", "Write the file again."
            )
        ) from error
    check_finite(str(path), "table", table)
    return table


def _read_info(folder: Path) -> dict[str, Any]:
    path = _require(folder / "info.json")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            message(str(path), f"no JSON ({error})", "a JSON object", "Write the file again.")
        ) from error
    if not isinstance(info, dict):
        raise DataError(
            message(str(path), type(info).__name__, "a JSON object", "Write the file again.")
        )
    return info


def _refuse_spin(where: str, spinful: Any) -> None:
    if spinful:
        raise DataError(
            message(
                where,
                "spinful data (2 × 2 spin blocks)",
                "spinless blocks",
                "Only calculations without spin are supported.",
            )
        )


def _fermi_energy(where: str, info: Mapping[str, Any], key: str) -> float | None:
    """Return the Fermi energy in eV, None where the file has none."""
    value = info.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(
            message(
                f"{where}/info.json", f"{key} = {value!r}", "a number in eV", "Correct info.json."
            )
        )
    return float(value)


def _read_poscar(path: Path) -> Atoms:
    try:
        atoms = cast(Atoms, read_ase(_require(path), format="vasp"))
    except (ValueError, IndexError, KeyError, StopIteration, RuntimeError, OSError) as error:
        raise DataError(
            message(
                str(path), f"no POSCAR ({error})", "a POSCAR with element names", "Write it again."
            )
        ) from error
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _read_orbital_types(folder: Path, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    """Read the shells of every atom and condense them to one list per element."""
    path = _require(folder / "orbital_types.dat")
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
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
        ls = tuple(int(word) for word in words)
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


def _build_basis(
    where: str,
    atoms: Atoms,
    shells: Mapping[int, tuple[int, ...]],
    radii: Mapping[str, float] | None,
    overlap: BlockList,
    hamiltonian: BlockList | None,
    names: Mapping[str, str] | None = None,
) -> OrbitalBasis:
    """Join shells with radii, given or inferred from all pairs."""
    elements = sorted({int(z) for z in atoms.numbers})
    if radii is None:
        lists = [overlap.pairs] + ([hamiltonian.pairs] if hamiltonian is not None else [])
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


def _open_matrix(path: Path) -> h5py.File:
    try:
        return h5py.File(_require(path), "r")
    except OSError as error:
        raise DataError(
            message(
                str(path), f"no readable HDF5 ({error})", "an HDF5 file", "Copy or write it again."
            )
        ) from error


def _check_shape(where: str, key: str, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    if shape != expected:
        raise DataError(
            message(
                where,
                f"a block of shape {shape} for pair {key}",
                f"{expected}, the orbitals of its atoms",
                "The orbital types do not belong to the matrices.",
            )
        )


def _read_legacy_blocks(path: Path, counts: NDArray[np.int64]) -> BlockList:
    """Read one dataset per pair; atoms are counted from 1 in the keys and from 0 in the result."""
    keys: list[list[int]] = []
    blocks: list[NDArray[Any]] = []
    with _open_matrix(path) as file:
        for text, dataset in file.items():
            try:
                key = json.loads(text)
                valid = len(key) == 5 and all(isinstance(v, int) for v in key)
            except (ValueError, TypeError):
                valid = False
            if not valid:
                raise DataError(
                    message(
                        str(path), f"key {text!r}", "'[Rx, Ry, Rz, i, j]'", "Write the file again."
                    )
                )
            keys.append(key)
            blocks.append(np.asarray(dataset))
    if not keys:
        raise DataError(
            message(str(path), "no blocks", "one dataset per pair", "Write the file again.")
        )
    pairs = np.array(keys, dtype=np.int64)
    check_atom_indices(str(path), pairs[:, 3:], len(counts), base=1)
    pairs[:, 3:] -= 1
    for key, pair, block in zip(keys, pairs, blocks, strict=True):
        _refuse_spin(str(path), np.iscomplexobj(block))
        _check_shape(str(path), str(key), block.shape, (int(counts[pair[3]]), int(counts[pair[4]])))
    values = np.concatenate([block.ravel() for block in blocks]).astype(np.float64)
    return BlockList(
        pairs,
        values,
        np.concatenate([[0], np.cumsum([block.size for block in blocks])]).astype(np.int64),
    )


def _read_chunks(path: Path, counts: NDArray[np.int64]) -> BlockList:
    """Read flat chunks; atoms are counted from 0."""
    with _open_matrix(path) as file:
        missing = sorted({"atom_pairs", "chunk_shapes", "chunk_boundaries", "entries"} - set(file))
        if missing:
            raise DataError(
                message(
                    str(path),
                    f"no dataset {missing}",
                    "the chunked layout of DeepH",
                    "Write the file again.",
                )
            )
        pairs, shapes, boundaries, values = (
            np.asarray(file[k])
            for k in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")
        )
    _refuse_spin(str(path), np.iscomplexobj(values))
    n_pairs = len(pairs)
    if (
        not n_pairs
        or pairs.shape != (n_pairs, 5)
        or shapes.shape != (n_pairs, 2)
        or boundaries.shape != (n_pairs + 1,)
    ):
        raise DataError(
            message(
                str(path),
                f"atom_pairs {pairs.shape}, chunk_shapes {shapes.shape}, chunk_boundaries "
                f"{boundaries.shape}",
                "(n, 5), (n, 2), (n + 1,)",
                "Write the file again.",
            )
        )
    check_atom_indices(str(path), pairs[:, 3:], len(counts), base=0)
    wrong = np.flatnonzero(np.any(shapes != counts[pairs[:, 3:]], axis=1))
    if wrong.size:
        first = wrong[0]
        _check_shape(
            str(path),
            str(pairs[first].tolist()),
            tuple(shapes[first].tolist()),
            tuple(counts[pairs[first, 3:]].tolist()),
        )
    return BlockList(
        pairs.astype(np.int64), values.astype(np.float64).ravel(), boundaries.astype(np.int64)
    )


def _write_chunks(
    path: Path, pairs: NDArray[np.int64], counts: NDArray[np.int64], blocks: NDArray[np.floating]
) -> None:
    """Write padded blocks as flat chunks without the padding."""
    shapes = counts[pairs[:, 3:]]
    rows = np.arange(blocks.shape[1])
    keep = (rows[None, :] < shapes[:, :1])[:, :, None] & (rows[None, :] < shapes[:, 1:])[:, None, :]
    with h5py.File(path, "w") as file:
        file["atom_pairs"] = pairs
        file["chunk_shapes"] = shapes
        file["chunk_boundaries"] = np.concatenate(
            [[0], np.cumsum(shapes[:, 0] * shapes[:, 1])]
        ).astype(np.int64)
        file["entries"] = blocks[keep].astype(np.float64)
