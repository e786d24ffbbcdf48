"""States of displaced supercells near the Fermi energy, and what all samples share to find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.conductivity.optical_spectra import (
    MAX_GHOSTS,
    OpticalStates,
    UndisplacedSheet,
)
from mlepi.physics.bands import unfolding
from mlepi.physics.bands.velocity_matrices import derivatives_at, velocity_matrices
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline.ensemble import Sample

SPARE_STATES = 1.2
"""Factor on the number of states that the undisplaced bands have in the energy window."""

OFFSET_STEPS = (0.7548776662466927, 0.5698402909980532)
"""1/g and 1/g² with g³ = g + 1: the steps of the two-dimensional low-discrepancy sequence of the
mesh offsets."""


@dataclass(frozen=True)
class SheetSamples:
    """What all samples share.

    Attributes:
        sheet: undisplaced.
        mesh: k-points of every supercell.
        n_half: states on either side of the Fermi energy that are solved for at first.
        reference: number of a sample → what the undisplaced sheet gives at its k-points, which are
            the same at all temperatures; the last one is remembered.
    """

    sheet: UndisplacedSheet
    mesh: tuple[int, ...]
    n_half: int
    reference: Callable[[int], dict[str, NDArray[np.float64]]]

    @property
    def n_electrons(self) -> float:
        """Of a supercell."""
        return self.sheet.n_electrons * self.sheet.atom_map.n_cells

    def kpoints(self, number: int) -> NDArray[np.float64]:
        """Return the k-points of a sample: (n_k, 3) fractional, of the supercell."""
        return offset_mesh(self.mesh, number)

    def solve(self, sample: Sample) -> OpticalStates:
        """Solve one supercell at its k-points.

        Twice as many states are taken until those at the ends are out of reach.
        """
        sheet, matrices = self.sheet, (sample.hamiltonian, sample.overlap)
        kpoints = self.kpoints(sample.key.sample)
        cell, positions = sample.atoms.cell.array, sample.atoms.positions
        layouts = [matrix.lay_out() for matrix in matrices]
        slopes = [matrix.lay_out_derivatives(cell, positions) for matrix in matrices]
        bloch_overlap = unfolding.lay_out_average(
            sheet.atom_map,
            sample.overlap.edge_index,
            sample.overlap.edge_cell_shift,
            sample.overlap.blocks,
            sheet.counts,
        )
        half, middle = self.n_half, int(self.n_electrons // 2)
        reach, n = sheet.lines.reach, sample.hamiltonian.n_orbitals
        while True:
            first, last = max(0, middle - half), min(n, middle + half + MAX_GHOSTS)
            subset = None if last - first == n else (first, last - 1)
            states = OpticalStates(first, np.empty((len(kpoints), last - first)), [], [])
            for number, kpoint in enumerate(kpoints):
                overlap_k = layouts[1].at(kpoint)
                values, vectors = solve_bands(
                    layouts[0].at(kpoint), overlap_k, subset=subset, vectors=True
                )
                below, above = sheet.fermi_energy - values[0], values[-1] - sheet.fermi_energy
                if (first > 0 and below < reach) or (last < n and above < reach):
                    break
                states.values[number] = values
                states.velocities.append(
                    velocity_matrices(values, vectors, *(derivatives_at(s, kpoint) for s in slopes))
                )
                states.weights.append(
                    sheet.share(overlap_k @ vectors, bloch_overlap, sheet.unfold(kpoint))
                )
            else:
                return states
            half *= 2


def share_sheet(sheet: UndisplacedSheet, mesh: tuple[int, ...]) -> SheetSamples:
    """Find how many states of a supercell lie in the energy window, and remember what is shared.

    Args:
        sheet: undisplaced.
        mesh: k-points of every supercell.
    """

    @lru_cache(maxsize=1)
    def reference(number: int) -> dict[str, NDArray[np.float64]]:
        kpoints = offset_mesh(mesh, number)
        return sheet.response(np.concatenate([sheet.unfold(k) for k in kpoints]))

    n_states = sheet.count_states(offset_mesh(mesh, 0))
    return SheetSamples(sheet, mesh, int(np.ceil(SPARE_STATES * n_states)) + 4, reference)


def offset_mesh(mesh: tuple[int, ...], number: int) -> NDArray[np.float64]:
    """Return the k-points of one sample, shifted together: (n_k, 3) fractional, of the supercell.

    Args:
        mesh: divisions along each reciprocal lattice vector.
        number: of the sample.
    """
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in mesh], indexing="ij"), axis=-1)
    steps = np.array([*OFFSET_STEPS, 0.0])
    offset = np.mod(0.5 * (steps > 0) + number * steps, 1.0)
    return (grid.reshape(-1, 3) + offset) / np.array(mesh)
