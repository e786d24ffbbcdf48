"""Reader of OpenMX results.

The binary ``.scfout`` of versions 3.9 and 4.0 and, for energy and forces, the text ``.out``.

The ``.scfout`` holds structure, Hamiltonian, overlap and chemical potential in Hartree and Bohr,
and at its end the input file, which alone tells the shells of every atom. Block h of atom i is ⟨i,
cell 0 | · | j, cell R⟩ with rows = orbitals of i, j = natn[i][h] (counted from 1) and R =
atv_ijk[ncn[i][h]]; the orbital order is "openmx" of ``OrbitalBasis``. Numbers are converted with
the CODATA values of ``units``; OpenMX's own constants differ by 7e-8 relative.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import BlockList, assemble_labels, element_number
from mlepi.structures.basis import SHELL_LETTERS, OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.validation import check_atom_indices, check_finite
from mlepi.units import BOHR, HARTREE

FORMAT_CODE = 3
"""The only format of ``.scfout`` that is read: OpenMX 3.9 and 4.0."""

SPIN = {1: "spin-polarised (collinear)", 3: "non-collinear"}
LINE_LENGTH = 256

PAO_NAME = re.compile(
    r"^[A-Za-z_]+?(?P<radius>\d+(?:\.\d+)?)[A-Za-z_]*-(?P<shells>(?:[spdfg]\d+(?:>\d+)?)+)$"
)
NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Species:
    """One line of ``Definition.of.Atomic.Species``."""

    number: int
    shells: tuple[int, ...]
    radius: float  # Å
    pao: str
    pseudopotential: str


@dataclass(frozen=True)
class _ScfOut:
    """What is used of a ``.scfout``; atomic units as in the file."""

    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    orbital_counts: NDArray[np.int64]
    hamiltonian: BlockList
    overlap: BlockList
    chemical_potential: float
    text: str


def read_openmx(
    scfout: str | Path, out: str | Path | None = None, name: str | None = None
) -> LabelledStructure:
    """Read Hamiltonian, overlap and Fermi energy of a non-spin-polarised OpenMX run, and energy and forces from its log.

    Args:
        scfout: binary file of OpenMX 3.9 or 4.0 (``HS.fileout on``), of either byte order.
        out: the ``.out`` of the same run; without it (and unless it was appended to the
            ``.scfout``) energy and forces are None.
        name: name of the structure; the stem of ``scfout`` when None.

    Returns:
        Labels in eV, Å and internal orbital order, both directions of every pair, exactly
        Hermitian. Positions and cell are those of the ``.scfout`` (not wrapped); ``fermi_energy``
        is OpenMX's chemical potential.

    Raises:
        DataError: wrong version, spin, damage, or any invariant of ``validation`` broken.
    """
    path = Path(scfout)
    where = str(path)
    raw = _read_scfout(path)
    log = _read_text(Path(out)) if out is not None else raw.text
    species, labels = read_species(
        where, raw.text if _has_species(raw.text) else log, len(raw.positions)
    )
    numbers = np.array([species[label].number for label in labels])
    basis = _build_basis(where, species, labels)
    expected = basis.counts(numbers)
    if not np.array_equal(expected, raw.orbital_counts):
        atom = int(np.flatnonzero(expected != raw.orbital_counts)[0])
        raise DataError(
            message(
                where,
                f"{raw.orbital_counts[atom]} orbitals on atom {atom + 1} (Total_NumOrbs)",
                f"{expected[atom]} from its basis {species[labels[atom]].pao}",
                "The input text does not belong to the matrices.",
            )
        )
    atoms = Atoms(numbers=numbers, positions=raw.positions * BOHR, cell=raw.cell * BOHR, pbc=True)
    energy, forces = _read_log(
        str(out) if out is not None else where,
        log,
        atoms,
        raw.chemical_potential,
        required=out is not None,
    )
    hamiltonian = BlockList(
        raw.hamiltonian.pairs, raw.hamiltonian.values * HARTREE, raw.hamiltonian.boundaries
    )
    return assemble_labels(
        where,
        name or path.stem,
        atoms,
        basis,
        order="openmx",
        overlap=raw.overlap,
        hamiltonian=hamiltonian,
        fermi_energy=raw.chemical_potential * HARTREE,
        energy=energy,
        forces=forces,
        provenance={
            "code": "OpenMX",
            "scfout": path.name,
            "scfout_format": FORMAT_CODE,
            "out": Path(out).name if out is not None else None,
            "pseudopotentials": sorted({s.pseudopotential for s in species.values()}),
        },
    )


def parse_pao_name(where: str, pao: str) -> tuple[tuple[int, ...], float]:
    """Read shells and radius off an OpenMX basis name.

    Args:
        where: file, for the message.
        pao: such as "C6.0-s2p2" (two s and two p shells, radius 6.0 Bohr) or "H5.0-s3>1"
            (contracted: one s shell).

    Returns:
        Angular momenta in OpenMX's order (s, p, d, …), and the radius in Å.

    Raises:
        DataError: the name has another form.
    """
    match = PAO_NAME.match(pao)
    if match is None:
        raise DataError(
            message(
                where,
                f"basis name {pao!r}",
                "a name such as C6.0-s2p2",
                "Correct Definition.of.Atomic.Species.",
            )
        )
    shells: list[int] = []
    for letter, primitives, contracted in re.findall(r"([spdfg])(\d+)(?:>(\d+))?", match["shells"]):
        shells += [SHELL_LETTERS.index(letter)] * int(contracted or primitives)
    if shells != sorted(shells):
        raise DataError(
            message(
                where,
                f"basis name {pao!r}",
                "shells in the order s, p, d, f",
                "Correct the name of the basis.",
            )
        )
    return tuple(shells), float(match["radius"]) * BOHR


class _Binary:
    """Sequential access to the numbers of a ``.scfout``."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(
                message(
                    str(path),
                    "no such file",
                    "a .scfout file of OpenMX",
                    "Check the path; HS.fileout must be on.",
                )
            )
        self.where = str(path)
        self.data = (
            np.fromfile(path, dtype=np.uint8)
            if path.stat().st_size < 1
            else np.memmap(path, dtype=np.uint8, mode="r")
        )
        self.position = 0
        self.byte_order = "<"

    def _bytes(self, n_bytes: int, what: str) -> NDArray[np.uint8]:
        end = self.position + n_bytes
        if n_bytes < 0 or end > len(self.data):
            raise DataError(
                message(
                    self.where,
                    f"the end of the file ({len(self.data)} bytes) inside {what}",
                    f"at least {end} bytes",
                    "The file is truncated or damaged: copy it again or repeat the run.",
                )
            )
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def integers(self, count: int, what: str) -> NDArray[np.int64]:
        return self._bytes(4 * count, what).view(self.byte_order + "i4").astype(np.int64)

    def floats(self, count: int, what: str) -> NDArray[np.float64]:
        return self._bytes(8 * count, what).view(self.byte_order + "f8").astype(np.float64)

    def skip_floats(self, count: int, what: str) -> None:
        self._bytes(8 * count, what)

    def text(self, n_lines: int) -> str:
        lines = self._bytes(LINE_LENGTH * n_lines, "the appended input file").reshape(
            n_lines, LINE_LENGTH
        )
        return "".join(
            bytes(line).split(b"\0", 1)[0].decode("utf-8", "replace").rstrip("\n") + "\n"
            for line in lines
        )

    def rest(self) -> str:
        return bytes(self._bytes(len(self.data) - self.position, "appended text")).decode(
            "utf-8", "replace"
        )


