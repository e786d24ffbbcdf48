"""The linear_response stage: second-order perturbation theory of the low bands near K.

Derivatives of H and S tell which part of a shift is second order in the displacements, which is
beyond, and what the phonon energies add that every average over resting atoms leaves out. With the
wave vectors of the supercell it is the small-amplitude limit of the average over displaced
supercells; a denser mesh shows what the size of the supercell does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.linear_response.derivatives import (
    Crystal,
    build_responses,
    choose_bands,
    differentiate_twice,
)
from mlepi.observables.linear_response.record import LinearResponseRecord, SecondOrderRecord
from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.observables.near_k.velocity_fit import VelocityFit
from mlepi.observables.stage_settings import describe_electrons, read_electrons
from mlepi.physics.bands.velocities import DISPERSIONS, points_inside
from mlepi.physics.coupling.mode_interpolation import mesh_ensemble
from mlepi.physics.coupling.second_order import factor_covariance, sum_debye_waller, sum_fan
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import HarmonicSampler
from mlepi.physics.vibrations.thermal import (
    HarmonicEnsemble,
    ImaginaryModes,
    ProjectedOut,
    Statistics,
)
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice

if TYPE_CHECKING:
    from mlepi.physics.coupling.linear_response import BlockResponses
    from mlepi.physics.coupling.second_order import Bands
    from mlepi.physics.vibrations.force_constants import ForceConstants

Shifts = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Fan, Debye–Waller and non-adiabatic shifts, (n_temperatures, n_points, n_bands), eV."""

SHARED_IMAGES = 0.05
"""A larger share of the derivatives at the border of the supercell is told: interpolating between
its waves is doubtful."""

SOFTER_MESH = 1.5
"""A mesh whose ⟨u²⟩ is larger than that of the supercell by more than this factor is told: long
soft waves take over."""


