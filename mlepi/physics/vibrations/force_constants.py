"""Phonons of a crystal from the forces of any ASE calculator.

Force constants, bands and density of states.

Displacements, symmetry and the fit of the force constants are phonopy's and symfc's. This file owns
the order of the atoms: a supercell is always ``atoms.repeat(supercell)``, cell-major, so atom a of
cell (c₀, c₁, c₂) has the index ((c₀·n₁ + c₁)·n₂ + c₂)·n_atoms + a. phonopy numbers supercells
differently; every array that crosses the border goes through ``_repeat_order``. Frequencies are in
THz, imaginary ones are negative.

References:
    Togo, Chaput, Tadano, Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023),
    doi:10.1088/1361-648X/acd831 (phonopy). Seko, Togo, Phys. Rev. B 110, 214302 (2024),
    doi:10.1103/PhysRevB.110.214302 (symfc).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from mlepi.errors import ConfigError, PhysicsError, message

ORDER_TOLERANCE = 1e-5
"""Å, within which an atom of phonopy's supercell must sit on its site of ``atoms.repeat``."""


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
        """Largest |Σ_b Φ_ab| of the stored force constants, eV/Å².

        Zero when a rigid shift costs no force.
        """
        return float(np.abs(self.values.sum(axis=1)).max())

    def matrix(self) -> NDArray[np.float64]:
        """Expand to all pairs of the supercell.

        (n_supercell, n_supercell, 3, 3), eV/Å², by translation symmetry.
        """
        n_atoms, n_supercell = self.values.shape[:2]
        cells = _cells(self.supercell)
        blocks = self.values.reshape(n_atoms, len(cells), n_atoms, 3, 3)
        full = np.empty((len(cells), n_atoms, len(cells), n_atoms, 3, 3))
        for index, cell in enumerate(cells):
            full[index] = blocks[:, _cell_index(cells - cell, self.supercell)]
        return full.reshape(n_supercell, n_supercell, 3, 3)


@dataclass(frozen=True)
class PhononBands:
    """Phonon frequencies along a path.

    Attributes:
        qpoints: (n_qpoints, 3), fractional.
        distances: (n_qpoints,), 1/Å, length of the path so far, the factor 2π included.
        frequencies: (n_qpoints, 3 n_atoms), THz, ascending, imaginary shown negative.
        labels: name of each labelled point, e.g. ("G", "M", "K", "G").
        label_distances: (n_labels,), 1/Å.
    """

    qpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    labels: tuple[str, ...]
    label_distances: NDArray[np.float64]


@dataclass(frozen=True)
class PhononDos:
    """Phonon density of states; its integral is 3 n_atoms.

    Attributes:
        frequencies: (n_points,), THz.
        dos: (n_points,), 1/THz per cell.
    """

    frequencies: NDArray[np.float64]
    dos: NDArray[np.float64]


