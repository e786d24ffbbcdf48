"""Spectra of states that are filled with electrons, of samples and of the undisplaced sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.bands.optics import (
    LINE_REACH,
    fermi_occupations,
    joint_density,
    sheet_area,
    sheet_conductivity,
)
from mlepi.physics.bands.velocity_matrices import derivatives_at, velocity_matrices
from mlepi.physics.eigenstates.bloch import (
    count_valence_electrons,
    fermi_energy_from_eigenvalues,
    solve_bands,
)
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, solve_many
from mlepi.pipeline.ensemble import Equilibrium
from mlepi.units import BOLTZMANN

THERMAL_REACH = 10.0
"""k_BT around the Fermi energy beyond which occupations are 0 or 1, to 5e-5."""

SAME_CHARGE = 1e-6
"""Electrons per cell; a Fermi energy that holds the right number within this needs no other."""

MAX_GHOSTS = 8
"""Ghost states of one supercell, from errors of H along small eigenvalues of S, that are looked
for; they hold no electrons."""


@dataclass(frozen=True)
class OpticalStates:
    """States near the Fermi energy at the k-points of one cell.

    Attributes:
        first: position of the first state in the complete spectrum, the same at all k.
        values: (n_k, n_states), eV.
        velocities: per k (2, n_states, n_states), ħv between them, eV·Å.
        weights: per k (n_folded, n_states), share of the states in the primitive k-points that fold
            onto theirs.
    """

    first: int
    values: NDArray[np.float64]
    velocities: list[NDArray[np.complex128]]
    weights: list[NDArray[np.float64]]


@dataclass(frozen=True)
class SpectralLines:
    """How states become spectra.

    Attributes:
        energies: (n_energies,) ħω, eV.
        width: standard deviation of the Gaussian lines, eV.
        temperature: of the electrons, K.
    """

    energies: NDArray[np.float64]
    width: float
    temperature: float

    @property
    def thermal_reach(self) -> float:
        """Distance from the Fermi energy, eV, beyond which states are full or empty."""
        return THERMAL_REACH * BOLTZMANN * self.temperature

    @property
    def reach(self) -> float:
        """Half width of the energy window of all states with a part in the spectrum, eV."""
        return float(self.energies[-1]) + LINE_REACH * self.width + self.thermal_reach

    def find_fermi_energy(
        self,
        eigenvalues: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        n_electrons: float,
        expected: float,
    ) -> float:
        """Return a Fermi energy, eV, that holds the electrons.

        The expected one wherever it does, as in a gap of few k-points.
        """
        shares = np.full(len(eigenvalues), 1.0 / len(eigenvalues)) if weights is None else weights
        filled = 2.0 * float(
            shares @ fermi_occupations(eigenvalues, expected, self.temperature).sum(axis=1)
        )
        if abs(filled - n_electrons) < SAME_CHARGE:
            return expected
        return fermi_energy_from_eigenvalues(eigenvalues, shares, n_electrons, self.temperature)

    def spectra(
        self, states: OpticalStates, n_electrons: float, area: float, expected_fermi_energy: float
    ) -> dict[str, NDArray[np.float64]]:
        """Fill the states with electrons and average over k.

        A ghost state below the Fermi energy shifts the count of all others. Of the Fermi energies
        that result from 0 … ``MAX_GHOSTS`` of them, the nearest to the expected one is taken: near
        neutrality of a semimetal they are far apart.

        Returns:
            ``conductivity`` (mean of xx and yy), ``joint_density``, ``fermi_energy`` and the number
            of ``ghosts``.
        """
        pairs = 0.5 * n_electrons - states.first
        possible = range(min(MAX_GHOSTS, int(states.values.shape[1] - pairs - 0.5)) + 1)
        levels = [
            self.find_fermi_energy(states.values, None, 2.0 * (pairs + n), expected_fermi_energy)
            for n in possible
        ]
        n_ghosts = int(np.argmin(np.abs(np.array(levels) - expected_fermi_energy)))
        fermi = levels[n_ghosts]
        lines = (fermi, self.temperature, self.width, area)
        sigma = [
            sheet_conductivity(self.energies, e, v, *lines).mean(axis=0)
            for e, v in zip(states.values, states.velocities, strict=True)
        ]
        joint = [
            joint_density(self.energies, e, w, *lines)
            for e, w in zip(states.values, states.weights, strict=True)
        ]
        return {
            "conductivity": np.mean(sigma, axis=0),
            "joint_density": np.mean(joint, axis=0),
            "fermi_energy": np.array(fermi),
            "ghosts": np.array(n_ghosts),
        }


@dataclass(frozen=True)
class UndisplacedSheet:
    """The undisplaced primitive cell: its spectra at any k-points, and what folding needs.

    Attributes:
        lines: of the spectra.
        mesh: k-points that settle the Fermi energy.
        atom_map: atoms of the supercell.
        counts: (n_atoms,) int, orbitals of every atom of the primitive cell.
        n_layers: of the sheet.
        n_electrons: per primitive cell.
        area: Å², of one primitive cell, of all layers together.
        layouts: H (eV) and S, ready for Bloch sums.
        slopes: their derivatives along k_x and k_y.
        fermi_energy: eV.
    """

    lines: SpectralLines
    mesh: tuple[int, ...]
    atom_map: unfolding.AtomMap
    counts: NDArray[np.int64]
    n_layers: int
    n_electrons: float
    area: float
    layouts: tuple[DenseBlocks, DenseBlocks]
    slopes: tuple[tuple[DenseBlocks, ...], ...]
    fermi_energy: float

    @cached_property
    def dense_response(self) -> dict[str, NDArray[np.float64]]:
        """What ``response`` gives on the whole mesh."""
        return self.response(*lattice.build_k_mesh(self.mesh))

    def count_states(self, kpoints: NDArray[np.float64]) -> int:
        """Count the states of a supercell in the energy window.

        Those above or below the Fermi energy, whichever are more.

        Args:
            kpoints: (n_k, 3) fractional, of the supercell; the mean over them is taken.
        """
        distances = (
            solve_many(*self.layouts, np.concatenate([self.unfold(k) for k in kpoints]))
            - self.fermi_energy
        )
        filled, empty = (
            np.count_nonzero((sign * distances > 0) & (sign * distances < self.lines.reach))
            for sign in (-1, 1)
        )
        return -(-int(max(filled, empty)) // len(kpoints))

    def unfold(self, kpoint: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the primitive k-points that fold onto one of the supercell.

        (n_cells, 3) fractional.
        """
        repeats = np.array(self.atom_map.supercell)
        grid = np.stack(
            np.meshgrid(*[np.arange(n) for n in repeats], indexing="ij"), axis=-1
        ).reshape(-1, 3)
        return (grid + kpoint) / repeats

    def share(
        self, mapped: NDArray[Any], bloch_overlap: DenseBlocks, kpoints: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the weights of states, given as S times their vectors, in primitive k-points.

        (n_k, n_states).
        """
        overlaps = bloch_overlap.at_many(kpoints)
        components = (
            unfolding.unfold_mapped(mapped, s, self.atom_map, self.counts, k)
            for s, k in zip(overlaps, kpoints, strict=True)
        )
        return np.array([unfolding.total_weights(d) for d in components])

    def response(
        self, kpoints: NDArray[np.float64], weights: NDArray[np.float64] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Compute conductivity, joint density and Fermi energy, averaged over primitive k-points.

        Args:
            kpoints: (n_k, 3) fractional, primitive.
            weights: (n_k,), with sum 1; None weighs all equally.

        Returns:
            ``conductivity`` and ``joint_density`` (n_energies,), per layer, and ``fermi_energy``
            (), eV.
        """
        lines = self.lines
        weights = np.full(len(kpoints), 1.0 / len(kpoints)) if weights is None else weights
        values = solve_many(*self.layouts, kpoints)
        fermi = lines.find_fermi_energy(values, weights, self.n_electrons, self.fermi_energy)
        empty = np.where(values > fermi - lines.thermal_reach, values, np.inf).min(axis=1)
        filled = np.where(values < fermi + lines.thermal_reach, values, -np.inf).max(axis=1)
        sigma, joint = np.zeros_like(lines.energies), np.zeros_like(lines.energies)
        settings = (fermi, lines.temperature, lines.width, self.area)
        for k, weight in zip(
            kpoints[empty - filled < lines.reach],
            weights[empty - filled < lines.reach],
            strict=True,
        ):
            e, vectors = solve_bands(*(layout.at(k) for layout in self.layouts), vectors=True)
            near = np.abs(e - fermi) < lines.reach
            velocities = velocity_matrices(
                e[near], vectors[:, near], *(derivatives_at(slope, k) for slope in self.slopes)
            )
            sigma += weight * sheet_conductivity(
                lines.energies, e[near], velocities, *settings
            ).mean(axis=0)
            joint += weight * joint_density(
                lines.energies, e[near], np.ones((1, int(near.sum()))), *settings
            )
        return {"conductivity": sigma, "joint_density": joint, "fermi_energy": np.array(fermi)}


def prepare_sheet(
    equilibrium: Equilibrium,
    supercell: Sequence[int],
    lines: SpectralLines,
    valence_electrons: Mapping[int, float],
    mesh: Sequence[int],
) -> UndisplacedSheet:
    """Fill the undisplaced primitive cell with electrons.

    Args:
        equilibrium: structure, H (eV) and S.
        supercell: cells along each lattice vector.
        lines: of the spectra.
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        mesh: k-points that settle the Fermi energy.
    """
    atoms, hamiltonian, overlap = equilibrium
    n_layers = len(np.unique(atoms.arrays["layer"])) if "layer" in atoms.arrays else 1
    n_electrons = count_valence_electrons(hamiltonian.numbers, valence_electrons)
    layouts = hamiltonian.lay_out(), overlap.lay_out()
    kpoints, weights = lattice.build_k_mesh(mesh)
    return UndisplacedSheet(
        lines=lines,
        mesh=tuple(mesh),
        atom_map=unfolding.cell_major_map(len(atoms), supercell),
        counts=np.diff(hamiltonian.offsets),
        n_layers=n_layers,
        n_electrons=n_electrons,
        area=sheet_area(atoms.cell.array) * n_layers,
        layouts=layouts,
        slopes=tuple(
            matrix.lay_out_derivatives(atoms.cell.array, atoms.positions)
            for matrix in (hamiltonian, overlap)
        ),
        fermi_energy=fermi_energy_from_eigenvalues(
            solve_many(*layouts, kpoints), weights, n_electrons, lines.temperature
        ),
    )
