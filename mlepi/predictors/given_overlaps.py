"""Overlaps of a structure that no table can give: from a folder of files, or from a program.

S of PAW or of a k-mesh has more than two centres. Its code has to compute it for every structure,
which costs little beside a self-consistent run, and leave it in any format that mlepi reads.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import KDTree

from mlepi.errors import DataError, UnusualDataWarning, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.child_process import run_program
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.sources import FORMATS, Source, find_sources, read_source

SAME_STRUCTURE = 1e-3
"""Å; positions and lattice vectors of one structure agree within this, digits of text files."""


class OverlapSource(Protocol):
    """Whatever knows S of structures."""

    def overlap(self, atoms: Atoms, basis: OrbitalBasis) -> BlockMatrix:
        """Return S of a structure in a basis."""
        ...


@dataclass(frozen=True)
class _Known:
    """Geometry of one file."""

    source: Source
    place: int
    atoms: Atoms


@dataclass
class FolderOverlaps:
    """S of structures whose files lie in a folder, each recognised by its atoms.

    Attributes:
        folder: of any formats with overlaps; searched to its end when S is first asked for.
    """

    folder: Path

    @cached_property
    def known(self) -> list[_Known]:
        """Structures that have overlaps."""
        found = []
        for source in find_sources([self.folder]):
            if (
                source.source_format in FORMATS
                and not FORMATS[source.source_format].has_hamiltonian
            ):
                continue
            for place, structure in enumerate(_read(source)):
                if structure.overlap_blocks is not None:
                    found.append(_Known(source, place, structure.atoms))
        return found

    def overlap(self, atoms: Atoms, basis: OrbitalBasis) -> BlockMatrix:
        """Return S of a structure.

        Args:
            atoms: not modified; files may order its atoms otherwise.
            basis: of the Hamiltonian.

        Raises:
            DataError: no file has this structure, or it has another basis.
        """
        nearest, worst = None, np.inf
        for known in self.known:
            distance = _match(atoms, known.atoms).distance
            if distance < worst:
                nearest, worst = known, distance
        if nearest is None or worst > SAME_STRUCTURE:
            closest = f"; the nearest differs by {worst:.3g} Å" if np.isfinite(worst) else ""
            raise DataError(
                message(
                    f"overlap={self.folder}",
                    f"no S of {atoms.get_chemical_formula()} as it is predicted among "
                    f"{len(self.known)} structures{closest}",
                    f"one with the same atoms within {SAME_STRUCTURE:g} Å",
                    "Compute S of every structure: stage=sampling stage.sampling.export=true "
                    "writes the displaced ones; or name a program, overlap={program: …}.",
                )
            )
        structure = _read(nearest.source)[nearest.place]
        return _convert(str(nearest.source.path), structure, atoms, basis)


@dataclass
class ProgramOverlaps:
    """S of any structure from a program.

    It is called with a new folder as its last argument, in which ``structure.extxyz`` and
    ``POSCAR`` stand, and leaves S there in any format that mlepi reads.

    Attributes:
        command: program and its arguments.
    """

    command: tuple[str, ...]
    _last: tuple[bytes, BlockMatrix] | None = field(default=None, repr=False)

    def overlap(self, atoms: Atoms, basis: OrbitalBasis) -> BlockMatrix:
        """Return S of a structure; of the last one without calling again.

        Args:
            atoms: not modified.
            basis: of the Hamiltonian.

        Raises:
            DataError: the program fails, or leaves no S of this structure and basis.
        """
        key = b"".join(x.tobytes() for x in (atoms.numbers, atoms.positions, atoms.cell.array))
        if self._last is None or self._last[0] != key:
            self._last = key, self._compute(atoms, basis)
        return self._last[1]

    def _compute(self, atoms: Atoms, basis: OrbitalBasis) -> BlockMatrix:
        where = f"overlap={{program: {' '.join(self.command)}}}"
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        with tempfile.TemporaryDirectory(prefix="mlepi_overlap_") as folder:
            inputs = Path(folder) / "structure.extxyz", Path(folder) / "POSCAR"
            ase.io.write(inputs[0], plain, format="extxyz")
            ase.io.write(inputs[1], plain, format="vasp")
            fix = "Try it by hand: it gets a folder with structure.extxyz and POSCAR."
            run_program(where, [*self.command, folder], fix)
            inputs[0].unlink(missing_ok=True)
            try:
                return FolderOverlaps(Path(folder)).overlap(atoms, basis)
            except DataError as error:
                got, expected = f"no usable S: {error}", "S in the folder of its last argument"
                raise DataError(message(where, got, expected, fix)) from error


def open_overlaps(folder: Path | None, program: Sequence[str]) -> OverlapSource | None:
    """Return where S comes from; None where neither is given."""
    if program:
        return ProgramOverlaps(tuple(program))
    return None if folder is None else FolderOverlaps(folder)


def _read(source: Source) -> list[LabelledStructure]:
    """Read without remarks: that S is unusual is why it comes from a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualDataWarning)
        return read_source(source)


