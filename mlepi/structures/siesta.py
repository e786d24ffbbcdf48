"""Labels of a SIESTA run: ``.HSX``, and with sisl (optional) ``.TSHS`` and ``.nc``.

Orbitals are in the order "siesta" of ``OrbitalBasis``. The labels of the species name the elements;
files beside it give radii, for a ``.TSHS`` elements and shells (``.ORB_INDX``), and forces
(``.FA``, eV/Å).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import assemble_labels, infer_radii
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.home_cell import place_pairs
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.siesta_hsx import read_hsx
from mlepi.structures.sparse_blocks import gather_blocks
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import guard, open_hdf5, read_text

RYDBERG = HARTREE / 2.0
SISL_FILES = (".TSHS", ".nc")


@guard("a .HSX of SIESTA")
def read_siesta(path: str | Path, name: str | None = None) -> LabelledStructure:
    """Read the labels of a SIESTA run without spin.

    Args:
        path: ``.HSX``, ``.TSHS`` or ``.nc``.
        name: name of the structure; the stem of the file when None.

    Returns:
        Labels in eV, Å and internal order. ``fermi_energy`` is SIESTA's; through sisl H is already
        shifted to it, and it is 0.

    Raises:
        DataError: another version, spin, damage, Γ alone in a small cell (``home_cell``), sisl is
            needed and missing, or an invariant of ``validation`` broken.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "a .HSX of SIESTA", "Check the path."))
    if path.suffix in SISL_FILES:
        return _read_with_sisl(path, name or path.stem)
    raw = read_hsx(path)
    species = np.array([chemical_symbols.index(_element(path, label)) for label in raw.labels])
    numbers = species[raw.species]
    atoms = Atoms(numbers, raw.positions * BOHR, cell=raw.cell * BOHR, pbc=True)
    shells = _one_basis(path, species, raw.shells)
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in numbers])
    where = _place(path, atoms, counts, raw.cells[raw.places], raw.rows, raw.columns)
    hamiltonian = gather_blocks(counts, *where, raw.hamiltonian * RYDBERG)
    overlap = gather_blocks(counts, *where, raw.overlap)
    forces = _read_forces(path.with_suffix(".FA"), len(atoms))
    return assemble_labels(
        str(path),
        name or path.stem,
        atoms,
        _basis(path, atoms, shells, overlap),
        order="siesta",
        overlap=overlap,
        hamiltonian=hamiltonian,
        fermi_energy=None if raw.fermi_energy is None else raw.fermi_energy * RYDBERG,
        forces=forces,
        provenance={"code": "SIESTA", "file": path.name},
    )


def _element(path: Path, label: str) -> str:
    """Return the element of a species by its label, such as "Si", "C_surface" or "H.1"."""
    match = re.match(r"[A-Z][a-z]?", label)
    words = [match.group(), match.group()[:1]] if match else []
    found = [word for word in words if word in chemical_symbols[1:]]
    if not found:
        raise DataError(
            message(
                str(path),
                f"species {label!r}",
                "a label that begins with the symbol of its element",
                "Rename it in ChemicalSpeciesLabel.",
            )
        )
    return found[0]


class _IndexedOrbital(NamedTuple):
    """A row of ``.ORB_INDX``: atom (from 0), label of its species, l, m, radius (Å)."""

    atom: int
    label: str
    l: int
    m: int
    radius: float


def _read_index(path: Path) -> list[_IndexedOrbital]:
    """Return the orbitals of the unit cell by ``.ORB_INDX`` beside a file; none without it."""
    index = path.with_suffix(".ORB_INDX")
    if not index.is_file():
        return []
    rows = [line.split() for line in read_text(index).splitlines()]
    rows = [row for row in rows if len(row) >= 16 and row[0].isdigit() and row[1].isdigit()]
    try:
        return [
            _IndexedOrbital(
                int(row[1]) - 1, row[3], int(row[6]), int(row[7]), float(row[-5]) * BOHR
            )
            for row in rows
            if row[-4:-1] == ["0", "0", "0"]
        ]
    except ValueError as error:
        fix = "Take that of this run, or remove it."
        raise DataError(message(str(index), str(error), "rows of io ia is spec …", fix)) from error


