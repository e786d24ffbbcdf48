"""Reader of H(k) and S(k) as numpy files, as CP2K and PySCF users keep them.

A folder holds an xyz file with the frames, ``*_fock_N.npy`` and ``*_over_N.npy`` of frame N (of a
single one also ``fock.npy`` and ``over.npy``), (n_k, n, n) in Hartree, and ``kmesh.json`` with what
the files do not say: {"mesh": [8, 8, 1], "shells": {"C": [0, 0, 1]}, "order": "pyscf"}, and where
known "fermi_energy" in eV, of all frames or a list.
Energy (eV) and forces (eV/Å) of a frame are taken from the xyz file where they stand in it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.ase_files import check_counts
from mlepi.structures.assembly import (
    add_remark,
    assemble_labels,
    element_number,
    infer_radii,
)
from mlepi.structures.basis import ORBITAL_ORDERS, OrbitalBasis
from mlepi.structures.kmesh import transform_to_cells
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.units import HARTREE
from mlepi.untrusted import (
    check_size,
    check_text,
    guard,
    limit_memory,
    load_npy,
    parse_shells,
    read_json,
    read_npy_header,
)

SETTINGS = "kmesh.json"
MATRIX = re.compile(r"(?:(.*)_)?fock(?:_(\d+))?(?:_\d+)?\.npy")
"""Stem and number of a frame, 0 without one; a second number is a label of the user's own."""
SHELLS_BY_COUNT = {1: (0,), 4: (0, 1), 5: (0, 0, 1), 9: (0, 0, 0, 1, 1), 13: (0, 0, 1, 1, 2)}
"""What is tried first where ``kmesh.json`` is missing: orbitals of an atom → shells."""

MOST_DIVISIONS = 1000
"""Of the mesh along one vector."""

BORDER_OVERLAP = 1e-3
"""Overlaps at the border of the mesh from which it counts as too coarse."""


def list_kmesh_frames(folder: Path) -> list[int]:
    """Return the numbers of the frames that have matrices."""
    return sorted(_find_matrices(folder))


def _find_matrices(folder: Path) -> dict[int, tuple[str, Path]]:
    """Return frame → stem of the names and file of H(k), of those that have S(k) or not."""
    found: dict[int, tuple[str, Path]] = {}
    for path in sorted(folder.glob("*fock*.npy")):
        if match := MATRIX.fullmatch(path.name):
            found.setdefault(int(match.group(2) or 0), (match.group(1) or "", path))
    return found


@guard("a folder of H(k) and S(k)")
def read_kmesh(
    folder: str | Path,
    frame: int,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> LabelledStructure:
    """Read one frame.

    Args:
        folder: as above.
        frame: its number.
        name: name of the structure; that of the matrices with the number when None.
        settings: instead of ``kmesh.json``; without either, what fits sizes and geometry is found
            by trial and remarked.

    Returns:
        Labels in eV, Å and internal order; a Fermi energy where the settings name it.

    Raises:
        DataError: a file or setting is missing or wrong, or an invariant of ``validation`` is
            broken.
    """
    path = Path(folder)
    stem, fock = _find_matrices(path).get(frame, (None, path))
    if stem is None:
        got = f"no *_fock_{frame}.npy"
        raise DataError(message(str(path), got, "H(k) of this frame", "Check the folder."))
    atoms = _read_frame(path, frame)
    before, _, after = fock.name.rpartition("fock")
    files = {"fock": fock, "over": path / f"{before}over{after}"}
    label = name or f"{stem or path.resolve().name}_{frame}"
    if settings is not None or (path / SETTINGS).is_file():
        given = _read_settings(path) if settings is None else settings
        return _assemble(path, label, atoms, files, {**given, "frame": frame})
    return _try_settings(path, label, atoms, files)


def _try_settings(
    folder: Path, name: str, atoms: Atoms, files: Mapping[str, Path]
) -> LabelledStructure:
    """Read a frame with the first settings that suit sizes and geometry; ask where none does."""
    for given in _guess_settings(files["over"], atoms):
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                structure = _assemble(folder, name, atoms, files, given)
        except DataError:
            continue
        for warning in told:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, 0)
        return add_remark(str(files["fock"]), structure, "found_by_trial", 1.0)
    _read_settings(folder)
    raise DataError("unreachable: the line above raises")


