"""Force constants of a crystal from the forces or second derivatives of any ASE calculator.

Displacements, symmetry and the fit of the force constants are phonopy's and symfc's; the order of
the atoms of a supercell is that of ``atoms.repeat`` (see ``phonopy_order``).

References:
    Togo, Chaput, Tadano, Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023),
    doi:10.1088/1361-648X/acd831 (phonopy). Seko, Togo, Phys. Rev. B 110, 214302 (2024),
    doi:10.1103/PhysRevB.110.214302 (symfc).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from phonopy import Phonopy

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.physics.vibrations.phonopy_order import (
    build_phonopy,
    cell_index,
    compact_columns,
    from_phonopy,
    list_cells,
    load_phonopy,
    repeat_order,
)


@dataclass(frozen=True)
class ForceConstants:
    """Second derivatives of the energy for the atoms of one cell against those of its supercell.

    Attributes:
        atoms: the unit cell, Å, amu.
        supercell: number of cells along each lattice vector.
        values: (n_atoms, n_supercell, 3, 3), eV/Å²; [a, b, α, β] = ∂²E/∂u_{aα}∂u_{bβ}, a in cell 0,
            b in the order of ``atoms.repeat(supercell)``.
        raw_sum_rule_residual: eV/Å², largest |Σ_b Φ_ab| of the plain finite differences, before the
            acoustic sum rule.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    values: NDArray[np.float64]
    raw_sum_rule_residual: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an array that does not fit the structure."""
        n_atoms = len(self.atoms)
        expected = (n_atoms, n_atoms * int(np.prod(self.supercell)), 3, 3)
        if self.values.shape != expected or not np.all(np.isfinite(self.values)):
            raise PhysicsError(
                message(
                    "ForceConstants.values",
                    f"shape {self.values.shape} or values that are not finite",
                    f"finite numbers of shape {expected}",
                    "Give one row per atom of the cell and one column per atom of the supercell.",
                )
            )

    @property
    def sum_rule_residual(self) -> float:
        """Largest |Σ_b Φ_ab| stored, eV/Å²; zero when a rigid shift costs no force."""
        return float(np.abs(self.values.sum(axis=1)).max())

    def matrix(self) -> NDArray[np.float64]:
        """Expand by translation symmetry: (n_supercell, n_supercell, 3, 3), eV/Å²."""
        n_atoms, n_supercell = self.values.shape[:2]
        cells = list_cells(self.supercell)
        blocks = self.values.reshape(n_atoms, len(cells), n_atoms, 3, 3)
        full = np.empty((len(cells), n_atoms, len(cells), n_atoms, 3, 3))
        for index, cell in enumerate(cells):
            full[index] = blocks[:, cell_index(cells - cell, self.supercell)]
        return full.reshape(n_supercell, n_supercell, 3, 3)


def compute_force_constants(
    atoms: Atoms,
    calculator: Calculator,
    supercell: Sequence[int],
    *,
    displacement: float = 0.01,
    symmetrize: bool = True,
    symprec: float = 1e-5,
    watch: Callable[[int, int], object] | None = None,
) -> ForceConstants:
    """Differentiate forces with respect to the symmetry-distinct displacements of a supercell.

    The forces of the undisplaced supercell are subtracted, so that a structure that is not exactly
    relaxed gives the Hessian at that structure. With ``symmetrize`` the force constants are fitted
    by symfc in the space that obeys the space group, Φ_ab = Φ_baᵀ and the acoustic sum rule
    exactly; without it they are plain finite differences.

    Args:
        atoms: unit cell, periodic, Å.
        calculator: any ASE calculator, eV and eV/Å; use float64, because single precision is noise
            at this step.
        supercell: number of cells along each lattice vector.
        displacement: length of each displacement, Å.
        symmetrize: impose symmetry and the sum rule.
        symprec: distance within which atoms count as symmetric, Å.
        watch: called with the number of displacements that are done, from 0 on, and of all.

    Returns:
        Force constants of the atoms of one cell; the residual of the sum rule before its imposition
        is kept.

    Raises:
        ConfigError: the supercell is not three positive integers or the displacement is not
            positive.
        PhysicsError: the calculator returned forces that are not finite.
    """
    repeats = _check_supercell(supercell)
    if not displacement > 0:
        raise ConfigError(
            message(
                "stage.phonon.displacement",
                f"{displacement}",
                "a positive length in Å",
                "Use 0.01.",
            )
        )
    phonon = build_phonopy(atoms, repeats, symprec)
    order = repeat_order(phonon, atoms, repeats)
    phonon.generate_displacements(distance=displacement, is_plusminus="auto")
    phonon.forces = _displaced_forces(phonon, order, atoms.repeat(repeats), calculator, watch)
    columns = compact_columns(phonon, order, len(atoms), repeats)
    phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    plain = ForceConstants(atoms.copy(), repeats, from_phonopy(phonon, columns))
    residual = plain.sum_rule_residual
    if not symmetrize:
        return replace(plain, raw_sum_rule_residual=residual)
    phonon.produce_force_constants(
        calculate_full_force_constants=False, show_drift=False, fc_calculator="symfc"
    )
    return replace(plain, values=from_phonopy(phonon, columns), raw_sum_rule_residual=residual)


@runtime_checkable
class TwiceDifferentiable(Protocol):
    """A calculator that gives second derivatives of its energy, as ``PhononCalculator`` does."""

    def hessian_rows(self, atoms: Atoms, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return (n_indices, 3, n_atoms, 3), eV/Å²; [a, α, b, β] = ∂²E/∂r_{aα}∂r_{bβ}."""
        ...