def _read_header(file: _Binary) -> tuple[int, int, int]:
    """Read the seven leading integers and refuse what is not supported.

    (n_atoms, n_cells − 1, order of OLPpo).
    """
    for byte_order in ("<", ">"):
        file.position, file.byte_order = 0, byte_order
        n_atoms, code, n_central, n_left, n_right, n_cells = (
            int(v) for v in file.integers(6, "the header")
        )
        if 0 <= code < 64 and n_atoms > 0 and n_cells >= 0:
            break
    else:
        raise DataError(
            message(
                file.where,
                "no OpenMX header in either byte order",
                "a binary .scfout",
                "Give the .scfout file.",
            )
        )
    version, spin = divmod(code, 4)
    if version != FORMAT_CODE:
        raise DataError(
            message(
                file.where,
                f"format code {version}",
                f"{FORMAT_CODE} (OpenMX 3.9 or 4.0)",
                "Repeat the run with such a version.",
            )
        )
    if spin != 0:
        raise DataError(
            message(
                file.where,
                f"a {SPIN.get(spin, 'strange')} calculation",
                "a non-spin-polarised one",
                "Set scf.SpinPolarization off.",
            )
        )
    if n_central != n_atoms or n_left or n_right:
        raise DataError(
            message(
                file.where,
                "atoms of leads (NEGF)",
                "one periodic structure",
                "Repeat the run without leads.",
            )
        )
    return n_atoms, n_cells, int(file.integers(1, "order_max")[0])