@dataclass(frozen=True)
class _Match:
    """How the atoms of a file are those of a structure.

    Attributes:
        order: (n_atoms,) int, for every atom of the structure its number in the file.
        steps: (n_atoms, 3) int, cells by which the file has it elsewhere.
        distance: largest difference of positions and lattice vectors, Å; infinite for other atoms.
    """

    order: NDArray[np.int64]
    steps: NDArray[np.int64]
    distance: float


def _match(atoms: Atoms, other: Atoms) -> _Match:
    """Find every atom of a structure in a file, in any order and any cell."""
    none = _Match(np.empty(0, np.int64), np.empty((0, 3), np.int64), np.inf)
    cells = float(np.abs(atoms.cell.array - other.cell.array).max())
    if len(atoms) != len(other) or cells > 1.0:
        return none
    here, there = (atoms.cell.scaled_positions(x.positions) for x in (atoms, other))
    tree = KDTree(np.minimum(there % 1.0, 1.0 - 1e-16), boxsize=1.0)
    order = np.asarray(tree.query(np.minimum(here % 1.0, 1.0 - 1e-16))[1], dtype=np.int64)
    same = np.array_equal(np.sort(order), np.arange(len(atoms)))
    if not same or not np.array_equal(other.numbers[order], atoms.numbers):
        return none
    steps = np.rint(there[order] - here)
    rest = (there[order] - here - steps) @ atoms.cell.array
    return _Match(order, steps.astype(np.int64), max(float(np.abs(rest).max()), cells))


def _convert(
    where: str, structure: LabelledStructure, atoms: Atoms, basis: OrbitalBasis
) -> BlockMatrix:
    """Bring S to the order and the cells of the atoms of the prediction, and to its padding."""
    edges, shift, blocks = (
        structure.edge_index,
        structure.edge_cell_shift,
        structure.overlap_blocks,
    )
    if structure.basis is None or edges is None or shift is None or blocks is None:
        raise DataError(message(where, "no overlaps", "S", "Give files with overlaps."))
    for z in sorted(set(atoms.numbers.tolist())):
        mine, theirs = basis.shells.get(z), structure.basis.shells.get(z)
        if mine != theirs:
            got, fix = f"shells {theirs} of element {z}", "Use the basis of the training data."
            raise DataError(message(where, got, f"{mine}, those of the Hamiltonian", fix))
    match = _match(atoms, structure.atoms)
    back = np.argsort(match.order)
    size = min(basis.max_orbitals, blocks.shape[1])
    padded = np.zeros((len(blocks), basis.max_orbitals, basis.max_orbitals))
    padded[:, :size, :size] = blocks[:, :size, :size]
    index, steps = back[edges], match.steps[back]
    moved = shift + steps[edges[0]] - steps[edges[1]]
    return BlockMatrix(np.asarray(atoms.numbers, dtype=np.int64), basis, index, moved, padded)
