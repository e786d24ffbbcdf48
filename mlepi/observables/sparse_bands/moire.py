"""The continuum model of a twisted bilayer with parameters from the network of the run.

AA and AB cells give v_F and hoppings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.graphs.block_matrix import compute_bands
from mlepi.observables.sparse_bands.record import FLAT_BANDS, ContinuumRecord
from mlepi.physics.bands import lattice
from mlepi.physics.bands.continuum import ContinuumModel, find_magic_angle
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY, count_valence_electrons
from mlepi.structures import build_graphene, get_layers

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

    Predict = Callable[[Atoms], tuple[BlockMatrix, BlockMatrix]]

SLOPE_DISTANCE = 0.01
"""Å⁻¹ from K, where the slope of the cones of an AA bilayer is taken, on both sides along K–Γ."""

N_CONTINUUM_POINTS = 60
"""Momenta along the path, special points apart."""

SMALLEST_TWISTED = 28
"""Atoms in the smallest cell of a twisted bilayer of graphene, at 21.8°."""

N_BANDS = 12
"""Bands of the continuum model per valley."""


@dataclass(frozen=True)
class Stackings:
    """What the AA and AB bilayers tell about a twisted one.

    Attributes:
        neutrality: Dirac energy of the AB bilayer, eV.
        velocity: ħ v_F, eV·Å, of the cones of the AA bilayer, which are those of a single layer
            shifted by ± 3 w_AA.
        w_aa: a sixth of the distance of the two cones of the AA bilayer, eV.
        w_ab: γ₁ / 3, from the distance 2 γ₁ of the split-off bands of the AB bilayer at K, eV.
    """

    neutrality: float
    velocity: float
    w_aa: float
    w_ab: float


def measure_stackings(
    atoms: Atoms,
    spacings: NDArray[np.float64],
    predict: Predict,
    valence_electrons: Mapping[int, float],
) -> Stackings:
    """Read off the Dirac cones of the AA and AB bilayers that go with a twisted one.

    Args:
        atoms: twisted bilayer, whose lattice constant they have.
        spacings: (1,) Å, distance of its layers.
        predict: H (eV) and S of a structure, by the network.
        valence_electrons: atomic number → valence electrons of its pseudopotential.
    """
    a = measure_lattice(atoms)[0]
    levels = {}
    for stacking in ("AA", "AB"):
        stacked = build_graphene(stacking, lattice_constant=a, spacing=float(spacings[0]))
        cell = stacked.cell.array
        corner = lattice.hexagonal_points(cell)["K"]
        step = corner / np.linalg.norm(lattice.to_cartesian(corner, cell)) * SLOPE_DISTANCE
        middle = int(count_valence_electrons(stacked.numbers, valence_electrons) / SPIN_DEGENERACY)
        bands = compute_bands(*predict(stacked), [corner, corner - step, corner + step])
        levels[stacking] = bands[:, middle - 2 : middle + 2]
    aa, ab = levels["AA"], levels["AB"]
    slopes = (aa[1:, 1] - aa[1:, 0] + aa[1:, 3] - aa[1:, 2]) / (4.0 * SLOPE_DISTANCE)
    return Stackings(
        neutrality=float(ab[0, 1:3].mean()),
        velocity=float(slopes.mean()),
        w_aa=float(aa[0, 2:].mean() - aa[0, :2].mean()) / 6.0,
        w_ab=float(ab[0, 3] - ab[0, 0]) / 6.0,
    )


def measure_lattice(atoms: Atoms) -> tuple[float, float]:
    """Find the lattice constant of the layers and the twist of a bilayer.

    Args:
        atoms: two layers of equally many atoms in a hexagonal cell, one moiré period.

    Returns:
        Lattice constant, Å, and twist, degrees.

    Raises:
        StructureError: the structure has not two such layers.
    """
    layer = atoms.arrays["layer"]
    n_cells = len(atoms) / 4
    if layer.max() != 1 or np.count_nonzero(layer) * 2 != len(atoms) or n_cells != round(n_cells):
        raise StructureError(
            message(
                "twisted bilayer",
                f"{layer.max() + 1} layers, {len(atoms)} atoms",
                "two layers of equal size",
                "Build a bilayer.",
            )
        )
    area = float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])))
    lattice_constant = math.sqrt(area / n_cells * 2.0 / math.sqrt(3.0))
    return lattice_constant, math.degrees(2.0 * math.asin(min(1.0, 0.5 / math.sqrt(n_cells))))


def check_moire_period(atoms: Atoms) -> None:
    """Refuse a twisted bilayer whose cell is not one moiré period.

    Args:
        atoms: two graphene layers of equal size.

    Raises:
        StructureError: there is no m with 3m² + 3m + 1 graphene cells per layer.
    """
    n_cells = len(atoms) // 4
    m = (math.isqrt(12 * n_cells - 3) - 3) // 6
    if m < 1 or 3 * m * m + 3 * m + 1 != n_cells:
        raise StructureError(
            message(
                "twisted bilayer",
                f"{n_cells} graphene cells per layer",
                "3m² + 3m + 1 with m ≥ 1, one moiré period",
                "Build (m, 1), or set stage.sparse_bands.continuum=false.",
            )
        )


def compare_with_continuum(
    atoms: Atoms,
    spacings: NDArray[np.float64],
    predict: Predict,
    path: lattice.KPath,
    valence_electrons: Mapping[int, float],
    parameters: tuple[float | None, float | None, float | None],
) -> ContinuumRecord:
    """Compute the continuum model along the path of the atomistic bands.

    Args:
        atoms: twisted bilayer, Å; the longer lattice period of (m, r) with r > 1 is not a moiré
            period and is refused.
        spacings: (1,) Å, distance of its layers.
        predict: H (eV) and S of a structure, by the network.
        path: of the atomistic bands.
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        parameters: ħ v_F (eV·Å), w_AA and w_AB (eV); None measures one with the network.

    Raises:
        StructureError: the structure is no twisted bilayer of one moiré period.
    """
    lattice_constant, twist = measure_lattice(atoms)
    check_moire_period(atoms)
    given = [value for value in parameters if value is not None]
    measured = (
        measure_stackings(atoms, spacings, predict, valence_electrons) if len(given) < 3 else None
    )
    velocity, w_aa, w_ab = (
        getattr(measured, name) if value is None else value
        for name, value in zip(("velocity", "w_aa", "w_ab"), parameters, strict=True)
    )
    model = ContinuumModel(twist, velocity, w_aa, w_ab, lattice_constant)
    try:
        magic = find_magic_angle(model)
    except PhysicsError:
        magic = math.nan
    distances = np.unique(
        np.concatenate([np.linspace(0.0, path.distances[-1], N_CONTINUUM_POINTS), path.ticks])
    )
    fractions = np.stack(
        [np.interp(distances, path.distances, column) for column in path.kpoints.T], axis=1
    )
    momenta = lattice.to_cartesian(fractions, atoms.cell.array)[:, :2]
    energies = both_valleys(model, momenta)
    source = (
        "config"
        if len(given) == 3
        else "AA and AB bilayers of the same network" + (", config" if given else "")
    )
    return ContinuumRecord(
        twist, velocity, w_aa, w_ab, source, magic, distances, energies - _dirac_energy(model)
    )


def both_valleys(model: ContinuumModel, momenta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the bands of both valleys.

    Args:
        model: of one valley.
        momenta: (n_k, 2) Å⁻¹ from Γ.

    Returns:
        (n_k, 2 · N_BANDS), ascending, eV.
    """
    return np.sort(
        np.concatenate([model.bands(momenta, N_BANDS), model.bands(-momenta, N_BANDS)], axis=1),
        axis=1,
    )


def _dirac_energy(model: ContinuumModel) -> float:
    middle = both_valleys(model, model.points()["K"][None])[
        0, N_BANDS - FLAT_BANDS // 2 : N_BANDS + FLAT_BANDS // 2
    ]
    return float(middle.mean())


def find_vacuum(atoms: Atoms) -> float:
    """Return the largest height without atoms along the third lattice vector, Å."""
    heights = np.sort(atoms.cell.scaled_positions(atoms.positions)[:, 2] % 1.0)
    spacing = 1.0 / float(np.linalg.norm(atoms.cell.reciprocal().array[2]))
    return float(np.diff(np.append(heights, heights[0] + 1.0)).max()) * spacing


def is_graphene_bilayer(atoms: Atoms) -> bool:
    """Tell whether a structure is two layers of equally many carbon atoms in a hexagonal cell."""
    layer = get_layers(atoms)
    if set(atoms.numbers) != {6} or layer.max() != 1 or 2 * int(layer.sum()) != len(atoms):
        return False
    try:
        lattice.hexagonal_points(atoms.cell.array)
    except StructureError:
        return False
    return len(atoms) % 4 == 0 and len(atoms) >= SMALLEST_TWISTED