def _read_scfout(path: Path) -> _ScfOut:
    """Read the file section by section, in the order in which OpenMX writes it."""
    file = _Binary(path)
    n_atoms, n_cells, position_orders = _read_header(file)
    file.skip_floats(4 * (n_cells + 1), "atv")
    cells = file.integers(4 * (n_cells + 1), "atv_ijk").reshape(-1, 4)[:, 1:]
    counts = file.integers(n_atoms, "Total_NumOrbs")
    n_neighbours = file.integers(n_atoms, "FNAN") + 1
    if counts.min() < 1 or n_neighbours.min() < 1 or position_orders < 0:
        raise DataError(
            message(
                file.where,
                "negative counts",
                "positive orbital and neighbour counts",
                "The file is damaged.",
            )
        )
    n_pairs = int(n_neighbours.sum())
    target = np.repeat(np.arange(n_atoms), n_neighbours)
    source = file.integers(n_pairs, "natn")
    cell_index = file.integers(n_pairs, "ncn")
    check_atom_indices(f"{file.where}, natn", source, n_atoms, base=1)
    if cell_index.min() < 0 or cell_index.max() > n_cells:
        raise DataError(
            message(
                file.where, "a cell index outside atv_ijk", f"0 … {n_cells}", "The file is damaged."
            )
        )
    source -= 1
    pairs = np.column_stack([cells[cell_index], target, source])
    first = np.concatenate([[0], np.cumsum(n_neighbours)[:-1]])
    if np.any(source[first] != np.arange(n_atoms)) or np.any(pairs[first, :3] != 0):
        raise DataError(
            message(
                file.where,
                "a neighbour list that does not begin with the atom itself",
                "natn[i][0] = i",
                "The file is damaged.",
            )
        )
    cell = file.floats(12, "tv").reshape(3, 4)[:, 1:]
    file.skip_floats(12, "rtv")
    positions = file.floats(4 * n_atoms, "Gxyz").reshape(-1, 4)[:, 1:]
    check_finite(file.where, "cell and position", np.concatenate([cell, positions]))
    boundaries = np.concatenate([[0], np.cumsum(counts[target] * counts[source])])
    n_values = int(boundaries[-1])
    hamiltonian = file.floats(n_values, "the Hamiltonian (Hks)")
    overlap = file.floats(n_values, "the overlap (OLP)")
    file.skip_floats(3 * position_orders * n_values, "the position matrix (OLPpo)")
    file.skip_floats(3 * n_values, "the momentum matrix (OLPmo)")
    file.skip_floats(3 * n_values, "the density matrix (DM, iDM)")
    file.integers(1, "Solver")
    chemical_potential = float(file.floats(10, "ChemP and dipole moments")[0])
    n_lines = int(file.integers(1, "the line count of the input file")[0])
    return _ScfOut(
        cell=cell,
        positions=positions,
        orbital_counts=counts,
        hamiltonian=BlockList(pairs, hamiltonian, boundaries),
        overlap=BlockList(pairs, overlap, boundaries),
        chemical_potential=chemical_potential,
        text=file.text(n_lines) + file.rest(),
    )


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            message(
                str(path),
                "no such file",
                "the .out file of the run",
                "Check the path, or leave `out` away.",
            )
        )
    return path.read_text(encoding="utf-8", errors="replace")


def find_block(text: str, keyword: str) -> list[list[str]] | None:
    """Return the words of every line of the last ``<keyword … keyword>`` block, comments removed.

    None if there is none.
    """
    found = re.findall(
        rf"<{re.escape(keyword)}\s*\n(.*?){re.escape(keyword)}>",
        text,
        flags=re.DOTALL | re.IGNORECASE,
    )
    if not found:
        return None
    return [
        words
        for words in (line.split("#", 1)[0].split() for line in found[-1].splitlines())
        if words
    ]


def _has_species(text: str) -> bool:
    return find_block(text, "Definition.of.Atomic.Species") is not None


