"""What rigid shifts, rotations and strains demand of force constants, and how to impose it.

With r_ab the vector from atom a of the cell to atom b, Φ_{aα,bβ} = ∂²E/∂u_{aα}∂u_{bβ}, F_a the
force on atom a, σ the stress and V the volume of the cell, every crystal has

    translational    Σ_b Φ_{aα,bβ} = 0, rotational       Σ_b (Φ_{aα,bβ} r_{ab,γ} − Φ_{aα,bγ}
    r_{ab,β}) = δ_{αγ} F_{aβ} − δ_{αβ} F_{aγ}              (Born–Huang), Huang            [αβ, γδ] −
    [γδ, αβ] = 2V (δ_{γδ} σ_{αβ} − δ_{αβ} σ_{γδ}),  [αβ, γδ] = Σ_{ab} Φ_{aα,bβ} r_{ab,γ} r_{ab,δ}.

At rest, where F and σ vanish, the last two make the bending branch of a flat layer quadratic in q.
A layer under tension (σ > 0) or compression has ρω² = σq² + … instead, which is physics and no
error: the right-hand sides keep it. r_ab is the shortest vector in the supercell; where several
images are equally near, each has an equal share.

References:
    Born, Huang, Dynamical Theory of Crystal Lattices (1954), Secs. 23 and 26 (the conditions at
    rest); the right-hand sides
        follow from the invariance of the energy when atoms, forces and cell turn together.
    Lin, Poncé, Marzari, npj Comput. Mater. 8, 236 (2022), doi:10.1038/s41524-022-00920-6 (1D to 3D
    crystals, and their
        imposition by projection).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.force_constants import ForceConstants

SumRules = Literal["none", "translational", "rotational"]

EQUAL_DISTANCE = 1e-4
"""Å, within which images of an atom are equally near."""

PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Symmetric pairs of Cartesian axes, in the order of Voigt."""


COUPLES = tuple((one, two) for i, one in enumerate(PAIRS) for two in PAIRS[:i])
"""The 15 pairs (αβ, γδ) of the Huang rules."""


@dataclass(frozen=True)
class SumRuleResiduals:
    """Largest violation of each rule.

    Attributes:
        translational: of Σ_b Φ_ab, eV/Å².
        rotational: of Σ_b (Φ_{aα,bβ} r_γ − Φ_{aα,bγ} r_β), eV/Å.
        huang: of [αβ, γδ] − [γδ, αβ] per cell, eV.
    """

    translational: float
    rotational: float
    huang: float


def measure_sum_rules(
    force_constants: ForceConstants,
    forces: NDArray[np.float64] | None = None,
    stress: NDArray[np.float64] | None = None,
) -> SumRuleResiduals:
    """Measure how far force constants miss the three rules.

    Args:
        force_constants: eV/Å².
        forces: (n_atoms, 3), eV/Å, on the atoms of the cell; None for a structure at rest.
        stress: (3, 3), eV/Å³; None likewise.
    """
    n_atoms = len(force_constants.atoms)
    misses = _build_rules(force_constants) @ force_constants.values.ravel() - _load_terms(
        force_constants, forces, stress
    )
    return SumRuleResiduals(
        *(float(np.abs(part).max()) for part in np.split(misses, [9 * n_atoms, 18 * n_atoms]))
    )


def impose_sum_rules(
    force_constants: ForceConstants,
    rules: SumRules,
    forces: NDArray[np.float64] | None = None,
    stress: NDArray[np.float64] | None = None,
) -> ForceConstants:
    """Add the smallest symmetric correction after which the rules hold.

    Least squares in the space of Φ_ab = Φ_baᵀ: the correction is orthogonal to all differences of
    force constants that obey the rules. Their space is invariant under the space group; force
    constants that have the symmetry of the crystal keep it.

    Args:
        force_constants: eV/Å².
        rules: "none" returns them as they are; "translational"; "rotational" imposes the
            translational, the rotational and the Huang rules.
        forces: (n_atoms, 3), eV/Å, on the atoms of the cell; None for a structure at rest.
        stress: (3, 3), eV/Å³; None likewise.

    Returns:
        Force constants; the residual of the translational rule before everything is kept.

    Raises:
        ConfigError: the choice is unknown.
    """
    if rules not in ("none", "translational", "rotational"):
        expected = "'none', 'translational' or 'rotational'"
        raise ConfigError(
            message("stage.phonon.sum_rules", repr(rules), expected, "Choose one of the three.")
        )
    if rules == "none":
        return force_constants
    mirror = _mirror_index(force_constants)
    values = force_constants.values.ravel()
    values = 0.5 * (values + values[mirror])
    matrix = _build_rules(force_constants)
    wanted = _load_terms(force_constants, forces, stress)
    if rules == "translational":
        n_rules = 9 * len(force_constants.atoms)
        matrix, wanted = matrix[:n_rules], wanted[:n_rules]
    matrix = 0.5 * (matrix + matrix[:, mirror])
    # rows of unlike size (1, r, r²) to unit length; they are linearly dependent, so the smallest
    # solution is asked for
    scale = np.linalg.norm(matrix, axis=1)
    used = scale > 0
    matrix, wanted = matrix[used] / scale[used][:, None], wanted[used] / scale[used]
    for _ in range(2):  # the second round removes the rounding of the first
        values = values - np.linalg.lstsq(matrix, matrix @ values - wanted, rcond=1e-10)[0]
    return replace(force_constants, values=values.reshape(force_constants.values.shape))


