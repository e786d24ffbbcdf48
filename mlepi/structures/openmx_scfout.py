"""Reader of the binary ``.scfout`` of OpenMX 3.9 and 4.0, in its atomic units.

It holds structure, Hamiltonian, overlap and chemical potential in Hartree and Bohr, and at its end
the input file, which alone tells the shells of every atom. Block h of atom i is ⟨i, cell 0 | · | j,
cell R⟩ with rows = orbitals of i, j = natn[i][h] (counted from 1) and R = atv_ijk[ncn[i][h]].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.block_checks import check_atom_indices, check_finite
from mlepi.structures.pair_lists import BlockList
from mlepi.untrusted import guard

FORMAT_CODE = 3
"""The only format of ``.scfout`` that is read: OpenMX 3.9 and 4.0."""

SPIN = {1: "spin-polarised (collinear)", 3: "non-collinear"}
LINE_LENGTH = 256


@dataclass(frozen=True)
class ScfOut:
    """What is used of a ``.scfout``; atomic units as in the file."""

    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    orbital_counts: NDArray[np.int64]
    hamiltonian: BlockList
    overlap: BlockList
    chemical_potential: float
    text: str


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
        flat = self._bytes(LINE_LENGTH * n_lines, "the appended input file")
        lines = (
            bytes(line).split(b"\0", 1)[0].decode("utf-8", "replace").rstrip("\n")
            for line in flat.reshape(n_lines, LINE_LENGTH)
        )
        return "".join(line + "\n" for line in lines)

    def rest(self) -> str:
        remaining = self._bytes(len(self.data) - self.position, "appended text")
        return bytes(remaining).decode("utf-8", "replace")


def _read_header(file: _Binary) -> tuple[int, int, int]:
    """Read the seven leading integers and refuse what is not supported.

    Returns:
        n_atoms, n_cells − 1, order of OLPpo.
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
    if n_central not in (0, n_atoms) or n_left or n_right:  # 0: not a run of NEGF
        raise DataError(
            message(
                file.where,
                "atoms of leads (NEGF)",
                "one periodic structure",
                "Repeat the run without leads.",
            )
        )
    return n_atoms, n_cells, int(file.integers(1, "order_max")[0])


@guard("a .scfout of OpenMX")
def read_scfout(path: Path) -> ScfOut:
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
    pairs = _read_pairs(file, cells, n_neighbours)
    cell = file.floats(12, "tv").reshape(3, 4)[:, 1:]
    file.skip_floats(12, "rtv")
    positions = file.floats(4 * n_atoms, "Gxyz").reshape(-1, 4)[:, 1:]
    check_finite(file.where, "cell and position", np.concatenate([cell, positions]))
    boundaries = np.concatenate([[0], np.cumsum(counts[pairs[:, 3]] * counts[pairs[:, 4]])])
    n_values = int(boundaries[-1])
    hamiltonian = file.floats(n_values, "the Hamiltonian (Hks)")
    overlap = file.floats(n_values, "the overlap (OLP)")
    file.skip_floats(3 * position_orders * n_values, "the position matrix (OLPpo)")
    file.skip_floats(3 * n_values, "the momentum matrix (OLPmo)")
    file.skip_floats(3 * n_values, "the density matrix (DM, iDM)")
    file.integers(1, "Solver")
    chemical_potential = float(file.floats(10, "ChemP and dipole moments")[0])
    n_lines = int(file.integers(1, "the line count of the input file")[0])
    return ScfOut(
        cell=cell,
        positions=positions,
        orbital_counts=counts,
        hamiltonian=BlockList(pairs, hamiltonian, boundaries),
        overlap=BlockList(pairs, overlap, boundaries),
        chemical_potential=chemical_potential,
        text=file.text(n_lines) + file.rest(),
    )


def _read_pairs(
    file: _Binary, cells: NDArray[np.int64], n_neighbours: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Read the neighbour lists: (n_pairs, 5), [R1, R2, R3, i, j] with atoms counted from 0."""
    n_pairs = int(n_neighbours.sum())
    target = np.repeat(np.arange(len(n_neighbours)), n_neighbours)
    source = file.integers(n_pairs, "natn")
    cell_index = file.integers(n_pairs, "ncn")
    check_atom_indices(f"{file.where}, natn", source, len(n_neighbours), base=1)
    if cell_index.min() < 0 or cell_index.max() >= len(cells):
        raise DataError(
            message(
                file.where,
                "a cell index outside atv_ijk",
                f"0 … {len(cells) - 1}",
                "The file is damaged.",
            )
        )
    source -= 1
    pairs = np.column_stack([cells[cell_index], target, source])
    first = np.concatenate([[0], np.cumsum(n_neighbours)[:-1]])
    if np.any(source[first] != np.arange(len(n_neighbours))) or np.any(pairs[first, :3] != 0):
        raise DataError(
            message(
                file.where,
                "a neighbour list that does not begin with the atom itself",
                "natn[i][0] = i",
                "The file is damaged.",
            )
        )
    return pairs