def read_species(where: str, text: str, n_atoms: int) -> tuple[dict[str, Species], list[str]]:
    """Read the species definitions and the species label of every atom from an input file's text.

    Args:
        where: file, for the message.
        text: of the input.
        n_atoms: that the structure has.

    Returns:
        Label → species, and the label of every atom.

    Raises:
        DataError: a definition is missing or malformed, or the atoms are not as many.
    """
    definitions, coordinates = (
        find_block(text, "Definition.of.Atomic.Species"),
        find_block(text, "Atoms.SpeciesAndCoordinates"),
    )
    if definitions is None or coordinates is None:
        raise DataError(
            message(
                where,
                "no Definition.of.Atomic.Species or Atoms.SpeciesAndCoordinates at the end of the "
                "file",
                "the input file, which names the orbitals of every atom",
                "Give the .out file of the run as well.",
            )
        )
    species: dict[str, Species] = {}
    for words in definitions:
        if len(words) < 3:
            raise DataError(
                message(
                    where,
                    f"species line {words}",
                    "label, basis, pseudopotential",
                    "Correct the input text.",
                )
            )
        label, pao, pseudopotential = words[:3]
        symbol = re.split(r"[_\d]", pseudopotential)[0]
        if symbol == "E":
            raise DataError(
                message(
                    where,
                    f"species {label!r} of empty atoms",
                    "real atoms only",
                    "Remove the ghost atoms.",
                )
            )
        shells, radius = parse_pao_name(where, pao)
        species[label] = Species(
            element_number(where, symbol), shells, radius, pao, pseudopotential
        )
    labels = [words[1] if len(words) > 1 else "" for words in coordinates]
    if len(labels) != n_atoms or not set(labels) <= set(species):
        raise DataError(
            message(
                where,
                f"{len(labels)} atoms of species {sorted(set(labels))} in the input text",
                f"{n_atoms} atoms of species {sorted(species)}",
                "The input text does not belong to the matrices.",
            )
        )
    return species, labels


def _build_basis(where: str, species: dict[str, Species], labels: list[str]) -> OrbitalBasis:
    """Collect one basis per element; two different bases of one element are refused."""
    used = [species[label] for label in dict.fromkeys(labels)]
    shells: dict[int, tuple[int, ...]] = {}
    radii: dict[int, float] = {}
    names: dict[int, str] = {}
    for item in used:
        if item.number in names and (shells[item.number], radii[item.number]) != (
            item.shells,
            item.radius,
        ):
            raise DataError(
                message(
                    where,
                    f"bases {names[item.number]} and {item.pao} for one element",
                    "one basis per element",
                    "Use the same basis for all atoms of an element.",
                )
            )
        shells[item.number], radii[item.number], names[item.number] = (
            item.shells,
            item.radius,
            item.pao,
        )
    return OrbitalBasis(shells=shells, radii=radii, names=names)


def _read_log(
    where: str, text: str, atoms: Atoms, chemical_potential: float, *, required: bool
) -> tuple[float | None, NDArray[np.float64] | None]:
    """Read total energy (eV) and forces (eV/Å) of the last step and check that they belong to the matrices."""
    energies = re.findall(rf"^\s*Utot\.?\s+({NUMBER})", text, flags=re.MULTILINE)
    potentials = re.findall(rf"Chemical potential \(Hartree\)\s+({NUMBER})", text)
    block = find_block(text, "coordinates.forces")
    if not (energies and potentials and block):
        if not required:
            return None, None
        missing = [
            k
            for k, v in {
                "Utot": energies,
                "Chemical potential": potentials,
                "coordinates.forces": block,
            }.items()
            if not v
        ]
        raise DataError(
            message(
                where,
                f"no {' and no '.join(missing)}",
                "the .out of a finished run",
                "Give the right .out file.",
            )
        )
    if abs(float(potentials[-1]) - chemical_potential) > 1e-6:
        raise DataError(
            message(
                where,
                f"chemical potential {float(potentials[-1]):.8f} Hartree",
                f"{chemical_potential:.8f} as in the .scfout",
                "The two files are of different runs.",
            )
        )
    rows = block[1:]
    if len(rows) != len(atoms) or any(len(row) < 8 for row in rows):
        raise DataError(
            message(
                where,
                f"forces on {len(rows)} atoms",
                f"{len(atoms)}",
                "The two files are of different runs.",
            )
        )
    symbols = [row[1] for row in rows]
    try:
        table = np.array([[float(v) for v in row[2:8]] for row in rows])
    except ValueError as error:
        raise DataError(
            message(where, f"coordinates.forces with {error}", "numbers", "The file is damaged.")
        ) from error
    shift = np.linalg.solve(atoms.cell.array.T, (table[:, :3] - atoms.positions).T).T
    distances = np.linalg.norm((shift - np.round(shift)) @ atoms.cell.array, axis=1)
    if symbols != atoms.get_chemical_symbols() or distances.max() > 1e-3:
        raise DataError(
            message(
                where,
                f"coordinates that differ from the .scfout by up to {distances.max():.4f} Å, or "
                "other elements",
                "the same structure",
                "The two files are of different runs or steps.",
            )
        )
    check_finite(where, "force", table)
    return float(energies[-1]) * HARTREE, table[:, 3:] * (HARTREE / BOHR)
