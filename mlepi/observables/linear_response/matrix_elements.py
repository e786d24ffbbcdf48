"""Electron-phonon matrix elements of a run, between chosen bands at chosen k and q."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.exports import Couplings
from mlepi.observables.linear_response.derivatives import Crystal, build_responses
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.coupling.linear_response import perturb
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.pipeline.run import Run
from mlepi.units import HBAR2_PER_AMU, PLANCK

STEP = 0.01
"""Å, of central differences, for electron models that do not differentiate themselves."""


def compute_couplings(
    run: Run,
    kpoints: NDArray[np.float64],
    qpoints: NDArray[np.float64],
    bands: tuple[int, int] | None = None,
    *,
    step: float = STEP,
    real_space: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Couplings:
    """Compute g between the states at k and k + q; conventions as in ``docs/linear_response.md``.

    Args:
        run: with records of the phonon and hamiltonian stages.
        kpoints: (n_k, 3) fractional.
        qpoints: (n_q, 3) fractional; exact where they fit into the supercell of the run.
        bands: first and last, counted from 0; None takes all.
        step: Å, of central differences, for models without derivatives.
        real_space: keep the derivatives of the blocks.
        advance: called after every atom.

    Raises:
        ConfigError: bands that there are not.
        PhysicsError: the model does not tell what the overlap owes to the orbitals on the right.
    """
    atoms, hamiltonian, overlap = run.equilibrium()
    first, last = bands or (0, hamiltonian.n_orbitals - 1)
    if not 0 <= first <= last < hamiltonian.n_orbitals:
        got, fix = f"{first} to {last}", "They are counted from 0."
        expected = f"two numbers from 0 to {hamiltonian.n_orbitals - 1}, ascending"
        raise ConfigError(message("--bands", got, expected, fix))
    supercell = run.settings.supercell
    crystal = Crystal(
        run.networks.shifted_electron(step),
        atoms,
        cell_major_map(len(atoms), supercell),
        hamiltonian.lay_out(),
        overlap.lay_out(),
        run.settings.device,
        step,
    )
    responses, method = build_responses(crystal, advance)
    chosen = slice(first, last + 1)
    energies, states = crystal.solve(kpoints)
    initial = energies[:, chosen], states[:, :, chosen]
    modes = _solve_modes(run.read("phonon").build_force_constants(), qpoints)
    masses = np.array(atoms.get_masses())
    parts: list[tuple[NDArray[Any], ...]] = []
    for q, frequencies, vectors, moving in zip(qpoints, *modes, strict=True):
        energies, states = crystal.solve(kpoints + q)
        final = energies[:, chosen], states[:, :, chosen]
        found = perturb(responses, q, kpoints, initial, final)
        amplitudes = _find_amplitudes(frequencies, moving)[:, None, None]
        along = np.array([each.along(vectors, masses).coupling() for each in found])
        direct = np.array([each.coupling() for each in found])
        adiabatic = np.array([each.adiabatic() for each in found])
        parts.append((final[0], along * amplitudes, direct, adiabatic))
    final_energies, coupling, direct, adiabatic = (np.array(x) for x in zip(*parts, strict=True))
    return Couplings(
        atoms=atoms,
        supercell=supercell,
        basis=hamiltonian.basis,
        first_band=first,
        kpoints=kpoints,
        qpoints=qpoints,
        initial_energies=initial[0],
        final_energies=final_energies,
        frequencies=modes[0],
        eigenvectors=modes[1],
        moving=modes[2],
        coupling=coupling,
        deformation_potential=direct,
        adiabatic=adiabatic,
        provenance={"derivatives": method, "level_shift": run.networks.describe_shift()},
        responses=responses if real_space else None,
    )


def _find_amplitudes(
    frequencies: NDArray[np.float64], moving: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (ħ/2ω)^{1/2} of every mode, Å √amu; NaN where it does not move."""
    amplitudes = np.full(frequencies.shape, np.nan)
    amplitudes[moving] = np.sqrt(HBAR2_PER_AMU / (2.0 * PLANCK * frequencies[moving]))
    return amplitudes


def _solve_modes(
    force_constants: ForceConstants, qpoints: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.complex128], NDArray[np.bool_]]:
    """Return frequencies, eigenvectors, and which modes move, with exact translations at Γ."""
    frequencies, vectors = compute_eigenvectors(force_constants, qpoints)
    own = compute_modes(force_constants)
    gamma = np.all(np.abs(qpoints - np.round(qpoints)) < 1e-9, axis=1)
    frequencies[gamma], vectors[gamma] = own.frequencies[0], own.eigenvectors[0]
    return frequencies, vectors, frequencies > 0.0
