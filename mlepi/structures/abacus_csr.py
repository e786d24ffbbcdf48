"""Reader of the real-space matrices of ABACUS: CSR as text, before and since 3.9.0.25.

Older: ``STEP``, ``Matrix Dimension``, ``Matrix number``, then per R one line each of values,
columns and row pointers. Since: a header of commented numbers, the structure, and per R the same
three parts behind their titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.untrusted import guard, read_text


@dataclass(frozen=True)
class AbacusMatrix:
    """One matrix, element by element, in the units of the file.

    Attributes:
        n_orbitals: dimension.
        cells: (n_values, 3) int, R.
        rows: (n_values,) int from 0.
        columns: (n_values,) int from 0.
        values: (n_values,).
        structure: lines of the structure in the header; none in the older layout.
        step: ionic step, from 0; None where the file does not say.
    """

    n_orbitals: int
    cells: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    structure: list[str]
    step: int | None = None


class _Words:
    """The words of the text, with what is wrong told by place."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.where = str(path)
        self.words = self._split(lines)

    @staticmethod
    def _split(lines: list[str]) -> Iterator[str]:
        for line in lines:
            yield from line.split("#", 1)[0].split()

    def numbers(self, what: str, count: int, kind: type) -> NDArray[np.float64]:
        taken = [word for _, word in zip(range(count), self.words, strict=False)]
        if len(taken) < count:
            refuse(self.where, f"the end of the file inside {what}", f"{count} numbers")
        try:
            return np.array(taken, dtype=kind)
        except ValueError:
            wrong = next(word for word in taken if not re.fullmatch(r"[-+]?[\d.]+([eE].*)?", word))
            if wrong.startswith("("):
                refuse(self.where, f"complex numbers ({wrong})", "a calculation without spin-orbit")
            refuse(self.where, f"{wrong!r} in {what}", "numbers")
            raise  # never reached: refuse raises

    def more(self) -> str | None:
        return next(self.words, None)


def refuse(where: str, got: str, expected: str) -> None:
    """Raise ``DataError`` about a file of ABACUS."""
    fix = "Copy the file again, or repeat the run with nspin 1, out_mat_hs2 1 and several k-points."
    raise DataError(message(where, got, expected, fix))


@guard("a matrix of ABACUS")
def read_abacus_csr(path: Path) -> AbacusMatrix:
    """Read one ``.csr`` file.

    Raises:
        DataError: it is damaged, has spin, or is the folded matrix of a run at Γ alone.
    """
    with path.open("rb") as file:
        if b"\0" in file.read(64):
            refuse(str(path), "a binary matrix", "text")
    lines = read_text(path).splitlines()
    header = next((k for k, line in enumerate(lines) if "CSR Format" in line), None)
    if any("gamma-only folded" in line for line in lines[:header]):
        refuse(str(path), "the folded matrix of a run at Γ alone", "one matrix per lattice vector")
    if header is None:
        return _read_older(path, lines)
    return _read_newer(path, lines, header)


def _read_older(path: Path, lines: list[str]) -> AbacusMatrix:
    begin = 1 if lines and lines[0].startswith("STEP") else 0
    titles = [
        re.match(r"Matrix (Dimension|number) of \w+\(R\):\s*(\d+)", line)
        for line in lines[begin : begin + 2]
    ]
    if len(titles) < 2 or titles[0] is None or titles[1] is None:
        refuse(str(path), "no 'Matrix Dimension of …(R)'", "real-space matrices of ABACUS")
    counts = [int(title.group(2)) for title in titles if title]
    later = next((k for k, line in enumerate(lines) if k > begin and line.startswith("STEP")), None)
    if later is not None:
        refuse(str(path), "several ionic steps", "one step per file (out_app_flag 0)")
    step = re.match(r"STEP:\s*(\d+)", lines[0])
    matrix = _read_cells(_Words(path, lines[begin + 2 :]), counts[0], counts[1], [])
    return replace(matrix, step=int(step.group(1)[:9]) if step else None)


def _read_newer(path: Path, lines: list[str], header: int) -> AbacusMatrix:
    found: dict[str, int] = {}
    last = 0
    step = re.search(r"Ionic Step (\d{1,9}) ", "\n".join(lines[:header]))
    for k, line in enumerate(lines[:header]):
        match = re.match(r"\s*(\d+)\s*#\s*(.+)", line)
        if match:
            found[match.group(2).strip()], last = int(match.group(1)), k
    n_spins = found.get("number of spin directions", 1)
    if n_spins != 1:
        refuse(str(path), f"{n_spins} spin directions", "a calculation without spin")
    size = found.get("number of localized basis")
    n_cells = found.get("number of Bravais lattice vector R")
    if size is None or n_cells is None:
        refuse(str(path), "a header without the size of the basis or the number of R", "both")
    body = next(k for k in range(header, len(lines)) if not lines[k].strip().startswith("#"))
    if any("Ionic Step" in line for line in lines[body:]):
        refuse(str(path), "several ionic steps", "one step per file (out_app_flag 0)")
    structure = [line.strip() for line in lines[last + 1 : header] if line.strip(" #-")]
    matrix = _read_cells(_Words(path, lines[body:]), size or 0, n_cells or 0, structure)
    return replace(matrix, step=max(0, int(step.group(1)) - 1) if step else None)


def _read_cells(words: _Words, size: int, n_cells: int, structure: list[str]) -> AbacusMatrix:
    """Read ``n_cells`` sparse matrices."""
    cells, rows, columns, values = [], [], [], []
    for number in range(n_cells):
        what = f"matrix {number + 1} of {n_cells}"
        *shift, n_values = words.numbers(what, 4, int).astype(int).tolist()
        if not n_values:
            continue
        part = words.numbers(what, n_values, float)
        column = words.numbers(what, n_values, int).astype(np.int64)
        pointers = words.numbers(what, size + 1, int).astype(np.int64)
        lengths = np.diff(pointers)
        if pointers[0] != 0 or pointers[-1] != n_values or (lengths < 0).any():
            refuse(
                words.where,
                f"row pointers of {what} from {pointers[0]} to {pointers[-1]}",
                f"0 … {n_values}",
            )
        if column.min() < 0 or column.max() >= size:
            refuse(words.where, f"a column {column.max()} in {what}", f"0 … {size - 1}")
        cells.append(np.tile(shift, (n_values, 1)))
        rows.append(np.repeat(np.arange(size), lengths))
        columns.append(column)
        values.append(part)
    if words.more() is not None or not values:
        refuse(words.where, "more or fewer numbers than its header says", f"{n_cells} matrices")
    return AbacusMatrix(
        size,
        np.concatenate(cells).astype(np.int64),
        np.concatenate(rows),
        np.concatenate(columns),
        np.concatenate(values),
        structure,
    )
