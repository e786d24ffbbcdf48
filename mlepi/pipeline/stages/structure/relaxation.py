"""Relaxation of a layered structure, at will with the heights of its layers held, and what is left.

A structure at a spacing that is not the network's own is stationary in all but one direction per
layer: the force that holds the spacing is the same for all atoms of a layer on average, and it is
measured apart from the force that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.constraints import FixConstraint
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, LBFGS
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

IN_PLANE = (1, 1, 0, 0, 0, 1)
"""Strains xx, yy, zz, yz, xz, xy that a layered cell with vacuum along z may follow."""

LARGE = 300
"""Atoms from which on a relaxation keeps no Hessian matrix, which would be too large to diagonalise
at every step."""


@dataclass(frozen=True)
class ForcesLeft:
    """What acts on a structure.

    Attributes:
        max_force: largest force on an atom, eV/Å.
        layer_forces: (n_layers,), mean force on the atoms of each layer along the stacking
            direction, eV/Å per atom, from bottom to top.
        residual_force: largest force on an atom after the means of the layers are taken off, eV/Å.
        in_plane_stress: (3,), xx, yy and xy with y in the plane of a and b and x along a, eV/Å²
            (stress times the height of the cell), negative when compressed; NaN where the
            calculator has no stress.
    """

    max_force: float
    layer_forces: NDArray[np.float64]
    residual_force: float
    in_plane_stress: NDArray[np.float64]


class LayerHeights(FixConstraint):
    """Keep the mean height of every layer.

    Args:
        layer: (n_atoms,) int.
        normal: (3,), unit vector along which heights are measured.
    """

    def __init__(self, layer: NDArray[np.int64], normal: NDArray[np.float64]) -> None:
        self.layer = layer
        self.normal = normal

    def adjust_positions(self, atoms: Atoms, new: NDArray[np.float64]) -> None:
        """Take the mean move of each layer along the normal off new positions, in place."""
        new -= layer_means(new - atoms.positions, self.layer, self.normal)

    def adjust_forces(self, atoms: Atoms, forces: NDArray[np.float64]) -> None:
        """Take the mean force on each layer along the normal off, in place."""
        forces -= layer_means(forces, self.layer, self.normal)

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Return the number of layers."""
        return len(np.unique(self.layer))

    def copy(self) -> LayerHeights:
        """Return the same constraint."""
        return LayerHeights(self.layer.copy(), self.normal.copy())


def find_normal(atoms: Atoms) -> NDArray[np.float64]:
    """Return the unit normal of the plane of a and b: (3,)."""
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    return np.asarray(normal / np.linalg.norm(normal))


def layer_means(
    vectors: NDArray[np.float64], layer: NDArray[np.int64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, for every atom, the mean component along the normal in its layer, as a vector.

    Args:
        vectors: (n_atoms, 3), of any unit.
        layer: (n_atoms,) int, 0 … n_layers − 1.
        normal: (3,), unit vector.

    Returns:
        (n_atoms, 3).
    """
    means = np.bincount(layer, weights=vectors @ normal) / np.bincount(layer)
    return means[layer][:, None] * normal


def measure_spacings(atoms: Atoms) -> NDArray[np.float64]:
    """Measure the distances between the mean planes of neighbouring layers.

    Args:
        atoms: Å, with the layer of each atom, numbered from bottom to top along c.

    Returns:
        (n_layers − 1,), Å, along the normal of the plane of a and b.
    """
    normal = find_normal(atoms)
    period = float(atoms.cell[2] @ normal)
    heights = atoms.positions @ normal
    layer = atoms.arrays["layer"]
    planes = []
    for number in range(int(layer.max()) + 1):
        own = heights[layer == number]
        # atoms of one layer may be stored in different periods of c
        planes.append(own[0] + np.mean(own - own[0] - period * np.rint((own - own[0]) / period)))
    return np.mod(np.diff(planes), period)


def measure_forces(atoms: Atoms) -> ForcesLeft:
    """Measure what acts on a structure.

    Args:
        atoms: with a calculator and the layer of each atom; constraints do not count.
    """
    forces = atoms.get_forces(apply_constraint=False)
    layer, normal = atoms.arrays["layer"], find_normal(atoms)
    means = layer_means(forces, layer, normal)
    stress = np.full(3, np.nan)
    if "stress" in getattr(atoms.calc, "implemented_properties", ()) and atoms.cell.rank == 3:
        first = atoms.cell[0] / np.linalg.norm(atoms.cell[0])
        axes = np.stack([first, np.cross(normal, first)])
        full = atoms.get_stress(voigt=False, apply_constraint=False)
        plane = axes @ full @ axes.T * abs(float(atoms.cell[2] @ normal))
        stress = np.array([plane[0, 0], plane[1, 1], plane[0, 1]])
    return ForcesLeft(
        max_force=_largest(forces),
        layer_forces=np.bincount(layer, weights=forces @ normal) / np.bincount(layer),
        residual_force=_largest(forces - means),
        in_plane_stress=stress,
    )


def relax_structure(
    atoms: Atoms,
    calculator: Calculator,
    *,
    in_plane_cell: bool,
    max_force: float,
    max_steps: int,
    hold_layers: bool = False,
    watch: Callable[[int, float], None] | None = None,
) -> int:
    """Relax a structure in place, by BFGS, or by LBFGS where there are many atoms.

    Args:
        atoms: Å; gets the calculator.
        calculator: energies, forces and, for the cell, stress.
        in_plane_cell: let the cell follow in-plane strains.
        max_force: eV/Å.
        max_steps: of the optimiser.
        hold_layers: keep the mean height of every layer; ``max_force`` is of the other directions.
        watch: called at every step with its number and the largest force, eV/Å, on an atom.

    Returns:
        Number of steps taken.

    Raises:
        PhysicsError: not converged within ``max_steps``.
    """
    atoms.calc = calculator
    before = list(atoms.constraints)
    if hold_layers:
        atoms.set_constraint([*before, LayerHeights(atoms.arrays["layer"], find_normal(atoms))])
    target: Any = FrechetCellFilter(atoms, mask=IN_PLANE) if in_plane_cell else atoms
    method: Any = LBFGS if len(atoms) >= LARGE else BFGS
    optimizer = method(target, logfile=None)
    if watch is not None:
        optimizer.attach(lambda: watch(optimizer.nsteps, _largest(atoms.get_forces())))
    try:
        converged = optimizer.run(fmax=max_force, steps=max_steps)
        left = _largest(atoms.get_forces())
    finally:
        atoms.set_constraint(before)
    if not converged:
        raise PhysicsError(
            message(
                "relaxation",
                f"{left:.1e} eV/Å after {max_steps} steps",
                f"at most {max_force:.1e} eV/Å",
                "Raise stage.structure.max_steps or max_force, or start from a better structure.",
            )
        )
    return int(optimizer.nsteps)


def _largest(forces: NDArray[np.float64]) -> float:
    """Return the largest force on an atom, eV/Å."""
    return float(np.linalg.norm(forces, axis=1).max())
