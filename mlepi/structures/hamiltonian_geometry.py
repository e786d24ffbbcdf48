"""Whether a Hamiltonian can be of the structure and the overlap that it is given with.

Unlike S, H is not two-centre, so both checks are coarse: they unmask another structure, orbital
order or sign of the cells, not another snapshot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.axial import axial_deviation
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.bonds import SAME_PLACE, Bonds

ALIKE = 0.5
"""Smallest rank correlation of |H| and |S| over pairs that one structure can have; DFT: > 0.9."""

NOT_AXIAL = 0.65
"""Largest part of all blocks of H that is not symmetric around the bonds, relative to their norm.
DFT: 0.02 (MgO) to 0.33 (MoTe2); another order of functions: 0.75 to 1.3."""

CLEARLY_BETTER = 1.2
"""How many times better the opposite sign of the cells must fit to be the right one."""


def check_alike(
    where: str,
    hamiltonian: NDArray[np.floating],
    overlap: NDArray[np.floating],
    bonds: Bonds,
) -> None:
    """Refuse H and S whose strong blocks are on different pairs.

    Args:
        where: file or folder, for the message.
        hamiltonian: (n_edges, p, p) eV.
        overlap: (n_edges, p, p).
        bonds: of the edges.
    """
    bonded = bonds.distances > SAME_PLACE
    h, s = (np.linalg.norm(blocks[bonded], axis=(1, 2)) for blocks in (hamiltonian, overlap))
    both = (s > 1e-3 * s.max(initial=0.0)) & (h > 0.0)
    if np.count_nonzero(both) < 20:
        return
    ranks = [np.argsort(np.argsort(values[both])).astype(np.float64) for values in (h, s)]
    likeness = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    if likeness < ALIKE:
        raise DataError(
            message(
                where,
                f"Hamiltonian and overlap blocks whose sizes hardly correlate ({likeness:.2f})",
                f"a rank correlation above {ALIKE:g}",
                "They belong to different structures or list their atoms in different orders.",
            )
        )


def check_hamiltonian_axes(
    where: str, hamiltonian: NDArray[np.floating], basis: OrbitalBasis, bonds: Bonds
) -> None:
    """Refuse an H most of which has nothing to do with the bonds, or fits them with R reversed.

    Args:
        where: file or folder, for the message.
        hamiltonian: (n_edges, p, p) eV, in internal order.
        basis: of the blocks.
        bonds: of the edges.
    """
    given = _not_axial(hamiltonian, basis, bonds, bonds.vectors)
    opposite = _not_axial(hamiltonian, basis, bonds, bonds.reversed_vectors)
    if given > NOT_AXIAL or given > CLEARLY_BETTER * opposite > 0.0:
        better = "the sign of the cell indices" if given > opposite else "the orbital order"
        raise DataError(
            message(
                where,
                f"a Hamiltonian {100 * given:.0f} % of which is not symmetric around its bonds "
                f"({100 * opposite:.0f} % with the cells reversed)",
                f"less than {100 * NOT_AXIAL:.0f} %, and less than with the cells reversed",
                f"Check {better}, and that the Hamiltonian is of this structure.",
            )
        )


def _not_axial(
    blocks: NDArray[np.floating],
    basis: OrbitalBasis,
    bonds: Bonds,
    vectors: NDArray[np.float64],
) -> float:
    """Return the norm of what is not axial, relative to that of all off-site blocks."""
    lengths = np.linalg.norm(vectors, axis=1)
    total = off = 0.0
    chosen = (bonds.distances > SAME_PLACE) & (lengths > SAME_PLACE)
    for (a, b), edges in bonds.by_elements(chosen).items():
        cut = blocks[edges][:, : basis.n_orbitals(a), : basis.n_orbitals(b)]
        axes = vectors[edges] / lengths[edges, None]
        shells = (basis.shells[a], basis.shells[b])
        total += float(np.sum(cut**2))
        off += float(np.sum(axial_deviation(cut, axes, shells) ** 2))
    return float(np.sqrt(off / total)) if total > 0.0 else 0.0