def differentiate_force_constants(
    atoms: Atoms,
    calculator: Calculator,
    supercell: Sequence[int],
    *,
    symmetrize: bool = True,
    symprec: float = 1e-5,
) -> ForceConstants:
    """Take the force constants from second derivatives of the energy, without any displacement.

    Args:
        atoms: unit cell, periodic, Å.
        calculator: a network's; use float64.
        supercell: number of cells along each lattice vector.
        symmetrize: project on the space group, Φ_ab = Φ_baᵀ and the acoustic sum rule.
        symprec: distance within which atoms count as symmetric, Å.

    Returns:
        Force constants of the atoms of one cell; the residual of the sum rule before its imposition
        is kept.

    Raises:
        ConfigError: the calculator gives no second derivatives.
        PhysicsError: they are not finite.
    """
    repeats = _check_supercell(supercell)
    if not isinstance(calculator, TwiceDifferentiable):
        raise ConfigError(
            message(
                "stage.phonon.method",
                f"derivatives of {type(calculator).__name__}, which gives none",
                "a network that is differentiated twice",
                "Use stage.phonon.method=displacements.",
            )
        )
    rows = calculator.hessian_rows(atoms.repeat(repeats), range(len(atoms)))
    plain = ForceConstants(
        atoms.copy(), repeats, np.asarray(rows, dtype=np.float64).transpose(0, 2, 1, 3).copy()
    )
    plain = replace(plain, raw_sum_rule_residual=plain.sum_rule_residual)
    return apply_sum_rule(plain, symprec) if symmetrize else plain


def apply_sum_rule(force_constants: ForceConstants, symprec: float = 1e-5) -> ForceConstants:
    """Project force constants of any origin on their symmetry and the acoustic sum rule.

    The symmetry is the space group and Φ_ab = Φ_baᵀ.

    Args:
        force_constants: e.g. from a file or a Hessian, eV/Å².
        symprec: distance within which atoms count as symmetric, Å.

    Returns:
        The nearest force constants that obey all three (symfc's projector); the residual before is
        kept.
    """
    phonon, columns = load_phonopy(
        force_constants.atoms, force_constants.supercell, force_constants.values, symprec
    )
    phonon.symmetrize_force_constants(use_symfc_projector=True, show_drift=False)
    return replace(
        force_constants,
        values=from_phonopy(phonon, columns),
        raw_sum_rule_residual=force_constants.sum_rule_residual,
    )


def _check_supercell(supercell: Sequence[int]) -> tuple[int, int, int]:
    repeats = tuple(int(n) for n in supercell)
    if len(repeats) != 3 or min(repeats) < 1:
        raise ConfigError(
            message(
                "supercell",
                f"{list(supercell)}",
                "three positive integers",
                "Use for example [6, 6, 1].",
            )
        )
    return repeats[0], repeats[1], repeats[2]


def _displaced_forces(
    phonon: Phonopy,
    order: NDArray[np.int64],
    ideal: Atoms,
    calculator: Calculator,
    watch: Callable[[int, int], object] | None,
) -> NDArray[np.float64]:
    """Return forces less those at rest, (n_displacements, n_supercell, 3) in phonopy's order."""
    tell = watch or (lambda done, total: None)
    tell(0, len(phonon.displacements))
    rest = _forces(ideal, calculator)
    forces: list[NDArray[np.float64]] = []
    for atom, *vector in phonon.displacements:
        displaced = ideal.copy()
        displaced.positions[order[int(atom)]] += vector
        forces.append((_forces(displaced, calculator) - rest)[order])
        tell(len(forces), len(phonon.displacements))
    return np.array(forces)


def _forces(atoms: Atoms, calculator: Calculator) -> NDArray[np.float64]:
    atoms = atoms.copy()
    atoms.calc = calculator
    forces = np.array(atoms.get_forces(), dtype=np.float64)
    if not np.all(np.isfinite(forces)):
        raise PhysicsError(
            message(
                f"forces of {atoms.get_chemical_formula()}",
                "numbers that are not finite",
                "finite forces in eV/Å",
                "Check that the structure lies in the calculator's domain.",
            )
        )
    return forces
