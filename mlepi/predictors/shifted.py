"""A model of H and S whose Hamiltonian carries the level shift, for derivatives consistent with it.

H and S are differentiated as the model itself does it; what the shift adds, a smooth function of S,
by central differences in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.graphs.block_pairs import list_edges, list_pairs, spread_blocks, unite_pairs
from mlepi.graphs.shifted_matrix import shift_hamiltonian, shift_matrix
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors.derivatives import (
    BlockDerivatives,
    HamiltonianModel,
    MatrixDerivatives,
    compute_derivatives,
    compute_second_derivatives,
)

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

STEP = 2e-3
"""Å, of the central differences of the shift; their error is 1e-5 of the derivative."""


@dataclass(frozen=True)
class ShiftOnly:
    """The matrix that the shift adds, in the place of a Hamiltonian.

    Attributes:
        model: of S.
        shift: parameters.
    """

    model: HamiltonianModel
    shift: LevelShift

    def hamiltonian(
        self, atoms: Atoms, *, device: str = "cpu", dtype: str = "float64"
    ) -> BlockMatrix:
        """Return λF − μS, eV."""
        return shift_matrix(atoms, self.model.overlap(atoms), self.shift)

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap."""
        return self.model.overlap(atoms)


@dataclass(frozen=True)
class ShiftedModel:
    """A model with H′ in the place of H.

    Attributes:
        model: of H and S.
        shift: parameters.
        step: Å, of central differences of H and S where the model has no derivatives of its own.
    """

    model: HamiltonianModel
    shift: LevelShift
    step: float = 0.01

    def hamiltonian(
        self, atoms: Atoms, *, device: str = "cpu", dtype: str = "float32"
    ) -> BlockMatrix:
        """Return H′, eV."""
        plain = self.model.hamiltonian(atoms, device=device, dtype=dtype)
        return shift_hamiltonian(atoms, plain, self.overlap(atoms), self.shift)

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap."""
        return self.model.overlap(atoms)

    def derivatives(
        self, atoms: Atoms, directions: NDArray[np.float64], *, device: str = "cpu"
    ) -> MatrixDerivatives:
        """Return first derivatives of H′ and S; arguments as ``compute_derivatives``."""
        plain = compute_derivatives(self.model, atoms, directions, device=device, step=self.step)
        added = compute_derivatives(ShiftOnly(self.model, self.shift), atoms, directions, step=STEP)
        return _join(plain, added.hamiltonian)

    def second_derivatives(
        self,
        atoms: Atoms,
        first: NDArray[np.float64],
        second: NDArray[np.float64],
        *,
        device: str = "cpu",
    ) -> MatrixDerivatives:
        """Return second derivatives of H′ and S; see ``compute_second_derivatives``."""
        plain = compute_second_derivatives(
            self.model, atoms, first, second, device=device, step=self.step
        )
        added = compute_second_derivatives(
            ShiftOnly(self.model, self.shift), atoms, first, second, step=STEP
        )
        return _join(plain, added.hamiltonian)


def _join(plain: MatrixDerivatives, added: BlockDerivatives) -> MatrixDerivatives:
    """Add the derivatives of the shift to those of H, on the union of their pairs."""
    tables = [list_pairs(d.edge_index, d.edge_cell_shift) for d in (plain.hamiltonian, added)]
    if np.array_equal(tables[0], tables[1]):
        union, values = tables[0], plain.hamiltonian.values + added.values
    else:
        union = unite_pairs(tables)
        values = np.array(
            [
                spread_blocks(union, tables[0], own) + spread_blocks(union, tables[1], further)
                for own, further in zip(plain.hamiltonian.values, added.values, strict=True)
            ]
        )
    edge_index, edge_cell_shift = list_edges(union)
    joined = BlockDerivatives(edge_index.copy(), edge_cell_shift.copy(), values)
    return replace(plain, hamiltonian=joined)