def _index_radii(path: Path, atoms: Atoms) -> dict[int, float]:
    """Return the radii of ``.ORB_INDX`` by atomic number, Å; none without it."""
    longest: dict[int, float] = {}
    for row in _read_index(path):
        if row.atom < len(atoms):
            number = int(atoms.numbers[row.atom])
            longest[number] = max(longest.get(number, 0.0), row.radius)
    return longest


def _place(
    path: Path,
    atoms: Atoms,
    counts: NDArray[np.int64],
    cells: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return cells, rows and columns of elements; at Γ alone the cells are the nearest ones."""
    if not cells.any():
        atom = np.repeat(np.arange(len(counts)), counts)
        radii = _index_radii(path, atoms)
        if not set(atoms.numbers.tolist()) <= set(radii):
            fix = "Keep that of this run beside it, or repeat it with ForceAuxCell T."
            got, beside = "matrices of Γ alone", path.with_suffix(".ORB_INDX").name
            expected = (
                f"the range of the orbitals in {beside}, which tells what is added up in them"
            )
            raise DataError(message(str(path), got, expected, fix))
        cells = place_pairs(str(path), atoms, atom[rows], atom[columns], radii)
    return cells, rows, columns


def _basis(
    path: Path, atoms: Atoms, shells: dict[int, tuple[int, ...]], overlap: BlockList
) -> OrbitalBasis:
    """Join shells with the radii of ``.ORB_INDX``, or those that the pairs show."""
    longest = _index_radii(path, atoms)
    radii = infer_radii(atoms, overlap.pairs)
    radii = {z: max(longest.get(z, 0.0), radius) for z, radius in radii.items()}
    return OrbitalBasis(shells, radii, dict.fromkeys(shells, "SIESTA"))


def _read_forces(path: Path, n_atoms: int) -> NDArray[np.float64] | None:
    """Read the forces of ``.FA``, (n_atoms, 3) eV/Å; None without it."""
    if not path.is_file():
        return None
    rows = [line.split() for line in read_text(path).splitlines()[1:]]
    rows = [row for row in rows if row]
    try:
        forces = np.array([[float(word) for word in row[1:4]] for row in rows])
        if [int(row[0]) for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("atoms in another order")
    except ValueError:
        forces = np.zeros(0)
    if forces.shape != (n_atoms, 3) or not np.isfinite(forces).all():
        raise DataError(
            message(
                str(path),
                f"forces of shape {forces.shape}",
                f"({n_atoms}, 3) numbers",
                "Remove the file, or take that of this run.",
            )
        )
    return forces


def _read_with_sisl(path: Path, name: str) -> LabelledStructure:
    """Read any file whose Hamiltonian sisl knows; sisl shifts H to the Fermi energy."""
    try:
        sisl = import_module("sisl")
    except ImportError as error:
        fix = "pip install sisl, or give the .HSX of SIESTA 5, which needs nothing."
        raise DataError(message(str(path), "no sisl", "the package sisl", fix)) from error
    if path.suffix == ".nc":
        open_hdf5(path).close()
    try:
        with warnings.catch_warnings():  # on supercells of the input, which the file's replace
            warnings.simplefilter("ignore", sisl.SislWarning)
            known = {} if path.suffix == ".nc" else _read_input(sisl, path)
            matrix: Any = sisl.get_sile(path).read_hamiltonian(**known)
    except Exception as error:  # sisl's readers raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = "Give the .HSX of SIESTA 5."
        raise DataError(
            message(str(path), f"a file that sisl refuses ({reason})", "H and S", fix)
        ) from error
    geometry = matrix.geometry
    if matrix.spin.size(matrix.dtype) != 1:
        fix = "Repeat it with Spin none."
        raise DataError(message(str(path), "a calculation with spin", "one without", fix))
    if matrix.orthogonal:
        raise DataError(message(str(path), "an orthogonal basis", "H with S", "Give H with S."))
    numbers, shells = _atomic_orbitals(path, geometry)
    atoms = Atoms(numbers, geometry.xyz, cell=geometry.lattice.cell, pbc=True)
    lists = []
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    for index in (0, matrix.S_idx):
        sparse = matrix.tocsr(index).tocoo()
        columns = sparse.col % geometry.no
        cells = np.asarray(geometry.lattice.sc_off)[sparse.col // geometry.no]
        rows = sparse.row.astype(np.int64)
        part = _place(path, atoms, counts, cells, rows, columns.astype(np.int64))
        lists.append(gather_blocks(counts, *part, sparse.data.astype(np.float64)))
    return assemble_labels(
        str(path),
        name,
        atoms,
        _basis(path, atoms, shells, lists[1]),
        order="siesta",
        overlap=lists[1],
        hamiltonian=lists[0],
        fermi_energy=0.0,
        provenance={"code": "SIESTA", "file": path.name, "read_with": f"sisl {sisl.__version__}"},
    )


def _read_input(sisl: Any, path: Path) -> dict[str, Any]:
    """Return the geometry of the input beside a ``.TSHS``, where there is one that sisl reads."""
    inputs = sorted(path.parent.glob("*.fdf"))
    own = [file for file in inputs if file.stem == path.stem] or inputs
    if len(own) != 1:
        return {}
    try:
        with sisl.get_sile(own[0]) as file:
            return {"geometry": file.read_geometry()}
    except Exception:  # sisl's readers raise anything; the index of orbitals may know as much
        return {}


def _atomic_orbitals(
    path: Path, geometry: Any
) -> tuple[NDArray[np.int64], dict[int, tuple[int, ...]]]:
    """Return atomic numbers and l of the shells of each, from sisl's geometry or ``.ORB_INDX``.

    A ``.TSHS`` holds neither elements nor quantum numbers: sisl has them from ``.fdf`` and the
    ``.ion`` files. Where these are missing, the index of orbitals has both.
    """
    numbers = np.asarray(geometry.atoms.Z, dtype=np.int64)
    orbitals = [
        (atom, int(getattr(orbital, "l", -1)), int(getattr(orbital, "m", 0)))
        for atom in range(geometry.na)
        for orbital in geometry.atoms[atom].orbitals
    ]
    if min(l for _, l, _ in orbitals) < 0:
        rows = _read_index(path)
        if [row.atom for row in rows] != [atom for atom, _, _ in orbitals]:
            fix = "Keep .ORB_INDX, or .fdf and .ion.xml (.ion.nc), of this run beside it."
            raise DataError(message(str(path), "orbitals without l", "atomic orbitals", fix))
        orbitals = [(row.atom, row.l, row.m) for row in rows]
        for row in rows:
            numbers[row.atom] = chemical_symbols.index(_element(path, row.label))
    of_atoms = [
        tuple(l for place, l, m in orbitals if place == atom and m == -l)
        for atom in range(geometry.na)
    ]
    return numbers, _one_basis(path, numbers, of_atoms)


def _one_basis(
    path: Path, numbers: NDArray[np.int64], shells_of: Sequence[tuple[int, ...]]
) -> dict[int, tuple[int, ...]]:
    """Return the shells of each element; two bases for one are refused."""
    shells: dict[int, tuple[int, ...]] = {}
    for number, ls in zip(numbers.tolist(), shells_of, strict=True):
        if shells.setdefault(number, ls) != ls:
            raise DataError(
                message(
                    str(path),
                    f"two bases for {chemical_symbols[number]}: {shells[number]} and {ls}",
                    "one basis per element",
                    "Use one species per element.",
                )
            )
    return shells
