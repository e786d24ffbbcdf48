"""H of Löwdin's orbitals in the files of Wannier90: ``_hr.dat``, ``.win`` and ``_centres.xyz``.

Layout of ``_hr.dat`` (Wannier90 user guide, "seedname_hr.dat"): a comment, the number of orbitals,
the number of lattice vectors, their degeneracies (15 per line), then per lattice vector, column by
column, R₁ R₂ R₃ m n Re Im of ⟨m, 0|H|n, R⟩ in eV. Numbers have ten decimals here, where Wannier90
writes six; they are read as lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.exports.labels import choose_mesh, list_kpoints
from mlepi.exports.output import new_file, require_new
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks
from mlepi.physics.eigenstates.loewdin import OrthogonalMatrix, orthogonalise, transform_to_cells
from mlepi.structures.labelled_structure import LabelledStructure

TOLERANCE = 1e-4
"""eV, largest error of a level in the window that the mesh is refined for."""
WINDOW = (-1000.0, 5.0)
"""eV from the Fermi energy: levels whose error counts."""
MAX_LINES = 4_000_000
"""Lines of ``_hr.dat``; a mesh that needs more is not tried."""
N_TESTED = 48
"""k-points between those of the mesh at which the error is measured."""
FIRST_SPACING, FINER = 0.5, 0.75
"""1/Å of the first mesh that is tried, and by what the next one is finer."""
SUFFIXES = ("_hr.dat", ".win", "_centres.xyz")


@dataclass(frozen=True)
class WannierError:
    """What orthogonal orbitals on a mesh do to the levels between its points.

    Attributes:
        mesh: divisions.
        error: largest |ΔE| in the window, eV.
        window: eV from the Fermi energy; None where that is not known and all levels count.
        n_tested: k-points at which it was measured, none of the mesh.
        n_cells: lattice vectors in the file.
    """

    mesh: tuple[int, int, int]
    error: float
    window: tuple[float, float] | None
    n_tested: int
    n_cells: int

    def describe(self) -> str:
        """Say it in a line."""
        mesh = "x".join(str(n) for n in self.mesh)
        of = "all levels" if self.window is None else f"levels up to {self.window[1]:g} eV from E_F"
        if self.window is not None and self.window[0] > -100.0:
            of = f"levels {self.window[0]:g} to {self.window[1]:g} eV from E_F"
        return (
            f"{mesh} k-points, {self.n_cells} lattice vectors; error of {of} up to "
            f"{self.error:.1e} eV at {self.n_tested} other k-points"
        )


def write_wannier90(
    seedname: str | Path,
    labels: LabelledStructure,
    *,
    mesh: tuple[int, int, int] | None = None,
    window: tuple[float, float] = WINDOW,
    tolerance: float = TOLERANCE,
) -> WannierError:
    """Write H in orthogonal orbitals, with the error that this makes in its first line.

    Args:
        seedname: path without an ending; three new files begin with it.
        labels: with H and S.
        mesh: of k-points; None refines it until the error is below the tolerance.
        window: eV from the Fermi energy, where levels count.
        tolerance: eV.

    Returns:
        The mesh and its error, which is above the tolerance where ``MAX_LINES`` stopped it.

    Raises:
        DataError: a file exists, there is no H or S, or the matrix is too large.
        PhysicsError: the overlap is not positive definite.
    """
    seed = str(seedname).removesuffix("_hr.dat")
    files = [require_new(seed + suffix) for suffix in SUFFIXES]
    pair = block_matrices(labels)
    matrix, found = _refine(labels, pair, mesh, window, tolerance)
    with new_file(files[1]) as unfinished:
        unfinished.write_text(_format_win(labels, pair[0].n_orbitals, found.mesh), encoding="utf-8")
    with new_file(files[2]) as unfinished:
        unfinished.write_text(_format_centres(labels), encoding="utf-8")
    with new_file(files[0]) as unfinished, unfinished.open("w", encoding="ascii") as stream:
        known = labels.fermi_energy
        fermi = "E_F unknown" if known is None else f"E_F = {known:.6f} eV"
        _write_hr(stream, matrix, f"mlepi, Loewdin orbitals, {fermi}; {found.describe()}")
    return found


def _refine(
    labels: LabelledStructure,
    pair: tuple[BlockMatrix, BlockMatrix],
    mesh: tuple[int, int, int] | None,
    window: tuple[float, float],
    tolerance: float,
) -> tuple[OrthogonalMatrix, WannierError]:
    """Return the matrix on the given mesh, or on the first that is fine enough."""
    layouts = pair[0].lay_out(), pair[1].lay_out()
    points = _list_test_points(labels)
    levels = np.asarray(solve_bands(*(layout.at_many(points) for layout in layouts)))
    fermi = labels.fermi_energy
    counted = np.ones(levels.shape, dtype=bool)
    if fermi is not None:
        counted = (levels >= fermi + window[0]) & (levels <= fermi + window[1])
    spacing = FIRST_SPACING
    best: tuple[OrthogonalMatrix, WannierError] | None = None
    while True:
        divisions = mesh or choose_mesh(labels, spacing)
        lines = int(np.prod(divisions)) * pair[0].n_orbitals ** 2
        if lines > MAX_LINES and mesh is None:
            break
        matrix = transform_to_cells(
            _on_mesh(layouts, divisions), divisions, labels.atoms.cell.array
        )
        difference = np.abs(np.linalg.eigvalsh(matrix.at_many(points)) - levels)
        error = float(difference[counted].max(initial=0.0))
        used = None if fermi is None else window
        best = matrix, WannierError(divisions, error, used, len(points), len(matrix.cells))
        if mesh is not None or error <= tolerance:
            break
        spacing *= FINER
    if best is None:
        got = f"{pair[0].n_orbitals} orbitals, which need more than {MAX_LINES} lines"
        fix = "Export the primitive cell, or give a coarse --mesh."
        raise DataError(message(labels.name, got, "a small cell", fix))
    return best


def _on_mesh(
    layouts: tuple[DenseBlocks, DenseBlocks], divisions: tuple[int, int, int]
) -> NDArray[np.complex128]:
    points = list_kpoints(divisions)
    chunk = max(1, (1 << 22) // layouts[0].elements.shape[1] ** 2)
    parts = [points[start : start + chunk] for start in range(0, len(points), chunk)]
    return np.concatenate([orthogonalise(*(m.at_many(part) for m in layouts)) for part in parts])


def _list_test_points(labels: LabelledStructure) -> NDArray[np.float64]:
    """Return k-points of a sequence that fills the zone evenly and meets no mesh."""
    ratios = np.sqrt([2.0, 3.0, 5.0])
    points = np.mod(np.arange(1, N_TESTED + 1)[:, None] * ratios, 1.0)
    crossed = np.any(np.asarray(labels.edge_cell_shift) != 0, axis=0)
    return np.where(crossed, points, 0.0)


def _write_hr(stream: IO[str], matrix: OrthogonalMatrix, comment: str) -> None:
    size = matrix.blocks.shape[-1]
    stream.write(f"{comment}\n{size:12d}\n{len(matrix.cells):12d}\n")
    for start in range(0, len(matrix.cells), 15):
        row = matrix.degeneracies[start : start + 15]
        stream.write("".join(f"{n:5d}" for n in row) + "\n")
    columns, rows = np.divmod(np.arange(size**2), size)
    line = "%5d%5d%5d%5d%5d%18.10f%18.10f\n"
    table = np.zeros((size**2, 7))
    table[:, 3], table[:, 4] = rows + 1, columns + 1
    for cell, block in zip(matrix.cells, matrix.blocks, strict=True):
        table[:, :3], table[:, 5] = cell, block.T.ravel()
        stream.write(line * size**2 % tuple(table.ravel().tolist()))


def _format_win(labels: LabelledStructure, n_orbitals: int, mesh: tuple[int, int, int]) -> str:
    atoms = labels.atoms
    vectors = [" ".join(f"{x:.10f}" for x in vector) for vector in atoms.cell.array]
    sites = [
        f"{symbol} " + " ".join(f"{x:.10f}" for x in position)
        for symbol, position in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    ]
    return "\n".join(
        [
            "! Loewdin orbitals of mlepi, centred on the atoms; p shells in the order y, z, x",
            f"num_wann = {n_orbitals}",
            "mp_grid = " + " ".join(str(n) for n in mesh),
            "write_hr = true",
            "write_xyz = true",
            *("begin unit_cell_cart", "Ang", *vectors, "end unit_cell_cart"),
            *("begin atoms_cart", "Ang", *sites, "end atoms_cart"),
            "",
        ]
    )


def _format_centres(labels: LabelledStructure) -> str:
    """Return the centres of the orbitals, where their atoms are, and the atoms, Å."""
    atoms, basis = labels.atoms, labels.basis
    counts = basis.counts(atoms.numbers) if basis is not None else np.ones(len(atoms), dtype=int)
    rows = [("X", position) for position in np.repeat(atoms.positions, counts, axis=0)]
    rows += list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    lines = [f"{symbol:<5}" + "".join(f"{x:18.10f}" for x in position) for symbol, position in rows]
    return "\n".join(
        [str(len(rows)), "Centres of the orbitals of mlepi, on their atoms", *lines, ""]
    )