def shortest_vectors(
    force_constants: ForceConstants,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the shortest vectors from the atoms of the cell over equally near images.

    Returns:
        First moments r_γ, (n_atoms, n_supercell, 3), Å, and second moments r_γ r_δ, (n_atoms,
        n_supercell, 3, 3), Å².
    """
    atoms, repeats = force_constants.atoms, force_constants.supercell
    supercell = atoms.repeat(repeats)
    # in a reduced cell all shortest vectors lie within one period of the wrapped one
    cell = minkowski_reduce(supercell.cell.array)[0]
    vectors = supercell.positions[None] - atoms.positions[:, None]
    fractional = vectors @ np.linalg.inv(cell)
    vectors = (fractional - np.round(fractional)) @ cell
    images = vectors[:, :, None] + np.array(list(product((-1, 0, 1), repeat=3))) @ cell
    lengths = np.linalg.norm(images, axis=3)
    shares = (lengths < lengths.min(axis=2, keepdims=True) + EQUAL_DISTANCE).astype(np.float64)
    shares /= shares.sum(axis=2, keepdims=True)
    first = np.einsum("abi,abix->abx", shares, images)
    return first, np.einsum("abi,abix,abiy->abxy", shares, images, images)


def _build_rules(force_constants: ForceConstants) -> NDArray[np.float64]:
    """Return the rules as rows that multiply the flat force constants.

    Returns:
        9 n_atoms, 9 n_atoms and 15 of them, in this order.
    """
    n, n_supercell = force_constants.values.shape[:2]
    first, second = shortest_vectors(force_constants)
    translational = np.zeros((n, 3, 3, n, n_supercell, 3, 3))
    rotational = np.zeros((n, 3, 3, n, n_supercell, 3, 3))
    for a, x in product(range(n), range(3)):
        for y in range(3):
            translational[a, x, y, a, :, x, y] = 1.0
            beta, gamma = (y + 1) % 3, (y + 2) % 3
            rotational[a, x, y, a, :, x, beta] = first[a, :, gamma]
            rotational[a, x, y, a, :, x, gamma] = -first[a, :, beta]
    huang = np.zeros((15, n, n_supercell, 3, 3))
    for row, (one, two) in enumerate(COUPLES):
        for (alpha, beta), (gamma, delta), sign in ((one, two, 1.0), (two, one, -1.0)):
            # [αβ, γδ] is symmetric in αβ for symmetric Φ
            huang[row, :, :, alpha, beta] += 0.5 * sign * second[:, :, gamma, delta]
            huang[row, :, :, beta, alpha] += 0.5 * sign * second[:, :, gamma, delta]
    size = force_constants.values.size
    return np.concatenate(
        [translational.reshape(-1, size), rotational.reshape(-1, size), huang.reshape(-1, size)]
    )


def _load_terms(
    force_constants: ForceConstants,
    forces: NDArray[np.float64] | None,
    stress: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the right-hand sides of the rules, in the order of ``_build_rules``."""
    n, unit = len(force_constants.atoms), np.eye(3)
    force = np.zeros((n, 3)) if forces is None else np.asarray(forces, dtype=np.float64)
    load = (
        np.zeros((3, 3))
        if stress is None
        else force_constants.atoms.get_volume() * np.asarray(stress, dtype=np.float64)
    )
    rotational = np.zeros((n, 3, 3))
    for x, y in product(range(3), range(3)):
        beta, gamma = (y + 1) % 3, (y + 2) % 3
        rotational[:, x, y] = unit[x, gamma] * force[:, beta] - unit[x, beta] * force[:, gamma]
    huang = [2.0 * (unit[two] * load[one] - unit[one] * load[two]) for one, two in COUPLES]
    return np.concatenate([np.zeros(9 * n), rotational.ravel(), np.array(huang)])


def _mirror_index(force_constants: ForceConstants) -> NDArray[np.int64]:
    """Find the partner by Φ_ab = Φ_baᵀ of every element of the flat force constants."""
    n, repeats = len(force_constants.atoms), np.array(force_constants.supercell)
    cells = np.stack(np.meshgrid(*(np.arange(m) for m in repeats), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    opposite = np.ravel_multi_index(tuple(np.mod(-cells, repeats).T), tuple(repeats))
    index = np.arange(force_constants.values.size).reshape(n, len(cells), n, 3, 3)
    return index[:, opposite].transpose(2, 1, 0, 4, 3).reshape(-1)
