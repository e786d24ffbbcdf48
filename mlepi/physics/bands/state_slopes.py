"""Group velocities of supercell states along one direction of k, shared out to primitive bands.

∂E/∂k of a state is c†(∂H/∂k − E ∂S/∂k)c, in either gauge
(``mlepi.physics.bands.velocity_matrices``). In a degenerate level, as an undisplaced cell has many,
the part that a Bloch state b takes is Σ_nm d_bn v_nm d*_bm over the states of the level: it does
not depend on their choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.eigenstates.dense_bloch import DenseBlocks

DEGENERATE = 1e-4
"""eV; states closer than this share their slopes. It is twice the tolerance of the solver."""


def state_velocity_matrix(
    values: NDArray[np.float64],
    vectors: NDArray[Any],
    kpoint: NDArray[np.float64],
    derivatives: tuple[DenseBlocks, DenseBlocks],
    out: NDArray[np.complex128] | None = None,
) -> NDArray[np.complex128]:
    """Return v_nm between states of one level, zero between levels: (n_states, n_states), eV·Å.

    Args:
        values: (n_states,) eV.
        vectors: (n_orbitals, n_states), c†Sc = 1.
        kpoint: (3,) fractional, of the supercell.
        derivatives: of H and S, by ``lay_out_derivatives`` with the direction.
        out: (n_orbitals, n_orbitals), overwritten; memory that serves one point after the other.
    """
    left, middle = vectors.conj().T, 0.5 * (values[:, None] + values[None, :])
    h, s = (1j * (left @ (layout.at(kpoint, out) @ vectors)) for layout in derivatives)
    level = np.abs(values[:, None] - values[None, :]) < DEGENERATE
    return np.where(level, h - middle * s, 0.0)


def share_slopes(matrix: NDArray[np.complex128], components: NDArray[Any]) -> NDArray[np.float64]:
    """Return the slopes of the states times their weight on each band, Re d_bn Σ_m v_nm d*_bm.

    (n_bands, n_states), eV·Å.

    Args:
        matrix: of ``state_velocity_matrix``.
        components: (n_bands, n_states), amplitudes x†Sc of the states on the bands.
    """
    return np.asarray(np.real(components * (matrix @ components.conj().T).T))
