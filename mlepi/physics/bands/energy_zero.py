"""The energy zero of one Hamiltonian relative to another: H is defined up to H + μS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def energy_shift(
    hamiltonian: NDArray[Any],
    overlap: NDArray[Any],
    reference: NDArray[Any],
    states: NDArray[Any],
) -> float:
    """Return the μ for which H − μS is nearest to a reference among given states.

    Least squares, min Σ_k ‖C†(H − μS − H₀)C‖². H + aS gives μ + a exactly. States of low energy
    keep the directions in which S is nearly singular, and errors of H large, out of it.

    Args:
        hamiltonian: (n_k, n_orbitals, n_orbitals), H, eV.
        overlap: (n_k, n_orbitals, n_orbitals), S.
        reference: (n_k, n_orbitals, n_orbitals), H₀ of the same orbitals, eV.
        states: (n_k, n_orbitals, n_states), C, columns orthonormal in the metric of the reference.

    Returns:
        μ, eV.
    """
    adjoint = states.conj().swapaxes(1, 2)
    change, metric = (adjoint @ matrix @ states for matrix in (hamiltonian - reference, overlap))
    return float(np.vdot(metric, change).real / np.vdot(metric, metric).real)
