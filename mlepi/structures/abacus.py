"""Labels of an ABACUS run with numerical orbitals: matrices, ``STRU`` and the running log.

Orbitals are in the order "abacus" of ``OrbitalBasis``; H is in Rydberg, ``STRU`` in multiples of a
lattice constant in Bohr, the log in eV and Å.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.abacus_csr import AbacusMatrix, read_abacus_csr, refuse
from mlepi.structures.abacus_log import (
    AbacusLog,
    choose_step,
    find_log,
    find_positions,
    place_atoms,
    read_forces,
    read_lattice,
    read_log,
)
from mlepi.structures.assembly import assemble_labels, element_number, infer_radii
from mlepi.structures.basis import SHELL_LETTERS, OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.sparse_blocks import gather_blocks
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import guard, parse_shells, read_text

RYDBERG = HARTREE / 2.0
HAMILTONIANS = ("hrs1_nao.csr", "data-HR-sparse_SPIN0.csr")
OVERLAPS = ("sr_nao.csr", "srs1_nao.csr", "data-SR-sparse_SPIN0.csr")
SECOND_SPIN = ("hrs2_nao.csr", "data-HR-sparse_SPIN1.csr")
STEPS = ("hrs{}g{}_nao.csr", "srg{}_nao.csr", "srs1g{}_nao.csr")
"""Names with ``out_app_flag 0``: H of a spin and an ionic step, both from 1, and S of a step."""
SECTIONS = (
    "ATOMIC_SPECIES",
    "NUMERICAL_ORBITAL",
    "LATTICE_CONSTANT",
    "LATTICE_VECTORS",
    "ATOMIC_POSITIONS",
    "NUMERICAL_DESCRIPTOR",
    "LATTICE_PARAMETERS",
)


def find_matrices(folder: Path, step: int | None = None) -> tuple[Path, Path] | None:
    """Return the files of H and S of a folder of output; None where there is none.

    Args:
        folder: of the output.
        step: ionic step, from 1, of a run with a file for each (``out_app_flag 0``); None for
            files without the number of a step.
    """
    names: tuple[tuple[str, ...], tuple[str, ...]] = (HAMILTONIANS, OVERLAPS)
    if step is not None:
        names = ((STEPS[0].format(1, step),), tuple(name.format(step) for name in STEPS[1:]))
    h, s = (
        next((folder / name for name in group if (folder / name).is_file()), None)
        for group in names
    )
    return (h, s) if h and s else None


def list_steps(folder: Path) -> list[int | None]:
    """List what ``read_abacus`` reads in a folder: [None], or ionic steps with files of their own.

    Args:
        folder: of the output; an empty list where it is another one.
    """
    if not folder.is_dir():
        return []
    if find_matrices(folder) is not None:
        return [None]
    found = [
        re.fullmatch(r"hrs1g(\d{1,9})_nao\.csr", file.name)
        for file in folder.glob("hrs1g*_nao.csr")
    ]
    steps = sorted(int(match.group(1)) for match in found if match)
    return [step for step in steps if find_matrices(folder, step) is not None]


@guard("a folder of ABACUS")
def read_abacus(
    folder: str | Path, name: str | None = None, step: int | None = None
) -> LabelledStructure:
    """Read the labels of an ABACUS run without spin.

    Args:
        folder: ``OUT.NAME`` with H(R), S(R) and the log; ``STRU`` in it or above it.
        name: name of the structure; that of the folder without "OUT." when None.
        step: see ``find_matrices``.

    Returns:
        Labels in eV, Å and internal order, atoms where they were in the ionic step of the matrices;
        energy and forces where the log has them.

    Raises:
        DataError: a file is missing or damaged, spin, a run at Γ alone, or an invariant of
            ``validation`` broken.
    """
    path = Path(folder)
    where = str(path)
    files = find_matrices(path, step)
    if files is None:
        expected = f"{HAMILTONIANS[0]} and {OVERLAPS[0]}, or {HAMILTONIANS[1]} and {OVERLAPS[2]}"
        fix = "Give the folder OUT.NAME of a run with out_mat_hs2 1."
        raise DataError(message(where, "no H(R) and S(R)", expected, fix))
    second = SECOND_SPIN if step is None else (STEPS[0].format(2, step),)
    if any((path / other).is_file() for other in second):
        refuse(where, "two spins", "a calculation without spin")
    hamiltonian, overlap = (read_abacus_csr(file) for file in files)
    steps = [(matrix.step or 0) + 1 for matrix in (hamiltonian, overlap)]
    if steps[0] != steps[1]:
        got = f"H(R) of ionic step {steps[0]} and S(R) of {steps[1]}"
        raise DataError(message(where, got, "one step", "Copy both files of one run."))
    stru = next((f for f in (path / "STRU", path.parent / "STRU") if f.is_file()), None)
    if stru is None:
        raise DataError(message(where, "no STRU in it or above it", "one", "Copy it there."))
    log_file = find_log(path)
    atoms, orbitals = read_stru(stru, read_lattice(log_file))
    log, ionic = read_log(log_file), steps[0] - 1
    if hamiltonian.step is None and len(log.forces) > 1:
        refuse(where, f"one H(R), of a run of {len(log.forces)} ionic steps", "that of one step")
    _check_header(where, hamiltonian, atoms)
    printed = _read_positions_of(hamiltonian, len(atoms))
    if printed is None:
        printed = find_positions(log, atoms, ionic)
    atoms, moves = place_atoms(where, atoms, ionic, printed)
    shells = _shells(where, atoms, orbitals, log)
    shells = {z: parse_shells(where, ls) for z, ls in shells.items()}
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    for file, matrix in zip(files, (hamiltonian, overlap), strict=True):
        if matrix.n_orbitals != counts.sum():
            fix = "Give the STRU and the log of this run."
            got = f"a matrix of {matrix.n_orbitals} orbitals"
            raise DataError(message(str(file), got, f"{counts.sum()}, by the shells", fix))
    lists = [
        gather_blocks(counts, m.cells, m.rows, m.columns, m.values * factor)
        for m, factor in ((hamiltonian, RYDBERG), (overlap, 1.0))
    ]
    for part in lists:
        part.pairs[:, :3] += moves[part.pairs[:, 4]] - moves[part.pairs[:, 3]]
    longest = infer_radii(atoms, np.concatenate([part.pairs for part in lists]))
    radii = {z: max(radius, orbitals_radius(orbitals, z)) for z, radius in longest.items()}
    names = {element_number(where, s): Path(f).stem for s, f in orbitals.items()}
    return assemble_labels(
        where,
        name or path.resolve().name.removeprefix("OUT."),
        atoms,
        OrbitalBasis(shells, radii, {z: names.get(z, "ABACUS") for z in shells}),
        order="abacus",
        overlap=lists[1],
        hamiltonian=lists[0],
        fermi_energy=choose_step(log, log.fermi_energies, ionic),
        energy=choose_step(log, log.energies, ionic),
        forces=read_forces(log, ionic, len(atoms)),
        provenance={"code": "ABACUS", "files": [file.name for file in files]},
    )


@guard("a STRU of ABACUS")
def read_stru(
    path: Path, lattice: NDArray[np.float64] | None = None
) -> tuple[Atoms, dict[str, str]]:
    """Read a ``STRU``.

    Args:
        path: of the file.
        lattice: (3, 3) in lattice constants, for a file without ``LATTICE_VECTORS``, whose input
            names its Bravais lattice (``latname``).

    Returns:
        The structure, Å, and for every element the file of its orbitals, where named.

    Raises:
        DataError: a section is missing or malformed.
    """
    sections = _split_sections(path)
    try:
        species = [words[0] for words in sections["ATOMIC_SPECIES"]]
        constant = float(sections["LATTICE_CONSTANT"][0][0]) * BOHR
        if lattice is None or "LATTICE_VECTORS" in sections:
            rows = sections["LATTICE_VECTORS"]
            lattice = np.array([[float(w) for w in words[:3]] for words in rows])
        cell = lattice
        (kind, *_), *rows = sections["ATOMIC_POSITIONS"]
        symbols, positions = _read_positions(rows)
    except (KeyError, IndexError, ValueError) as error:
        fix = "Give the STRU of the run, with explicit LATTICE_VECTORS or the log of the run."
        got = f"a missing or malformed section ({type(error).__name__}: {error})"
        raise DataError(message(str(path), got, f"{', '.join(SECTIONS[:5])}", fix)) from error
    factors = {"cartesian": constant, "cartesian_angstrom": 1.0, "cartesian_au": BOHR}
    if cell.shape != (3, 3) or (kind.lower() not in factors and kind.lower() != "direct"):
        fix = "Write Direct, Cartesian, Cartesian_angstrom or Cartesian_au."
        raise DataError(message(str(path), f"positions {kind!r}", "Direct or Cartesian", fix))
    cell = cell * constant
    scaled = kind.lower() == "direct"
    placed = positions @ cell if scaled else positions * factors[kind.lower()]
    elements = [_element(path, symbol) for symbol in symbols]
    files = [words[0] for words in sections.get("NUMERICAL_ORBITAL", [])]
    orbitals = {_element(path, symbol): file for symbol, file in zip(species, files, strict=False)}
    return Atoms(elements, positions=placed, cell=cell, pbc=True), orbitals


def _split_sections(path: Path) -> dict[str, list[list[str]]]:
    """Return the words of every line by section, without comments."""
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in read_text(path).splitlines():
        words = re.split(r"#|//", line, maxsplit=1)[0].split()
        if words and words[0] in SECTIONS:
            current = sections.setdefault(words[0], [])
        elif words:
            current.append(words)
    return sections


def _read_positions(rows: list[list[str]]) -> tuple[list[str], NDArray[np.float64]]:
    """Read label, magnetism, number of atoms and positions of every species."""
    symbols: list[str] = []
    positions: list[list[float]] = []
    place = 0
    while place < len(rows):
        label, count = rows[place][0], int(rows[place + 2][0])
        block = rows[place + 3 : place + 3 + count]
        if len(block) < count:
            raise ValueError(f"{len(block)} of {count} atoms {label}")
        symbols += [label] * count
        positions += [[float(word) for word in words[:3]] for words in block]
        place += 3 + count
    return symbols, np.array(positions).reshape(-1, 3)


def _element(path: Path, label: str) -> str:
    """Return the element of a label such as "Fe1"."""
    match = re.match(r"[A-Z][a-z]?", label)
    symbol = match.group() if match else label
    return chemical_symbols[element_number(str(path), symbol)]


def orbitals_radius(orbitals: dict[str, str], number: int) -> float:
    """Read the radius off the name of a file of orbitals, "Si_gga_7au_…": Å; 0 where it is not."""
    match = re.search(r"_(\d+(?:\.\d+)?)au_", orbitals.get(chemical_symbols[number], ""))
    return float(match.group(1)) * BOHR if match else 0.0


def _shells(
    where: str, atoms: Atoms, orbitals: dict[str, str], log: AbacusLog
) -> dict[int, tuple[int, ...]]:
    """Return the shells of every element, by the log or else by the names of the orbital files."""
    shells: dict[int, tuple[int, ...]] = {}
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        number = chemical_symbols.index(symbol)
        match = re.search(r"_((?:\d+[spdfg])+)\.orb$", orbitals.get(symbol, ""))
        if symbol in log.shells:
            shells[number] = log.shells[symbol]
        elif match:
            parts = re.findall(r"(\d+)([spdfg])", match.group(1))
            shells[number] = tuple(
                SHELL_LETTERS.index(letter)
                for count, letter in parts
                for _ in range(int(count[:4]))
            )
        else:
            fix = "Copy the running_*.log of the run into the folder."
            got = f"no shells of {symbol}"
            expected = "a log, or an orbital file named …_2s2p1d.orb in STRU"
            raise DataError(message(where, got, expected, fix))
    return shells


def _check_header(where: str, matrix: AbacusMatrix, atoms: Atoms) -> None:
    """Compare the lattice in the header of the newer layout with that of ``STRU``."""
    rows = [line.split() for line in matrix.structure]
    start = next((k for k, words in enumerate(rows) if len(words) == 1 and k > 0), None)
    if start is None or len(rows) < start + 4:
        return
    try:
        constant = float(rows[start][0])
        cell = constant * np.array([[float(w) for w in row] for row in rows[start + 1 : start + 4]])
    except ValueError:
        return
    if cell.shape != (3, 3):
        return
    ratio = abs(np.linalg.det(cell)) / atoms.cell.volume
    worst = min(float(np.abs(cell * f - atoms.cell.array).max()) for f in (1.0, BOHR))
    if worst > 1e-3:
        fix = "Give the STRU of this run."
        got = f"a cell of {ratio:.3f} times the volume of STRU's"
        raise DataError(message(where, got, "the same structure", fix))


def _read_positions_of(matrix: AbacusMatrix, n_atoms: int) -> NDArray[np.float64] | None:
    """Read the fractional positions in the header of the newer layout; None where they are not."""
    rows = [line.split() for line in matrix.structure]
    start = next((k for k, words in enumerate(rows) if words == ["Direct"]), len(rows))
    if len(rows) - start - 1 != n_atoms:
        return None
    try:
        positions = np.array(rows[start + 1 :], dtype=np.float64)
    except ValueError:
        return None
    return positions if positions.shape == (n_atoms, 3) else None
