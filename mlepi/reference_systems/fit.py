"""Fit one-orbital tight binding to the states around the Dirac energy of another Hamiltonian.

The fit follows the levels of displaced supercells, so that bond lengths and spacings enter with the
strength that they have in the Hamiltonian it stands for. Its parameters are the hopping and its
decay inside a layer and between layers. Each structure has an energy zero of its own. What comes
out is cheap and follows the other from sample to sample: a control variate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.reference_systems.tight_binding import INTERLAYER, INTRALAYER, TightBinding

FEWEST_LEVELS = 4
"""Levels per structure below which nothing is fitted."""

FAR_AWAY = 1e3
"""eV, where levels are put that do not exist."""


@dataclass(frozen=True)
class FittedTightBinding:
    """Tight binding fitted to levels.

    Attributes:
        intralayer: hopping, eV, and its β.
        interlayer: likewise between layers.
        bond: Å, d₀ inside a layer.
        spacing: Å, d₀ between layers.
        rms: eV, root mean square misfit of the levels.
        wanted: (n_structures, n_kpoints, n_levels), eV, the levels less their mean over each
            structure.
        found: the same of the fit.
    """

    intralayer: tuple[float, float]
    interlayer: tuple[float, float]
    bond: float
    spacing: float
    rms: float
    wanted: NDArray[np.float64]
    found: NDArray[np.float64]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``TightBinding`` as plain data."""
        return describe_tight_binding(self.intralayer, self.interlayer, self.bond, self.spacing)


def fit_tight_binding(
    structures: Sequence[Atoms],
    kpoints: NDArray[np.float64],
    levels: NDArray[np.float64],
    bond: float,
    spacing: float,
) -> FittedTightBinding:
    """Fit the levels of several structures by least squares.

    Args:
        structures: graphene layers, displaced, with the layer of each atom.
        kpoints: (n_kpoints, 3) fractional; some beside K, or the velocity is not determined.
        levels: (n_structures, n_kpoints, n_levels), eV, even number, half of them below neutrality;
            any zero for each structure.
        bond: Å, of the equilibrium.
        spacing: Å, of the equilibrium; without meaning in a monolayer.

    Returns:
        The parameters.

    Raises:
        PhysicsError: too few levels, or not half of them on either side of neutrality.
    """
    part = _choose_levels(levels.shape[2], len(structures[0]))
    wanted = levels - levels.mean(axis=(1, 2), keepdims=True)
    layered = len(np.unique(structures[0].arrays["layer"])) > 1

    def build(parameters: NDArray[np.float64]) -> dict[str, Any]:
        values = [float(value) for value in parameters] + list(INTERLAYER["s"]["sss"])
        return describe_tight_binding((values[0], values[1]), (values[2], values[3]), bond, spacing)

    def solve(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        model = TightBinding(**build(parameters))
        found = np.array([_levels(model, atoms, kpoints, part) for atoms in structures])
        return np.asarray(found - found.mean(axis=(1, 2), keepdims=True))

    start = [*INTRALAYER["s"]["sss"], *(INTERLAYER["s"]["sss"] if layered else ())]
    best = scipy.optimize.least_squares(
        lambda parameters: (solve(parameters) - wanted).ravel(),
        start,
        x_scale=np.abs(start),
        method="lm",
        xtol=1e-6,
        ftol=1e-6,
    )
    arguments = build(best.x)
    return FittedTightBinding(
        intralayer=tuple(arguments["intralayer"]["sss"]),
        interlayer=tuple(arguments["interlayer"]["sss"]),
        bond=bond,
        spacing=spacing,
        rms=float(np.sqrt(np.mean(best.fun**2))),
        wanted=wanted,
        found=solve(best.x),
    )


def _choose_levels(n_levels: int, n_states: int) -> tuple[int, int]:
    """Return the numbers of the lowest and the highest level, half of them below neutrality."""
    if n_levels < FEWEST_LEVELS or n_levels % 2 or n_levels > n_states:
        raise PhysicsError(
            message(
                "tight-binding fit",
                f"{n_levels} levels of {n_states} atoms",
                f"an even number between {FEWEST_LEVELS} and the number of atoms",
                "Change stage.tight_binding.n_levels.",
            )
        )
    middle = n_states // 2
    return middle - n_levels // 2, middle + n_levels // 2 - 1


def describe_tight_binding(
    intralayer: tuple[float, float], interlayer: tuple[float, float], bond: float, spacing: float
) -> dict[str, Any]:
    """Return the arguments of ``TightBinding`` as plain data."""
    return {
        "orbitals": "s",
        "intralayer": {"sss": list(intralayer)},
        "interlayer": {"sss": list(interlayer)},
        "bond": bond,
        "spacing": spacing,
    }


def _levels(
    model: TightBinding, atoms: Atoms, kpoints: NDArray[np.float64], part: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the levels of one structure that are fitted: (n_kpoints, n_levels), eV."""
    h, s = model.hamiltonian(atoms).dense_many(kpoints), model.overlap(atoms).dense_many(kpoints)
    try:
        return solve_bands(h, s, subset=part)
    except PhysicsError:  # the search strayed to where S is not positive definite
        return np.tile(FAR_AWAY * np.linspace(-1.0, 1.0, part[1] - part[0] + 1), (len(kpoints), 1))