@dataclass(frozen=True, kw_only=True)
class LinearResponseStage(PlainStage):
    """Fan and Debye–Waller shifts and v_F; see ``conf/stage/linear_response.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        distances: Å⁻¹, |k − K|; those inside the window are used.
        velocity_window: Å⁻¹.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones
            (hyperbola).
        statistics: of the displacements, "quantum" (with zero point) or "classical".
        imaginary: modes without a positive frequency: "error", "freeze" or "floor".
        floor_frequency: THz, for "floor".
        project_out: "none", "ZA" to leave out the rigid out-of-plane waves of the whole stack of
            layers, or "interlayer_gamma" to freeze the rigid-layer modes of Γ.
        broadening: η, eV.
        chemical_potential: eV, relative to the Dirac energy.
        mesh: wave vectors of phonons for the interpolated sums; None leaves them out.
        step: Å, of central differences, for electron models that do not differentiate themselves.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "linear_response"
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "hamiltonian")
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    record: ClassVar[type] = LinearResponseRecord
    lists: ClassVar[tuple[str, ...]] = ("full",)

    valence_electrons: Mapping[int, float]
    distances: Sequence[float]
    velocity_window: Sequence[float]
    dispersion: str
    split_off_bands: bool
    statistics: Statistics
    imaginary: ImaginaryModes
    floor_frequency: float
    project_out: ProjectedOut
    broadening: float
    chemical_potential: float
    mesh: Sequence[int] | None
    step: float

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if not self.broadening > 0 or not self.step > 0:
            raise ConfigError(
                message(
                    "stage.linear_response",
                    f"broadening {self.broadening} eV, step {self.step} Å",
                    "both positive",
                    "Use 0.05 eV and 0.01 Å: states of the discrete sums may be degenerate.",
                )
            )
        check_choice("stage.linear_response.dispersion", self.dispersion, DISPERSIONS)
        if self.mesh is not None and (len(self.mesh) != 3 or min(self.mesh) < 1):
            raise ConfigError(
                message(
                    "stage.linear_response.mesh",
                    f"{list(self.mesh)}",
                    "null or three positive integers",
                    "Use [24, 24, 1].",
                )
            )
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        object.__setattr__(self, "distances", tuple(sorted(float(d) for d in self.distances)))
        if self.mesh is not None:
            object.__setattr__(self, "mesh", tuple(int(n) for n in self.mesh))

    @cached_property
    def fit(self) -> VelocityFit:
        """How bands become a velocity; nothing is resampled."""
        low, high = self.velocity_window
        return VelocityFit((float(low), float(high)), self.dispersion, 0, 0, 0)

    @property
    def fits_split_off_bands(self) -> bool:
        """Whether the split-off bands take part in the fits; only a hyperbola has them."""
        return self.split_off_bands and self.dispersion == "hyperbola"

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings with the network, the supercell and the distribution.

        Not the samples, of which it needs none.
        """
        return {
            "network": settings.describe_electron(),
            "distribution": [
                self.statistics,
                self.imaginary,
                self.floor_frequency,
                self.project_out,
            ],
            "distances": list(self.distances),
            "fit": [*self.fit.window, self.dispersion, self.fits_split_off_bands],
            "valence_electrons": describe_electrons(self.valence_electrons),
            "denominators": [self.broadening, self.chemical_potential],
            "mesh": None if self.mesh is None else list(self.mesh),
            "step": self.step,
            "supercell": list(settings.supercell),
            "temperatures": list(settings.temperatures),
        }

    def compute(self, run: Run, line: StageLine) -> LinearResponseRecord:
        """Differentiate H and S, sum over phonons, and fit the shifted bands.

        Raises:
            PhysicsError: a phonon without a positive frequency, where it is to be refused.
        """
        atoms, hamiltonian, overlap = run.equilibrium()
        settings = run.settings
        reference = build_near_k(
            atoms, hamiltonian, overlap, settings.supercell, self.distances, self.valence_electrons
        )
        points = np.flatnonzero(points_inside(np.abs(reference.distances), self.fit.window))
        n_pairs = reference.states.shape[2] // 2 if self.fits_split_off_bands else 1
        bands = choose_bands(reference, points, np.arange(-n_pairs, n_pairs))
        crystal = Crystal(
            run.networks.shifted_electron(self.step),
            atoms,
            reference.atom_map,
            hamiltonian.lay_out(),
            overlap.lay_out(),
            settings.device,
            self.step,
        )
        line.start(len(atoms))
        responses, method = build_responses(crystal, line.advance)
        ensembles = self._build_ensembles(run.read("phonon").build_force_constants(), settings)
        shifts = self._sum_shifts(line, crystal, responses, bands, ensembles, reference.centre)
        distances, energies = reference.distances[points], bands.energies - reference.centre
        sums = [
            self._collect(ensemble, terms, distances, energies)
            for ensemble, terms in zip(ensembles, shifts, strict=True)
        ]
        at_rest = self.fit.parameters(np.abs(distances), energies)
        return LinearResponseRecord(
            temperatures=np.array(ensembles[0].temperatures),
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
            dispersion=self.dispersion,
            split_off_bands=self.fits_split_off_bands,
            equilibrium_velocity=float(at_rest[0]),
            equilibrium_gamma_1=float(at_rest[1]),
            equilibrium_slope=float(at_rest[2]),
            in_supercell=sums[0],
            interpolated=sums[1] if len(sums) > 1 else None,
        )

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
                    f"{_name(sums)} wave vectors: static {static:.3f}, dynamic {dynamic:.3f}"
                )
        return (
            f"slope ratio at {record.temperatures[-1]:g} K to second order, {'; '.join(parts)}; "
            f"rigid shifts change H by {record.translation_residual:.0e} eV/Å; {record.derivatives}"
        )

    @staticmethod
    def doubts(record: LinearResponseRecord) -> list[str]:
        """Tell of poor interpolation, of modes left at rest, and of a mesh ruled by soft waves."""
        texts: list[str] = []
        cell, denser = record.in_supercell, record.interpolated
        if denser is not None and record.border_share > SHARED_IMAGES:
            texts.append(
                Doubt(
                    f"{100 * record.border_share:.0f} % of the derivatives of H lie at the border "
                    "of the supercell.",
                    "Between its wave vectors they are interpolated badly.",
                    "Take a larger supercell.",
                )
            )
        for sums in (cell, denser):
            if sums is not None and sums.n_resting_modes > 0:
                texts.append(
                    Doubt(
                        f"{sums.n_resting_modes} modes of the {_name(sums)} mesh without a "
                        "positive frequency were left at rest.",
                        "What they do to the bands is missing in the sums.",
                        "Relax the lattice, or take a larger supercell.",
                    )
                )
        if denser is not None:
            growth = denser.mean_square_displacements / cell.mean_square_displacements
            if growth.max() > SOFTER_MESH:
                texts.append(
                    Doubt(
                        f"the {_name(denser)} mesh has {growth.max():.1f} times the ⟨u²⟩ of the "
                        f"supercell at {record.temperatures[int(growth.argmax())]:g} K.",
                        "These are long flexural waves at a fixed lattice (harmonic ones grow "
                        "without limit), which rule its Debye–Waller term.",
                        "Relax the lattice, or leave them out with stage.sampling.project_out=ZA.",
                    )
                )
        return texts

    def _build_ensembles(
        self, force_constants: ForceConstants, settings: Settings
    ) -> list[HarmonicEnsemble]:
        """Return the phonons of the supercell, and those of the denser mesh if there is one."""
        # a sampler that does not draw from the distribution is only compared with its stable modes
        harmonic = isinstance(settings.sampler, HarmonicSampler)
        own = HarmonicEnsemble(
            compute_modes(force_constants),
            settings.temperatures,
            self.statistics,
            self.imaginary if harmonic else "freeze",
            self.floor_frequency,
            self.project_out,
            settings.device,
        )
        if self.mesh is None or self.mesh == own.modes.supercell:
            return [own]
        return [own, mesh_ensemble(own, force_constants, self.mesh)]

    def _sum_shifts(
        self,
        line: StageLine,
        crystal: Crystal,
        responses: BlockResponses,
        bands: Bands,
        ensembles: Sequence[HarmonicEnsemble],
        dirac_energy: float,
    ) -> list[Shifts]:
        """Return the terms of second order for every ensemble."""
        chemical_potential = dirac_energy + self.chemical_potential
        fans = []
        for ensemble in ensembles:
            line.start(len(ensemble.modes.qpoints))
            fans.append(
                sum_fan(
                    crystal.solve,
                    responses,
                    bands,
                    ensemble,
                    chemical_potential,
                    self.broadening,
                    line.advance,
                )
            )
        factors = factor_covariance(ensembles, crystal.atom_map.supercell)
        line.start(sum(len(factor.directions) for factor in factors))
        derivatives = differentiate_twice(crystal, bands.kpoints, line.advance)
        debye_waller = sum_debye_waller(bands, factors, derivatives, len(ensembles))
        return [
            (fan, second, change) for (fan, change), second in zip(fans, debye_waller, strict=True)
        ]

    def _collect(
        self,
        ensemble: HarmonicEnsemble,
        terms: Shifts,
        distances: NDArray[np.float64],
        energies: NDArray[np.float64],
    ) -> SecondOrderRecord:
        """Fit the shifted bands."""

        def fitted(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.array(
                [self.fit.parameters(np.abs(distances), energies + shift) for shift in shifts]
            ).T

        fan, debye_waller, nonadiabatic = terms
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


def _name(sums: SecondOrderRecord) -> str:
    return "×".join(str(n) for n in sums.mesh)
