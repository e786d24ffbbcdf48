"""The record of the hamiltonian stage: where H and S lie, and how singular S is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class HamiltonianRecord:
    """Hamiltonian and overlap of the equilibrium structure; the blocks lie in a file of their own.

    Attributes:
        file: name in the run folder, layout of ``mlepi.results.hamiltonian_file``.
        checksum: SHA-256 of the blocks and edges in that file.
        n_orbitals: size of H(k) and S(k).
        n_edges: blocks, on-site ones and both directions included.
        kpoints: (n_kpoints, 3), where the overlap was examined.
        smallest_overlap_eigenvalues: (n_kpoints,); values near or below zero mean ghost states.
        ghost_threshold: eigenvalues below this are told.
    """

    file: str
    checksum: str
    n_orbitals: int
    n_edges: int
    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    smallest_overlap_eigenvalues: NDArray[np.float64] = field(metadata=unit("1"))
    ghost_threshold: float = field(default=1e-4, metadata=unit("1"))
