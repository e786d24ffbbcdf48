"""The linear_response stage.

Second-order perturbation theory of the low bands near K, from derivatives of H and S.

Beside the average over displaced supercells it tells which part of a shift is second order in the
displacements, which is beyond, and what the phonon energies add that every average over resting
atoms leaves out. With the wave vectors of the supercell it is the small-amplitude limit of that
average; a denser mesh shows what the size of the supercell does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.observables.near_k.velocity_estimates import VelocityFit
from mlepi.observables.second_order import (
    Crystal,
    build_responses,
    choose_bands,
    differentiate_twice,
)
from mlepi.physics.bands.velocities import DISPERSIONS, points_inside
from mlepi.physics.coupling.linear_response import BlockResponses
from mlepi.physics.coupling.mode_interpolation import mesh_ensemble
from mlepi.physics.coupling.second_order import Bands, factor_covariance, sum_debye_waller, sum_fan
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.pipeline.hamiltonian import HamiltonianStage
from mlepi.pipeline.sampling import SamplingStage
from mlepi.results.linear_response import LinearResponseRecord, SecondOrderRecord

if TYPE_CHECKING:
    from mlepi.pipeline.run import Run


class LinearResponseStage:
    """Fan and Debye–Waller shifts and v_F; see ``conf/stage/settings/linear_response.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        distances: Å⁻¹, |k − K|; those inside the window are used.
        velocity_window: Å⁻¹.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones
            (hyperbola).
        broadening: η, eV.
        chemical_potential: eV, relative to the Dirac energy.
        mesh: wave vectors of phonons for the interpolated sums; None leaves them out.
        step: Å, of central differences, for electron models that do not differentiate themselves.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "linear_response"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "hamiltonian")
    record: ClassVar[type] = LinearResponseRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        distances: Sequence[float],
        velocity_window: Sequence[float],
        dispersion: str,
        split_off_bands: bool,
        broadening: float,
        chemical_potential: float,
        mesh: Sequence[int] | None,
        step: float,
    ) -> None:
        if not broadening > 0 or not step > 0:
            raise ConfigError(
                message(
                    "stage.linear_response",
                    f"broadening {broadening} eV, step {step} Å",
                    "both positive",
                    "Use 0.05 eV and 0.01 Å: states of the discrete sums may be degenerate.",
                )
            )
        if dispersion not in DISPERSIONS:
            raise ConfigError(
                message(
                    "stage.linear_response.dispersion",
                    repr(dispersion),
                    f"one of {list(DISPERSIONS)}",
                    "Choose one of them.",
                )
            )
        if mesh is not None and (len(mesh) != 3 or min(mesh) < 1):
            raise ConfigError(
                message(
                    "stage.linear_response.mesh",
                    f"{list(mesh)}",
                    "null or three positive integers",
                    "Use [24, 24, 1].",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.distances = tuple(sorted(float(d) for d in distances))
        self.fit = VelocityFit(
            (float(velocity_window[0]), float(velocity_window[1])), dispersion, 0, 0, 0
        )
        self.split_off_bands = split_off_bands and dispersion == "hyperbola"
        self.broadening, self.chemical_potential, self.step = broadening, chemical_potential, step
        self.mesh = None if mesh is None else (int(mesh[0]), int(mesh[1]), int(mesh[2]))

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return all settings with the network, the supercell and the distribution.

        Not the samples, of which it needs none.
        """
        sampling, hamiltonian = _stages(run)
        return {
            "network": dict(hamiltonian.network(run)),
            "distribution": [
                sampling.statistics,
                sampling.imaginary,
                sampling.floor_frequency,
                sampling.project_out,
            ],
            "distances": list(self.distances),
            "fit": [*self.fit.window, self.fit.dispersion, self.split_off_bands],
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "denominators": [self.broadening, self.chemical_potential],
            "mesh": None if self.mesh is None else list(self.mesh),
            "step": self.step,
            "supercell": list(run.supercell),
            "temperatures": list(run.temperatures),
        }

    def compute(self, run: Run) -> LinearResponseRecord:
        """Differentiate H and S, sum over phonons, and fit the shifted bands.

        Raises:
            PhysicsError: a phonon without a positive frequency, where the sampling stage refuses
                it.
        """
        atoms, hamiltonian, overlap = run.equilibrium()
        reference = build_near_k(
            atoms, hamiltonian, overlap, run.supercell, self.distances, self.valence_electrons
        )
        points = np.flatnonzero(points_inside(np.abs(reference.distances), self.fit.window))
        n_pairs = reference.states.shape[2] // 2 if self.split_off_bands else 1
        bands = choose_bands(reference, points, np.arange(-n_pairs, n_pairs))
        crystal = Crystal(
            run.electron_model,
            atoms,
            reference.atom_map,
            hamiltonian.lay_out(),
            overlap.lay_out(),
            run.device,
            self.step,
        )
        run.line.start(len(atoms))
        responses, method = build_responses(crystal, run.line.advance)
        force_constants = run.read("phonon").build_force_constants()
        own = _stages(run)[0].ensemble(run, compute_modes(force_constants))
        ensembles = [own]
        if self.mesh is not None and self.mesh != own.modes.supercell:
            ensembles.append(mesh_ensemble(own, force_constants, self.mesh))
        shifts = self._shifts(run, crystal, responses, bands, ensembles, reference.centre)
        distances, energies = reference.distances[points], bands.energies - reference.centre
        at_rest = self.fit.parameters(np.abs(distances), energies)
        sums = [
            self._collect(e, *terms, distances, energies)
            for e, terms in zip(ensembles, shifts, strict=True)
        ]
        record = LinearResponseRecord(
            temperatures=np.array(own.temperatures),
            supercell=reference.atom_map.supercell,
            derivatives=method,
            translation_residual=responses.hamiltonian.translation_residual(),
            border_share=responses.hamiltonian.border_share(),
            broadening=self.broadening,
            chemical_potential=self.chemical_potential,
            dirac_energy=reference.centre,
            map_distances=distances,
            equilibrium_energies=energies,
            velocity_window=self.fit.window,
            dispersion=self.fit.dispersion,
            split_off_bands=self.split_off_bands,
            equilibrium_velocity=float(at_rest[0]),
            equilibrium_gamma_1=float(at_rest[1]),
            equilibrium_slope=float(at_rest[2]),
            in_supercell=sums[0],
            interpolated=sums[1] if len(sums) > 1 else None,
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def summarize(self, record: LinearResponseRecord) -> str:
        """Say in a few words what was found."""
        parts = []
        for sums in (record.in_supercell, record.interpolated):
            if sums is not None:
                static, dynamic = (
                    values[-1] / record.equilibrium_slope
                    for values in (sums.static_slopes, sums.dynamic_slopes)
                )
                parts.append(
                    f"{'×'.join(str(n) for n in sums.mesh)} wave vectors: static {static:.3f}, "
                    f"dynamic {dynamic:.3f}"
                )
        return (
            f"slope ratio at {record.temperatures[-1]:g} K to second order, {'; '.join(parts)}; "
            f"rigid shifts change H by {record.translation_residual:.0e} eV/Å; {record.derivatives}"
        )

    def _shifts(
        self,
        run: Run,
        crystal: Crystal,
        responses: BlockResponses,
        bands: Bands,
        ensembles: Sequence[HarmonicEnsemble],
        dirac_energy: float,
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
        """Return Fan, Debye–Waller and non-adiabatic shifts for every ensemble.

        (n_temperatures, n_points, n_bands), eV.
        """
        chemical_potential = dirac_energy + self.chemical_potential
        fans = []
        for ensemble in ensembles:
            run.line.start(len(ensemble.modes.qpoints))
            fans.append(
                sum_fan(
                    crystal.solve,
                    responses,
                    bands,
                    ensemble,
                    chemical_potential,
                    self.broadening,
                    run.line.advance,
                )
            )
        factors = factor_covariance(ensembles, crystal.atom_map.supercell)
        run.line.start(sum(len(factor.directions) for factor in factors))
        derivatives = differentiate_twice(crystal, bands.kpoints, run.line.advance)
        debye_waller = sum_debye_waller(bands, factors, derivatives, len(ensembles))
        return [
            (fan, second, change) for (fan, change), second in zip(fans, debye_waller, strict=True)
        ]

    def _collect(
        self,
        ensemble: HarmonicEnsemble,
        fan: NDArray[np.float64],
        debye_waller: NDArray[np.float64],
        nonadiabatic: NDArray[np.float64],
        distances: NDArray[np.float64],
        energies: NDArray[np.float64],
    ) -> SecondOrderRecord:
        """Fit the shifted bands."""

        def fitted(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.array(
                [self.fit.parameters(np.abs(distances), energies + shift) for shift in shifts]
            ).T

        static, dynamic = fitted(fan + debye_waller), fitted(fan + debye_waller + nonadiabatic)
        slope = self.fit.parameters(np.abs(distances), energies)[2]
        resting = ~np.isfinite(ensemble.frequencies) & ~ensemble.modes.translations
        return SecondOrderRecord(
            mesh=ensemble.modes.supercell,
            n_resting_modes=int(resting.sum()),
            mean_square_displacements=ensemble.mean_square_displacements().sum(axis=2).mean(axis=1),
            fan=fan,
            debye_waller=debye_waller,
            nonadiabatic=nonadiabatic,
            static_velocities=static[0],
            static_gamma_1=static[1],
            static_slopes=static[2],
            dynamic_velocities=dynamic[0],
            dynamic_gamma_1=dynamic[1],
            dynamic_slopes=dynamic[2],
            fan_slopes=fitted(fan)[2] - slope,
            debye_waller_slopes=fitted(debye_waller)[2] - slope,
            nonadiabatic_slopes=fitted(nonadiabatic)[2] - slope,
        )


def _stages(run: Run) -> tuple[SamplingStage, HamiltonianStage]:
    """Return the stages that know the distribution of the displacements and the network."""
    return cast(SamplingStage, run.stages["sampling"]), cast(
        HamiltonianStage, run.stages["hamiltonian"]
    )
