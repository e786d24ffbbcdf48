"""What the field of a longitudinal wave adds to the phonons of a polar sheet.

A wave of displacements with wave vector q in the plane carries the charge density −i q·P per area,
whose field reaches as far as 1/q. In a sheet of atoms with Born charges Z*, polarisable in its
plane, it adds to the dynamical matrix

    D_aα,bβ(q) = (2π e²/A) (q·Z*_a)_α (q·Z*_b)_β / [√(m_a m_b) |q| (1 + r_eff |q|)],

so that LO leaves TO linearly at Γ, where no sum of finite range can follow: its dynamical matrix is
analytic in q. Gaussian units, e² = 14.4 eV·Å; vacuum on both sides.

References:
    Sohier, Gibertini, Calandra, Mauri, Marzari, Nano Lett. 17, 3758 (2017),
    doi:10.1021/acs.nanolett.7b01090.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.units import COULOMB


def compute_polar_term(
    wave_vectors: NDArray[np.float64],
    born_charges: NDArray[np.float64],
    masses: NDArray[np.float64],
    area: float,
    screening_length: float,
) -> NDArray[np.float64]:
    """Compute the long-range part of the dynamical matrix of a polar sheet near Γ.

    Args:
        wave_vectors: (n_qpoints, 3), Cartesian, in the plane of the sheet, 1/Å.
        born_charges: (n_atoms, 3, 3), Z*_αβ, polarisation along α by a displacement along β, e.
        masses: (n_atoms,), amu.
        area: of the cell, Å².
        screening_length: r_eff, 2π times the polarisability per area, Å; 0 for bare charges.

    Returns:
        (n_qpoints, 3 n_atoms, 3 n_atoms), mass-scaled, eV/(Å²·amu), of rank one; zero at Γ.

    Raises:
        PhysicsError: the area is not positive, or the screening length negative.
    """
    if not (area > 0.0 and screening_length >= 0.0):
        raise PhysicsError(
            message(
                "polar sheet",
                f"an area of {area} Å² and a screening length of {screening_length} Å",
                "a positive and a non-negative length",
                "Give the area of the primitive cell, and r_eff.",
            )
        )
    q = np.linalg.norm(wave_vectors, axis=1)
    charges = np.einsum("qa,nab->qnb", wave_vectors, born_charges) / np.sqrt(masses)[:, None]
    dipoles = charges.reshape(len(q), -1)
    with np.errstate(divide="ignore"):
        kernel = 2.0 * math.pi * COULOMB / (area * q * (1.0 + screening_length * q))
    kernel[q == 0.0] = 0.0
    return np.asarray(kernel[:, None, None] * dipoles[:, :, None] * dipoles[:, None, :])
