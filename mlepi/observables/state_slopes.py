"""Group velocities of supercell states along one direction of k, shared out to the bands of the primitive cell.

∂E/∂k of a state is c†(∂H/∂k − E ∂S/∂k)c, in either gauge (``mlepi.physics.bands.velocity_matrices``);
here the lattice gauge, where only lattice vectors of the supercell appear. In a degenerate level,
as an undisplaced cell has many, the part that a Bloch state b takes is Σ_nm d_bn v_nm d*_bm over
the states of the level: it does not depend on their choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.bands.velocity_matrices import (
    derivatives_at,
    lay_out_derivatives,
    velocity_matrices,
)

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.physics.eigenstates.dense_bloch import DenseBlocks

DEGENERATE = 1e-4
"""eV; states closer than this share their slopes. It is twice the tolerance of the solver."""


def lay_out_slopes(
    matrix: BlockMatrix, cell: NDArray[np.float64], direction: NDArray[np.float64]
) -> tuple[DenseBlocks, ...]:
    """Lay out the derivative of H or S along one direction of k.

    Args:
        matrix: of a supercell.
        cell: (3, 3) rows, Å, of the supercell.
        direction: (3,) unit vector, Cartesian.
    """
    along = np.outer(
        cell @ direction, [1.0, 0.0, 0.0]
    )  # lattice vectors, of which only this component counts
    return lay_out_derivatives(
        matrix.blocks, matrix.edge_index, matrix.edge_cell_shift, matrix.offsets, along, axes=(0,)
    )


def state_velocity_matrix(
    values: NDArray[np.float64],
    vectors: NDArray[Any],
    kpoint: NDArray[np.float64],
    derivatives: tuple[tuple[DenseBlocks, ...], tuple[DenseBlocks, ...]],
) -> NDArray[np.complex128]:
    """Return v_nm between states of one level, zero between levels: (n_states, n_states), eV·Å.

    Args:
        values: (n_states,) eV.
        vectors: (n_orbitals, n_states), c†Sc = 1.
        kpoint: (3,) fractional, of the supercell.
        derivatives: of H and S, by ``lay_out_slopes``.
    """
    dh, ds = (derivatives_at(layouts, kpoint) for layouts in derivatives)
    matrix = velocity_matrices(values, vectors, dh, ds)[0]
    return np.where(np.abs(values[:, None] - values[None, :]) < DEGENERATE, matrix, 0.0)


def share_slopes(matrix: NDArray[np.complex128], components: NDArray[Any]) -> NDArray[np.float64]:
    """Return the slopes of the states times their weight on each band, Re d_bn Σ_m v_nm d*_bm.

    (n_bands, n_states), eV·Å.

    Args:
        matrix: of ``state_velocity_matrix``.
        components: (n_bands, n_states), amplitudes x†Sc of the states on the bands.
    """
    return np.asarray(np.real(components * (matrix @ components.conj().T).T))
