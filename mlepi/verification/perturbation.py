"""Second-order shifts (Allen and Heine) against the levels of displaced supercells of graphene.

Allen, Heine, J. Phys. C 9, 2305 (1976), doi:10.1088/0022-3719/9/12/013.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.observables.linear_response.derivatives import (
    Crystal,
    build_responses,
    differentiate_twice,
)
from mlepi.physics.bands.unfolding import AtomMap, cell_major_map
from mlepi.physics.coupling.second_order import Bands, factor_covariance, sum_debye_waller, sum_fan
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene
from mlepi.verification.check import Check, statistical, within
from mlepi.verification.vibrations import ensemble_of, graphene_springs

KPOINT = np.array([0.117, 0.283, 0.0])
"""Fractional, without symmetry, so that no level of the supercell is degenerate."""
CELLS = 2
TEMPERATURE = 300.0
FRACTION = 0.05
"""λ, of the thermal amplitudes at which the Monte Carlo average is in the range of second order."""


def check_allen_heine() -> list[Check]:
    """Fan + Debye–Waller = ½ Σ σ² ∂²E/∂Q² of supercell levels = lim ⟨E(λu) − E(0)⟩/λ²."""
    model = TightBinding(orbitals="s", orthogonal=False)
    atoms = build_graphene("monolayer")
    ensemble = ensemble_of(graphene_springs(n=CELLS), TEMPERATURE)
    atom_map = cell_major_map(2, (CELLS, CELLS, 1))
    theory, own = _perturb(model, atoms, ensemble, atom_map)
    levels = _Levels(model, atoms, atom_map, own)
    curvature = _curvatures(levels, ensemble)
    n_samples = 300
    displacements = ensemble.displacements_at(
        TEMPERATURE, draw_normals(9, range(n_samples), ensemble.modes.n_supercell)
    )
    pairs = np.array([0.5 * (levels(FRACTION * u) + levels(-FRACTION * u)) for u in displacements])
    changes = (pairs - levels(np.zeros_like(displacements[0]))) / FRACTION**2
    checks = []
    for band, name in enumerate(("valence", "conduction")):
        checks.append(
            within(
                f"Allen–Heine, {name} band: Fan + Debye–Waller against curvatures",
                curvature[band],
                theory[band],
                1e-4 * abs(curvature[band]),  # steps of 0.01 Å in second derivatives of the blocks
                "eV",
            )
        )
        sigma = changes[:, band].std(ddof=1) / np.sqrt(n_samples)
        mean = changes[:, band].mean()
        checks.append(
            statistical(
                f"Allen–Heine, {name} band: Monte Carlo at λ = {FRACTION}",
                theory[band],
                mean,
                sigma,
                "eV",
            )
        )
    return checks


def _perturb(
    model: TightBinding, atoms: Atoms, ensemble: HarmonicEnsemble, atom_map: AtomMap
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both bands' static shifts by perturbation theory, and energies at rest, eV."""
    hamiltonian, overlap = (
        matrix.lay_out() for matrix in (model.hamiltonian(atoms), model.overlap(atoms))
    )
    crystal = Crystal(model, atoms, atom_map, hamiltonian, overlap, "cpu", 0.002)
    energies, states = crystal.solve(KPOINT[None])
    bands = Bands(KPOINT[None], energies, states)
    responses, _ = build_responses(crystal, lambda: None)
    fan, _ = sum_fan(crystal.solve, responses, bands, ensemble, 0.0, 0.0, lambda: None)
    factors = factor_covariance([ensemble], atom_map.supercell)
    derivatives = differentiate_twice(crystal, bands.kpoints, lambda: None)
    [debye_waller] = sum_debye_waller(bands, factors, derivatives, 1)
    return (fan + debye_waller)[0, 0], energies[0]


class _Levels:
    """The two levels of k of a displaced supercell: displacements (n_atoms, 3), Å → (2,), eV."""

    def __init__(
        self, model: TightBinding, atoms: Atoms, atom_map: AtomMap, energies: NDArray[np.float64]
    ) -> None:
        self.model, self.atoms = model, atoms.repeat(atom_map.supercell)
        self.kpoint = atom_map.fold(KPOINT)
        self.chosen = [0]
        rest = self._solve(self.atoms)
        self.chosen = [int(np.argmin(np.abs(rest - energy))) for energy in energies]

    def __call__(self, displacements: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = self.atoms.copy()
        moved.positions += displacements
        return self._solve(moved)[self.chosen]

    def _solve(self, atoms: Atoms) -> NDArray[np.float64]:
        matrices = self.model.hamiltonian(atoms), self.model.overlap(atoms)
        return np.asarray(solve_bands(*(matrix.dense(self.kpoint) for matrix in matrices)))


def _curvatures(
    levels: _Levels, ensemble: HarmonicEnsemble, step: float = 2e-3
) -> NDArray[np.float64]:
    """Return ½ Σ_ν ⟨Q_ν²⟩ ∂²E/∂Q_ν² along the axes of the covariance: (2,), eV.

    By differences of fourth order.
    """
    values, vectors = np.linalg.eigh(ensemble.covariance()[0])
    total = np.zeros(2)
    for value, vector in zip(values, vectors.T, strict=True):
        if value < 1e-12:
            continue
        direction = step * vector.reshape(-1, 3)
        found = [levels(n * direction) for n in (-2, -1, 0, 1, 2)]
        curvature = (-found[0] + 16 * found[1] - 30 * found[2] + 16 * found[3] - found[4]) / (
            12 * step**2
        )
        total += 0.5 * value * curvature
    return total