def _guess_settings(file: Path, atoms: Atoms) -> list[dict[str, Any]]:
    """Return settings by the number of k-points, the periodic axes, and orbitals per atom."""
    shape, _ = read_npy_header(file)
    n_axes = int(atoms.pbc.sum())
    if len(shape) != 3 or not n_axes or shape[1] % len(atoms):
        return []
    n = round(shape[0] ** (1.0 / n_axes))
    shells = SHELLS_BY_COUNT.get(shape[1] // len(atoms))
    if n**n_axes != shape[0] or shells is None:
        return []
    mesh = [n if periodic else 1 for periodic in atoms.pbc]
    table = {symbol: list(shells) for symbol in set(atoms.get_chemical_symbols())}
    return [{"mesh": mesh, "shells": table, "order": order} for order in ("pyscf", "e3nn")]


def _assemble(
    folder: Path,
    name: str,
    atoms: Atoms,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
) -> LabelledStructure:
    """Read a frame with known settings."""
    labels = atoms.calc.results if atoms.calc is not None else {}
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    mesh, shells, order = _check_settings(folder, settings, atoms)
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    size = (int(np.prod(mesh)), int(counts.sum()), int(counts.sum()))
    lists = {
        what: transform_to_cells(str(file), _load(file, size) * factor, mesh, atoms, counts)
        for (what, file), factor in zip(files.items(), (HARTREE, 1.0), strict=True)
    }
    every = np.concatenate([blocks.pairs for blocks, _ in lists.values()])
    structure = assemble_labels(
        str(files["fock"]),
        name,
        atoms,
        OrbitalBasis(shells, infer_radii(atoms, every), dict.fromkeys(shells, "")),
        order=order,
        overlap=lists["over"][0],
        hamiltonian=lists["fock"][0],
        fermi_energy=_fermi_energy(folder, settings),
        energy=labels.get("energy"),
        forces=labels.get("forces"),
        provenance={"format": "kmesh", "mesh": list(mesh), "order": order}
        | ({"code": str(settings["code"])} if "code" in settings else {}),
    )
    border = lists["over"][1]
    if border > BORDER_OVERLAP:
        return add_remark(str(files["fock"]), structure, "coarse_mesh", border)
    return structure


def _read_settings(folder: Path) -> dict[str, Any]:
    file = folder / SETTINGS
    example = '{"mesh": [8, 8, 1], "shells": {"C": [0, 0, 1]}, "order": "pyscf"}'
    settings, why = None, "no object"
    try:
        settings = read_json(file)
    except DataError as error:
        why = str(error).partition(": got ")[2].partition("; expected")[0]
    if not isinstance(settings, dict):
        fix = "Write it: divisions of the k-mesh, l of the shells of every element, orbital order."
        raise DataError(message(str(file), f"no settings ({why})", example, fix))
    return settings


def _check_settings(
    folder: Path, given: Mapping[str, Any], atoms: Atoms
) -> tuple[tuple[int, int, int], dict[int, tuple[int, ...]], str]:
    """Return mesh, shells by atomic number, and order."""
    where = str(folder / SETTINGS)
    mesh = given.get("mesh", ())
    listed = isinstance(mesh, (list, tuple)) and len(mesh) == 3
    if not listed or not all(type(n) is int and 0 < n <= MOST_DIVISIONS for n in mesh):
        fix = "Name the divisions of the k-mesh along the three vectors."
        raise DataError(message(where, f"mesh {str(mesh)[:80]}", "such as [8, 8, 1]", fix))
    table = given.get("shells")
    symbols = sorted(set(atoms.get_chemical_symbols()))
    if not isinstance(table, dict) or set(symbols) - set(table):
        fix = "List l of every shell, in the order of the orbitals: [0, 0, 1] is s, s, p."
        raise DataError(message(where, f"shells {table}", f"those of {symbols}", fix))
    order = given.get("order")
    if not isinstance(order, str) or order not in ORBITAL_ORDERS:
        fix = "PySCF: pyscf; CP2K: e3nn, which is its order m = −l…l."
        expected = f"one of {sorted(ORBITAL_ORDERS)}"
        raise DataError(message(where, f"order {order!r}", expected, fix))
    shells = {element_number(where, s): parse_shells(f"{where}, {s}", table[s]) for s in symbols}
    return (int(mesh[0]), int(mesh[1]), int(mesh[2])), shells, str(order)


def _fermi_energy(folder: Path, given: Mapping[str, Any]) -> float | None:
    """Return the Fermi energy of the frame, eV; None where the settings do not name it."""
    value, frame = given.get("fermi_energy"), given.get("frame", 0)
    if isinstance(value, list):
        value = value[frame] if frame < len(value) else "too few"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        where, got = str(folder / SETTINGS), f"fermi_energy {value!r} of frame {frame}"
        raise DataError(message(where, got, "a number in eV, or one per frame", "Correct it."))
    return float(value)


def _read_frame(folder: Path, frame: int) -> Atoms:
    """Read one frame of the only xyz file of the folder."""
    files = sorted([*folder.glob("*.xyz"), *folder.glob("*.extxyz")])
    if len(files) != 1:
        got = f"{len(files)} xyz files"
        raise DataError(message(str(folder), got, "one with all frames", "Remove the others."))
    size = check_size(files[0])
    check_text(files[0], ends=True)
    check_counts(files[0])
    try:
        with limit_memory(size):
            atoms = ase.io.read(
                files[0], index=frame, format="extxyz", do_not_split_by_at_sign=True
            )
    except Exception as error:  # ASE's parsers raise anything
        got = f"no frame {frame} ({type(error).__name__})"
        raise DataError(message(str(files[0]), got, "every frame", "Check the file.")) from error
    if not isinstance(atoms, Atoms) or atoms.cell.rank < 3:
        raise DataError(message(str(files[0]), "no cell", "a Lattice in every frame", "Add it."))
    return atoms


def _load(file: Path, shape: tuple[int, int, int]) -> NDArray[np.complex128]:
    """Load the matrices of one file and check their shape."""
    found, kind = read_npy_header(file)
    matrices = load_npy(file) if found == shape and kind.kind in "fciu" else None
    if matrices is None or not np.isfinite(matrices).all():
        got = f"matrices of shape {found} and type {kind}, or not finite"
        expected = f"{shape}: k-points of the mesh, orbitals of the shells"
        raise DataError(message(str(file), got, expected, f"Correct {SETTINGS}."))
    return np.asarray(matrices, dtype=np.complex128)