def compute_force_constants(
    atoms: Atoms,
    calculator: Calculator,
    supercell: Sequence[int],
    *,
    displacement: float = 0.01,
    symmetrize: bool = True,
    symprec: float = 1e-5,
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
    phonon = _build_phonopy(atoms, repeats, symprec)
    order = _repeat_order(phonon, atoms, repeats)
    ideal = atoms.repeat(repeats)
    phonon.generate_displacements(distance=displacement, is_plusminus="auto")
    rest = _forces(ideal, calculator)
    forces = []
    for atom, *vector in phonon.displacements:
        displaced = ideal.copy()
        displaced.positions[order[int(atom)]] += vector
        forces.append((_forces(displaced, calculator) - rest)[order])
    phonon.forces = np.array(forces)
    columns = _columns(phonon, order, len(atoms), repeats)
    phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    plain = ForceConstants(atoms.copy(), repeats, _from_phonopy(phonon, columns))
    residual = plain.sum_rule_residual
    if not symmetrize:
        return replace(plain, raw_sum_rule_residual=residual)
    phonon.produce_force_constants(
        calculate_full_force_constants=False, show_drift=False, fc_calculator="symfc"
    )
    return replace(plain, values=_from_phonopy(phonon, columns), raw_sum_rule_residual=residual)


@runtime_checkable
class TwiceDifferentiable(Protocol):
    """A calculator that gives second derivatives of its energy, such as ``mlepi.predictors.phonon.PhononCalculator``."""

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
    """Project force constants of any origin onto the space group, Φ_ab = Φ_baᵀ and the acoustic sum rule.

    Args:
        force_constants: e.g. from a file or a Hessian, eV/Å².
        symprec: distance within which atoms count as symmetric, Å.

    Returns:
        The nearest force constants that obey all three (symfc's projector); the residual before is
        kept.
    """
    phonon, columns = _load_phonopy(force_constants, symprec)
    phonon.symmetrize_force_constants(use_symfc_projector=True, show_drift=False)
    return replace(
        force_constants,
        values=_from_phonopy(phonon, columns),
        raw_sum_rule_residual=force_constants.sum_rule_residual,
    )


def compute_frequencies(
    force_constants: ForceConstants, qpoints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve the dynamical matrix at any q by Fourier interpolation of the supercell.

    Args:
        force_constants: eV/Å².
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        (n_qpoints, 3 n_atoms), THz, ascending, imaginary shown negative.
    """
    phonon, _ = _load_phonopy(force_constants)
    return np.array(phonon.run_qpoints(np.asarray(qpoints, dtype=float)).frequencies)


def compute_eigenvectors(
    force_constants: ForceConstants, qpoints: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Solve the dynamical matrix at any q as ``compute_frequencies`` does, with its eigenvectors.

    Args:
        force_constants: eV/Å².
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        Frequencies as ``compute_frequencies``, and (n_qpoints, 3 n_atoms, 3 n_atoms) complex:
        columns are modes, orthonormal, with the phase e^{2πi q·R} of lattice vectors R alone
        (phonopy's own is that of the positions of the atoms).
    """
    phonon, _ = _load_phonopy(force_constants)
    points = np.asarray(qpoints, dtype=float)
    solved = phonon.run_qpoints(points, with_eigenvectors=True)
    sites = force_constants.atoms.cell.scaled_positions(force_constants.atoms.positions)
    phases = np.repeat(np.exp(2j * np.pi * (points @ sites.T)), 3, axis=1)
    return np.array(solved.frequencies), np.array(
        solved.eigenvectors, dtype=np.complex128
    ) * phases[:, :, None]


def compute_phonon_bands(
    force_constants: ForceConstants,
    path: str | None = None,
    n_points: int = 151,
    in_plane: bool = True,
) -> PhononBands:
    """Follow the phonons along a path through the special points of the lattice.

    Args:
        force_constants: eV/Å².
        path: special points, e.g. "GMKG"; None takes "GMKG" for a hexagonal layer and the lattice's
            standard path otherwise.
        n_points: number of q-points on the path.
        in_plane: keep q_z = 0, for layers periodic along the first two vectors.

    Returns:
        The bands with their labels.

    Raises:
        ConfigError: the path names a point that the lattice does not have.
    """
    periodic = (True, True, not in_plane)
    cell = force_constants.atoms.cell
    lattice = cell.get_bravais_lattice(pbc=periodic)
    if path is None:
        path = "GMKG" if lattice.name == "HEX2D" else lattice.special_path
    try:
        band_path = cell.bandpath(path, npoints=n_points, pbc=periodic)
    except KeyError as error:
        raise ConfigError(
            message(
                "stage.phonon.path",
                repr(path),
                f"points among {sorted(lattice.get_special_points())}",
                "Correct the path.",
            )
        ) from error
    distances, label_distances, labels = band_path.get_linear_kpoint_axis()
    frequencies = compute_frequencies(force_constants, band_path.kpts)
    return PhononBands(band_path.kpts, distances, frequencies, tuple(labels), label_distances)


def compute_phonon_dos(
    force_constants: ForceConstants,
    mesh: Sequence[int] = (48, 48, 1),
    broadening: float = 0.15,
    n_points: int = 601,
) -> PhononDos:
    """Count phonon modes per frequency on a regular q-mesh with Gaussian broadening.

    Args:
        force_constants: eV/Å².
        mesh: q-points along each reciprocal vector; 1 along the stacking direction of a layer.
        broadening: standard deviation of the Gaussian, THz.
        n_points: points of the frequency axis.

    Returns:
        Density of states that integrates to 3 n_atoms.
    """
    # the full mesh: force constants of a low-symmetry supercell do not have the symmetry of the
    # cell
    frequencies = compute_frequencies(force_constants, _cells(mesh) / np.array(mesh))
    low, high = float(frequencies.min()) - 5 * broadening, float(frequencies.max()) + 5 * broadening
    axis = np.linspace(low, high, n_points)
    gauss = [np.exp(-0.5 * ((point - frequencies) / broadening) ** 2).sum() for point in axis]
    return PhononDos(axis, np.array(gauss) / (np.sqrt(2 * np.pi) * broadening * len(frequencies)))


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


def _build_phonopy(atoms: Atoms, repeats: tuple[int, int, int], symprec: float) -> Phonopy:
    cell = PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell.array,
        positions=atoms.positions,
        masses=np.array(atoms.get_masses()),
    )
    with warnings.catch_warnings():
        # a supercell may have less symmetry than its cell (4×3×1 of a hexagonal one); phonopy then
        # uses the supercell's
        warnings.filterwarnings("ignore", message=".*Point group symmetries of supercell")
        return Phonopy(
            cell, supercell_matrix=np.diag(repeats), primitive_matrix="P", symprec=symprec
        )


def _cells(repeats: Sequence[int]) -> NDArray[np.int64]:
    """List the cells of a supercell in the order of ``ase.Atoms.repeat``: (n_cells, 3)."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1).reshape(
        -1, 3
    )


def _cell_index(cells: NDArray[np.int64], repeats: Sequence[int]) -> NDArray[np.int64]:
    """Return the position of cells (…, 3), taken modulo the supercell, in ``_cells``."""
    wrapped = np.mod(cells, repeats)
    return (wrapped[..., 0] * repeats[1] + wrapped[..., 1]) * repeats[2] + wrapped[..., 2]


def _repeat_order(
    phonon: Phonopy, atoms: Atoms, repeats: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Find, for each atom of phonopy's supercell, its index in ``atoms.repeat``.

    (n_supercell,) int.
    """
    supercell = phonon.supercell
    unit = np.array([supercell.u2u_map[int(s)] for s in supercell.s2u_map])
    shifts = (supercell.positions - atoms.positions[unit]) @ np.linalg.inv(atoms.cell.array)
    cells = np.rint(shifts).astype(np.int64)
    order = _cell_index(cells, repeats) * len(atoms) + unit
    misfit = float(np.linalg.norm((shifts - cells) @ atoms.cell.array, axis=1).max())
    if misfit > ORDER_TOLERANCE or not np.array_equal(np.sort(order), np.arange(len(supercell))):
        raise PhysicsError(
            message(
                "supercell",
                f"atoms up to {misfit:.1e} Å off their sites",
                "phonopy's supercell to repeat the cell",
                "Report this.",
            )
        )
    return order


def _columns(
    phonon: Phonopy, order: NDArray[np.int64], n_atoms: int, repeats: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Index the stored array for every element of phonopy's compact one.

    (n_atoms, n_supercell) int.

    Row p of phonopy belongs to the image p2s_map[p], which need not lie in cell 0; only the
    difference of cells matters.
    """
    cells = _cells(repeats)
    rows = order[phonon.primitive.p2s_map]
    difference = cells[order // n_atoms][None] - cells[rows // n_atoms][:, None]
    return _cell_index(difference, repeats) * n_atoms + (order % n_atoms)[None]


def _from_phonopy(phonon: Phonopy, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    compact = np.array(phonon.force_constants, dtype=np.float64)
    values = np.empty_like(compact)
    for row, column in enumerate(columns):
        values[row, column] = compact[row]
    return values


def _load_phonopy(
    force_constants: ForceConstants, symprec: float = 1e-5
) -> tuple[Phonopy, NDArray[np.int64]]:
    atoms, repeats = force_constants.atoms, force_constants.supercell
    phonon = _build_phonopy(atoms, repeats, symprec)
    columns = _columns(phonon, _repeat_order(phonon, atoms, repeats), len(atoms), repeats)
    phonon.force_constants = np.take_along_axis(
        force_constants.values, columns[:, :, None, None], axis=1
    )
    return phonon, columns
