"""Reader and writer of the new layout of DeepH-pack 2 and DeepH-dock: POSCAR, ``*.h5`` in chunks.

Blocks are ⟨i, cell 0 | · | j, cell R⟩ with rows = orbitals of i, both directions and on-site blocks
included, in eV; lengths are in Å. Atoms are counted from 0 and orbitals are in e3nn's order.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read as read_ase
from ase.io import write as write_ase
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.hdf5_files import create_hdf5
from mlepi.structures.assembly import assemble_labels, element_number
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.block_checks import check_atom_indices, remove_rounding
from mlepi.structures.deeph_folder import (
    build_basis,
    check_shape,
    open_matrix,
    read_fermi_energy,
    read_info,
    refuse_spin,
    require_file,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.validation import check_hamiltonian_labels
from mlepi.untrusted import check_size, check_text, guard, limit_memory, note_own, parse_shells

LARGEST_POSCAR = 2**26
"""Bytes; half a million atoms."""

EXTRA_KEY = "mlepi"
"""Key of ``info.json`` under which ``write_deeph`` keeps what the layout has no place for; other
programs ignore it."""


@guard("a DeepH folder")
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
    info = read_info(path)
    refuse_spin(where, info.get("spinful", False))
    atoms = _read_poscar(path / "POSCAR")
    extra = info.get(EXTRA_KEY, {})
    if not isinstance(extra, dict):
        got, fix = f"{EXTRA_KEY} = {str(extra)[:80]}", "Leave the key out."
        raise DataError(message(f"{where}/info.json", got, "an object", fix))
    shells = _read_shells(path, info, atoms)
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    overlap = _read_chunks(path / "overlap.h5", counts)
    file = path / "hamiltonian.h5"
    hamiltonian = _read_chunks(file, counts) if file.exists() else None
    basis = build_basis(
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
        fermi_energy=read_fermi_energy(where, info, "fermi_energy_eV"),
        provenance={
            "format": "DeepH",
            "folder": path.resolve().name,
            "radii": "given" if radii else "stored" if extra.get("radii") else "inferred",
        },
    )


def _read_shells(path: Path, info: Mapping[str, Any], atoms: Atoms) -> dict[int, tuple[int, ...]]:
    """Read the shells of the elements and check them against the numbers of atoms and orbitals."""
    table = info.get("elements_orbital_map", {})
    if not isinstance(table, dict):
        got, example = f"elements_orbital_map {str(table)[:80]}", 'such as {"C": [0, 0, 1]}'
        raise DataError(message(f"{path / 'info.json'}", got, example, "Add the shells."))
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
        element_number(str(path), symbol): parse_shells(f"{path / 'info.json'}, {symbol}", ls)
        for symbol, ls in table.items()
    }
    shells = {z: ls for z, ls in shells.items() if z in set(atoms.numbers.tolist())}
    n_orbitals = sum(2 * l + 1 for z in atoms.numbers for l in shells[int(z)])
    for key, expected in (("atoms_quantity", len(atoms)), ("orbits_quantity", n_orbitals)):
        if info.get(key, expected) != expected:
            raise DataError(
                message(
                    f"{path / 'info.json'}",
                    f"{key} = {info[key]}",
                    f"{expected} by POSCAR and elements_orbital_map",
                    f"Write the info.json that belongs to this POSCAR, with {key} = {expected}.",
                )
            )
    return shells


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
        fix = "Remove it or choose another name."
        raise DataError(message(str(path), "an existing path", "a new folder", fix))
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
    structure = remove_rounding(structure)
    check_hamiltonian_labels(structure)
    symbols = structure.atoms.get_chemical_symbols()
    elements = list(dict.fromkeys(symbols))
    order = np.argsort([elements.index(s) for s in symbols], kind="stable")
    rank = np.argsort(order)
    atoms = structure.atoms[order]
    counts = basis.counts(atoms.numbers)
    pairs = np.column_stack([shift, rank[edge_index[1]], rank[edge_index[0]]])
    by_pair = np.lexsort(pairs.T[::-1])
    matrices = {
        "overlap.h5": structure.overlap_blocks,
        "hamiltonian.h5": structure.hamiltonian_blocks,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.mkdir(parents=True)
    try:
        plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        write_ase(temporary / "POSCAR", plain, format="vasp", direct=False, sort=False)
        for file, blocks in matrices.items():
            if blocks is not None:
                _write_chunks(temporary / file, pairs[by_pair], counts, np.asarray(blocks)[by_pair])
        info = _describe(atoms, elements, basis, structure.fermi_energy)
        (temporary / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return order


def _describe(
    atoms: Atoms, elements: Sequence[str], basis: OrbitalBasis, fermi_energy: float | None
) -> dict[str, Any]:
    """Return the content of info.json."""
    numbers = {symbol: chemical_symbols.index(symbol) for symbol in elements}
    extra: dict[str, Any] = {
        "radii": {symbol: basis.radii[z] for symbol, z in numbers.items()},
        "basis_names": {symbol: basis.names.get(z, "") for symbol, z in numbers.items()},
    }
    if "layer" in atoms.arrays:
        extra["layer"] = atoms.arrays["layer"].tolist()
    return {
        "atoms_quantity": len(atoms),
        "orbits_quantity": int(basis.counts(atoms.numbers).sum()),
        "orthogonal_basis": False,
        "spinful": False,
        "fermi_energy_eV": fermi_energy,
        "elements_orbital_map": {symbol: list(basis.shells[z]) for symbol, z in numbers.items()},
        EXTRA_KEY: extra,
    }


def _read_poscar(path: Path) -> Atoms:
    size = check_size(require_file(path), limit=LARGEST_POSCAR)
    check_text(path, ends=True)
    try:
        with limit_memory(size):
            atoms = cast(Atoms, read_ase(path, format="vasp"))
    except Exception as error:  # ASE's parsers raise anything
        raise DataError(
            message(
                str(path), f"no POSCAR ({error})", "a POSCAR with element names", "Write it again."
            )
        ) from error
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _read_chunks(path: Path, counts: NDArray[np.int64]) -> BlockList:
    """Read flat chunks; atoms are counted from 0."""
    with open_matrix(path) as file:
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
    refuse_spin(str(path), np.iscomplexobj(values))
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
        check_shape(
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
    with create_hdf5(path) as file:
        file["atom_pairs"] = pairs
        file["chunk_shapes"] = shapes
        file["chunk_boundaries"] = np.concatenate(
            [[0], np.cumsum(shapes[:, 0] * shapes[:, 1])]
        ).astype(np.int64)
        file["entries"] = blocks[keep].astype(np.float64)
    note_own(path)
