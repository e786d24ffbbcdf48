"""Graphs of HamGNN: out of its pickle in a process of its own, then read as plain arrays.

``unpickle_graphs`` runs ``programs/hamgnn_export.py``; each of its files holds one structure.
HamGNN keeps OpenMX's matrices in Hartree and lengths in Bohr, blocks ⟨i, 0|·|j, R⟩ with i and j in
the rows of ``edge_index`` and R in ``cell_shift``, every block padded to ``LAYOUTS``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures import programs
from mlepi.structures.assembly import add_remark, assemble_labels
from mlepi.structures.child_process import run_program
from mlepi.structures.deeph_folder import build_basis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_lists import BlockList
from mlepi.units import BOHR, HARTREE

GRAPH = ".hamgnn.npz"
EXPORT = Path(programs.__file__).with_name("hamgnn_export.py")
LAYOUTS = {
    14: (0, 0, 0, 1, 1, 2),
    19: (0, 0, 0, 1, 1, 2, 2),
    26: (0, 0, 0, 1, 1, 2, 2, 3),
}
"""Orbitals of a padded block → its shells; an element uses those with an overlap of their own."""

PRESENT = 0.1
"""Overlap with itself from which an orbital exists."""


def unpickle_graphs(path: str | Path, folder: str | Path) -> list[Path]:
    """Convert ``graph_data.npz`` to one file of plain arrays per structure.

    Args:
        path: of HamGNN.
        folder: is made; must not exist.

    Returns:
        The files.

    Raises:
        DataError: the file is missing, damaged, asks for more than numbers, or has spin.
    """
    path, folder = Path(path), Path(folder)
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "a graph_data.npz", "Check the path."))
    if folder.exists():
        raise DataError(message(str(folder), "an existing path", "a new folder", "Name another."))
    folder.mkdir(parents=True)
    fix = "Export the DFT output itself: see docs/data_formats.md."
    try:
        run_program(
            str(path), [sys.executable, "-I", EXPORT, path.resolve(), folder.resolve()], fix
        )
    except DataError:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        raise
    return sorted(folder.glob(f"*{GRAPH}"))


def read_hamgnn(
    path: str | Path, *, radii: Mapping[str, float] | None = None, name: str | None = None
) -> LabelledStructure:
    """Read one structure of ``unpickle_graphs``.

    Args:
        path: the file.
        radii: chemical symbol → orbital radius, Å; inferred from the pairs when None.
        name: name of the structure; that of the file when None.

    Returns:
        Labels in eV, Å and internal order; no Fermi energy, which the graphs lack.

    Raises:
        DataError: an array is missing or of another shape, the padding is not OpenMX's, or an
            invariant of ``validation`` is broken.
    """
    path = Path(path)
    where = str(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: np.asarray(file[key]) for key in file.files}
        numbers = data["z"].astype(np.int64).ravel()
        cell = data["cell"].reshape(3, 3) * BOHR
        atoms = Atoms(numbers, data["pos"].reshape(-1, 3) * BOHR, cell=cell, pbc=True)
        pairs = np.column_stack([data["cell_shift"], data["edge_index"].T]).astype(np.int64)
        onsite = np.arange(len(atoms))
        pairs = np.concatenate(
            [np.column_stack([np.zeros((len(atoms), 3), int), onsite, onsite]), pairs]
        )
        padded = {
            what: np.concatenate([data[f"{what}on"], data[f"{what}off"]]).astype(np.float64)
            for what in "HS"
        }
        size = round(padded["S"].shape[1] ** 0.5)
        blocks = {what: values.reshape(len(pairs), size, size) for what, values in padded.items()}
    except (OSError, KeyError, ValueError, IndexError) as error:
        got = f"a missing array or another shape ({type(error).__name__}: {error})"
        raise DataError(message(where, got, "a graph of HamGNN", "Unpickle it again.")) from error
    if size not in LAYOUTS:
        got, expected = f"blocks padded to {size} orbitals", f"{list(LAYOUTS)}, those of OpenMX"
        fix = "Convert the output of ABACUS or SIESTA itself, which mlepi reads."
        raise DataError(message(where, got, expected, fix))
    present = _present(where, numbers, blocks["S"][: len(atoms)])
    shells = {z: _shells(where, z, kept, size) for z, kept in present.items()}
    lists = {
        what: _cut(values * (HARTREE if what == "H" else 1.0), pairs, numbers, present)
        for what, values in blocks.items()
    }
    energy = float(data["total_energy"]) * HARTREE if "total_energy" in data else None
    structure = assemble_labels(
        where,
        name or path.name.removesuffix(GRAPH),
        atoms,
        build_basis(where, atoms, shells, radii, lists["S"], lists["H"]),
        order="openmx",
        overlap=lists["S"],
        hamiltonian=lists["H"],
        energy=energy or None,
        provenance={"format": "HamGNN", "code": "OpenMX", "padding": size},
    )
    return add_remark(where, structure, "no_total_energy", 0.0) if energy == 0.0 else structure


def _present(
    where: str, numbers: NDArray[np.int64], onsite: NDArray[np.float64]
) -> dict[int, NDArray[np.int64]]:
    """Return which orbitals of a padded block every element has."""
    found: dict[int, NDArray[np.int64]] = {}
    for z, block in zip(numbers.tolist(), onsite, strict=True):
        kept = np.flatnonzero(np.diagonal(block) > PRESENT)
        if not np.array_equal(found.setdefault(z, kept), kept):
            got, fix = f"two bases of element {z}", "Use one basis."
            raise DataError(message(where, got, "one basis per element", fix))
    return found


def _shells(where: str, number: int, kept: NDArray[np.int64], size: int) -> tuple[int, ...]:
    """Return the shells whose orbitals an element has, each with all or none of them."""
    shells, start = [], 0
    for l in LAYOUTS[size]:
        count = int(np.isin(np.arange(start, start + 2 * l + 1), kept).sum())
        start += 2 * l + 1
        if count == 2 * l + 1:
            shells.append(l)
        elif count:
            got = f"{count} orbitals of a shell with l = {l} of element {number}"
            fix = "The graph is of another program than OpenMX: convert its output itself."
            raise DataError(message(where, got, f"{2 * l + 1} or none", fix))
    if not shells:
        got = f"element {number} without orbitals"
        raise DataError(message(where, got, "at least one shell", "Write the graph again."))
    return tuple(shells)


def _cut(
    blocks: NDArray[np.float64],
    pairs: NDArray[np.int64],
    numbers: NDArray[np.int64],
    present: Mapping[int, NDArray[np.int64]],
) -> BlockList:
    """Take the padding out of the blocks."""
    inside = (pairs[:, 3:] >= 0).all() and (pairs[:, 3:] < len(numbers)).all()
    rows, columns = (numbers[pairs[:, k] if inside else 0 * pairs[:, k]] for k in (3, 4))
    sizes = {z: len(kept) for z, kept in present.items()}
    counts = np.array(
        [sizes[a] * sizes[b] for a, b in zip(rows.tolist(), columns.tolist(), strict=True)]
    )
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.empty(ends[-1])
    for a in present:
        for b in present:
            chosen = np.flatnonzero((rows == a) & (columns == b))
            part = blocks[chosen][:, present[a]][:, :, present[b]]
            values[ends[chosen][:, None] + np.arange(sizes[a] * sizes[b])] = part.reshape(
                len(chosen), -1
            )
    return BlockList(pairs, values, ends)
