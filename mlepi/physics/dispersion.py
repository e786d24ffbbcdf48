"""Dispersion between pairs of atoms after Grimme (2006), "D2", in closed form.

E = −s6 Σ_pairs C6_ij r⁻⁶ f(r), f(r) = 1/(1 + exp(−d (r/R_ij − 1))), C6_ij = √(C6_i C6_j) and
R_ij = R0_i + R0_j: S. Grimme, J. Comput. Chem. 27, 1787 (2006), doi:10.1002/jcc.20495, Eqs. 11–13
and Table 1, d = 20 and s6 = 0.75 for PBE. Every pair is counted once.

OpenMX computes the same sum with its table in Bohr and Rydberg, rounded to 1e-3: R0 of carbon is
1.45206 Å there and 1.452 Å here, which changes the energy of a bilayer by 0.012 meV per atom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlepi.units import JOULE_NM6_PER_MOLE

PBE_SCALING = 0.75
"""s6 of PBE."""

STEEPNESS = 20.0
"""d of the damping function."""

_SCANDIUM_TO_ZINC = dict.fromkeys(range(21, 31), (10.80, 1.562))
_YTTRIUM_TO_CADMIUM = dict.fromkeys(range(39, 49), (24.67, 1.639))
PARAMETERS: dict[int, tuple[float, float]] = {
    1: (0.14, 1.001), 2: (0.08, 1.012), 3: (1.61, 0.825), 4: (1.61, 1.408), 5: (3.13, 1.485),
    6: (1.75, 1.452), 7: (1.23, 1.397), 8: (0.70, 1.342), 9: (0.75, 1.287), 10: (0.63, 1.243),
    11: (5.71, 1.144), 12: (5.71, 1.364), 13: (10.79, 1.639), 14: (9.23, 1.716),
    15: (7.84, 1.705), 16: (5.57, 1.683), 17: (5.07, 1.639), 18: (4.61, 1.595),
    19: (10.80, 1.485), 20: (10.80, 1.474), **_SCANDIUM_TO_ZINC, 31: (16.99, 1.650),
    32: (17.10, 1.727), 33: (16.37, 1.760), 34: (12.64, 1.771), 35: (12.47, 1.749),
    36: (12.01, 1.727), 37: (24.67, 1.628), 38: (24.67, 1.606), **_YTTRIUM_TO_CADMIUM,
    49: (37.32, 1.672), 50: (38.71, 1.804), 51: (38.44, 1.881), 52: (31.74, 1.892),
    53: (31.50, 1.892), 54: (29.99, 1.881),
}  # fmt: skip
"""Atomic number → C6 (J·nm⁶/mol) and R0 (Å), Table 1 of the paper, hydrogen to xenon."""


def switch_off(distances: Tensor, cutoff: float, width: float) -> Tensor:
    """Return a factor that falls from 1 to 0 over the last stretch before a cutoff.

    1 − x³ (10 − 15 x + 6 x²) with x from 0 to 1: forces and second derivatives stay continuous.

    Args:
        distances: any shape, Å.
        cutoff: Å.
        width: of the stretch, Å; 0 cuts off sharply.

    Returns:
        The shape of ``distances``.
    """
    if width == 0.0:
        return (distances < cutoff).to(distances.dtype)
    x = ((distances - (cutoff - width)) / width).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def compute_pair_energies(
    distances: Tensor,
    numbers: Tensor,
    *,
    scaling: float = PBE_SCALING,
    steepness: float = STEEPNESS,
) -> Tensor:
    """Compute the D2 energy of pairs of atoms.

    Args:
        distances: (n_pairs,), Å, positive.
        numbers: (2, n_pairs) int, atomic numbers, all of them keys of ``PARAMETERS``.
        scaling: s6 of the functional.
        steepness: d of the damping.

    Returns:
        (n_pairs,), eV, in the precision of ``distances``; differentiable in them.
    """
    c6 = distances.new_zeros(max(PARAMETERS) + 1)
    radius = distances.new_zeros(max(PARAMETERS) + 1)
    for number, (coefficient, own_radius) in PARAMETERS.items():
        c6[number] = coefficient * JOULE_NM6_PER_MOLE
        radius[number] = own_radius
    pair_c6 = torch.sqrt(c6[numbers[0]] * c6[numbers[1]])
    pair_radius = radius[numbers[0]] + radius[numbers[1]]
    damping = torch.sigmoid(steepness * (distances / pair_radius - 1.0))
    return -scaling * pair_c6 * distances**-6 * damping
