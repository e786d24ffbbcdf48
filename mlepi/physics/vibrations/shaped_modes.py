"""Normal modes of a supercell of any shape, and so its thermal displacements.

By the Smith normal form, M = P⁻¹ D Q⁻¹ with unimodular P and Q, the lattice M A is that of D
(Q⁻¹ A): every supercell is a diagonal one of another primitive cell of the same crystal. The modes
that are returned are those of that one, so that whatever takes ``NormalModes``, the distribution
with its samplers above all, takes them as they are; ``ShapedModes.order`` says where its atoms are
in ``build_shaped_supercell``.

References:
    Lloyd-Williams, Monserrat, Phys. Rev. B 92, 184301 (2015), doi:10.1103/PhysRevB.92.184301
    (supercells that are not diagonal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from phonopy.structure.snf import SNF3x3

from mlepi.errors import PhysicsError, message
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import NormalModes, divide_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.phonopy_order import list_cells
from mlepi.physics.vibrations.supercell_shapes import list_lattice_points, wrap_points
from mlepi.units import FORCE_CONSTANT_TO_THZ


@dataclass(frozen=True)
class ShapedModes:
    """The modes of a supercell, and the order of its atoms.

    Attributes:
        matrix: (3, 3) int, rows are the vectors of the supercell.
        modes: of the same supercell as a diagonal one of another primitive cell.
        order: (n_supercell,) int; atom a of ``build_shaped_supercell`` is atom ``order[a]`` of the
            modes.
    """

    matrix: NDArray[np.int64]
    modes: NormalModes
    order: NDArray[np.int64]


def compute_shaped_modes(force_constants: ForceConstants, matrix: NDArray[np.int64]) -> ShapedModes:
    """Solve the dynamical matrix at the wave vectors of a supercell of any shape.

    Between the wave vectors of the force constants it is interpolated, as for bands.

    Args:
        force_constants: of the primitive cell, eV/Å².
        matrix: (3, 3) int.

    Raises:
        PhysicsError: the matrix has no volume.
    """
    matrix = np.asarray(matrix, dtype=np.int64)
    if round(float(np.linalg.det(matrix))) == 0:
        fix = "Give independent rows."
        raise PhysicsError(message("supercell", f"{matrix.tolist()}", "a volume", fix))
    form = SNF3x3(matrix)
    diagonal = np.abs(np.diag(form.D)).astype(np.int64)
    # M = P⁻¹ D Q⁻¹; the sign of D is that of a vector
    change = np.rint(np.linalg.inv(form.Q)).astype(np.int64)
    repeats = (int(diagonal[0]), int(diagonal[1]), int(diagonal[2]))
    cells = list_cells(repeats)
    qpoints = cells / diagonal
    # q·n is the same number in both cells: n = n' Q⁻¹, so q = Q q'
    frequencies, vectors = compute_eigenvectors(force_constants, qpoints @ form.Q.T)
    eigenvalues = np.sign(frequencies) * (frequencies / FORCE_CONSTANT_TO_THZ) ** 2
    dynamical = (vectors * eigenvalues[:, None, :]) @ vectors.conj().swapaxes(1, 2)
    atoms = force_constants.atoms.copy()
    atoms.set_cell(change @ atoms.cell.array)
    masses = np.array(atoms.get_masses(), dtype=np.float64)
    parts = divide_modes(dynamical, masses)
    modes = NormalModes(atoms, repeats, qpoints, *parts)
    return ShapedModes(matrix, modes, _order_atoms(matrix, cells @ change, len(atoms)))


def _order_atoms(
    matrix: NDArray[np.int64], cells: NDArray[np.int64], n_atoms: int
) -> NDArray[np.int64]:
    """Find the atoms of cells (n_cells, 3), in primitive vectors, in the order of a supercell."""
    place = {tuple(cell): k for k, cell in enumerate(wrap_points(cells, matrix).tolist())}
    order = [place[tuple(point)] for point in list_lattice_points(matrix).tolist()]
    return (np.array(order)[:, None] * n_atoms + np.arange(n_atoms)).ravel()
