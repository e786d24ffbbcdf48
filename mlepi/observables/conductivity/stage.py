"""The conductivity stage.

Optical conductivity and joint density of states of displaced supercells by Kubo–Greenwood.

Each supercell is solved on a small k mesh whose offset runs through a low-discrepancy sequence with
the number of the sample, the same at all temperatures, so that the ensemble as a whole covers the
Brillouin zone (twist averaging; Lin, Zong and Ceperley, Phys. Rev. E 64, 016702 (2001),
doi:10.1103/PhysRevE.64.016702). The undisplaced primitive cell at the same k-points is a control
variate: its mean over all offsets is known from a dense mesh. Only states near the Fermi energy are
computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.conductivity.optical_spectra import SpectralLines, prepare_sheet
from mlepi.observables.conductivity.record import ConductivityRecord
from mlepi.observables.conductivity.supercell_states import SheetSamples, share_sheet
from mlepi.observables.stage_settings import describe_electrons, read_electrons
from mlepi.physics.averages.convergence import mean_and_error, running_means
from mlepi.physics.bands.optics import sheet_area
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.settings import Settings
from mlepi.results.quantities import half_interval
from mlepi.units import UNIVERSAL_CONDUCTIVITY

FERMI_SHIFT = 0.1
"""A larger mean shift of the Fermi energy by the displacements, eV, is told."""


@dataclass(frozen=True, kw_only=True)
class ConductivityStage(SampledStage[SheetSamples]):
    """Optical conductivity against temperature; see ``conf/stage/conductivity.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        electronic_temperature: K, of the occupations.
        mesh: k-points of every supercell.
        equilibrium_mesh: k-points of the undisplaced primitive cell.
        max_energy: eV, largest ħω.
        energy_step: eV.
        line_width: eV, standard deviation.
        window: eV, of the mean conductivity.
        n_resamples: of the bootstrap.
        n_counts: of the convergence study.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "conductivity"
    record: ClassVar[type] = ConductivityRecord
    targets: ClassVar[tuple[str, ...]] = ("optical_conductivity",)

    valence_electrons: Mapping[int, float]
    electronic_temperature: float
    mesh: Sequence[int]
    equilibrium_mesh: Sequence[int]
    max_energy: float
    energy_step: float
    line_width: float
    window: Sequence[float]
    n_resamples: int
    n_counts: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        self._check_lines()
        for key in ("mesh", "equilibrium_mesh"):
            divisions = getattr(self, key)
            if len(divisions) != 3 or min(divisions) < 1:
                raise ConfigError(
                    message(
                        f"stage.conductivity.{key}",
                        f"{list(divisions)}",
                        "three divisions ≥ 1",
                        "Give one for each lattice vector, for example [2, 2, 1].",
                    )
                )
            object.__setattr__(self, key, tuple(int(n) for n in divisions))
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        object.__setattr__(self, "window", (float(self.window[0]), float(self.window[1])))

    def _check_lines(self) -> None:
        step, width, temperature = self.energy_step, self.line_width, self.electronic_temperature
        if not 0 < step <= 0.5 * width or temperature <= 0:
            raise ConfigError(
                message(
                    "stage.conductivity",
                    f"energy_step {step}, line_width {width} eV, "
                    f"electronic_temperature {temperature} K",
                    "a step > 0 of at most half the width, and a temperature > 0",
                    "Make the step smaller or the lines wider, and the electrons warm.",
                )
            )
        if not 0 <= self.window[0] < self.window[1] <= self.max_energy:
            raise ConfigError(
                message(
                    "stage.conductivity.window",
                    f"{list(self.window)}",
                    f"two energies from 0 to {self.max_energy} eV",
                    "Narrow the window, lower energy first, or raise max_energy.",
                )
            )

    @cached_property
    def energies(self) -> NDArray[np.float64]:
        """(n_energies,) ħω, eV."""
        n_steps = round(self.max_energy / self.energy_step)
        return (np.arange(n_steps + 1) * self.energy_step).astype(np.float64)

    @property
    def lines(self) -> SpectralLines:
        """How states become spectra."""
        return SpectralLines(self.energies, self.line_width, self.electronic_temperature)

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(settings),
            "window": list(self.window),
            "bootstrap": [self.n_resamples, self.n_counts],
        }

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the spectra of one sample."""
        return {
            "valence_electrons": describe_electrons(self.valence_electrons),
            "electronic_temperature": self.electronic_temperature,
            "mesh": list(self.mesh),
            "equilibrium_mesh": list(self.equilibrium_mesh),
            "energies": [float(self.energies[-1]), len(self.energies)],
            "line_width": self.line_width,
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> SheetSamples:
        """Prepare the undisplaced cell, and find how many states the energy window holds."""
        sheet = prepare_sheet(
            ensemble.equilibrium,
            ensemble.supercell,
            self.lines,
            self.valence_electrons,
            self.equilibrium_mesh,
        )
        return share_sheet(sheet, tuple(self.mesh))

    def evaluate(self, prepared: SheetSamples, sample: Sample) -> Part:
        """Compute the spectra of one displaced supercell, and of the sheet at its k-points.

        Returns:
            ``conductivity``, ``joint_density``, ``reference_conductivity`` and
            ``reference_joint_density``, (n_energies,) each, per layer, ``fermi_shift`` (), eV, and
            ``ghosts`` (), ghost states.
        """
        sheet, reference = prepared.sheet, prepared.reference(sample.key.sample)
        area = sheet_area(sample.atoms.cell.array) * sheet.n_layers
        found = sheet.lines.spectra(
            prepared.solve(sample), prepared.n_electrons, area, sheet.fermi_energy
        )
        return {
            "conductivity": found["conductivity"],
            "joint_density": found["joint_density"],
            "reference_conductivity": reference["conductivity"],
            "reference_joint_density": reference["joint_density"],
            "fermi_shift": found["fermi_energy"] - sheet.fermi_energy,
            "ghosts": found["ghosts"],
        }

    def finish(
        self,
        prepared: SheetSamples,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> ConductivityRecord:
        """Average the samples, less what the undisplaced structure gives at their k-points."""
        found, design = _gather(results, ensemble.temperatures), ensemble.design
        rest = prepared.sheet.dense_response
        means, errors = {}, {}
        for name in ("conductivity", "joint_density"):
            changes = found[name] - found[f"reference_{name}"]
            means[name], errors[name] = mean_and_error(
                rest[name] + changes, design, self.n_resamples
            )
        inside = (self.energies >= self.window[0] - 1e-9) & (self.energies <= self.window[1] + 1e-9)
        window_means = (
            rest["conductivity"] + found["conductivity"] - found["reference_conductivity"]
        )[:, :, inside].mean(axis=2)
        mean, mean_error = mean_and_error(window_means, design, self.n_resamples)
        counts, running, running_errors = running_means(
            window_means, design, self.n_counts, self.n_resamples
        )
        return ConductivityRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            n_layers=prepared.sheet.n_layers,
            mesh=tuple(self.mesh),
            equilibrium_mesh=tuple(self.equilibrium_mesh),
            electronic_temperature=self.electronic_temperature,
            line_width=self.line_width,
            universal_conductivity=UNIVERSAL_CONDUCTIVITY,
            energies=self.energies,
            equilibrium_conductivity=rest["conductivity"],
            conductivities=means["conductivity"],
            conductivity_errors=errors["conductivity"],
            equilibrium_joint_density=rest["joint_density"],
            joint_densities=means["joint_density"],
            joint_density_errors=errors["joint_density"],
            fermi_shifts=np.tensordot(design.weights, found["fermi_shift"], axes=1),
            ghosts=np.tensordot(design.weights, found["ghosts"], axes=1),
            window=tuple(self.window),
            equilibrium_mean=float(rest["conductivity"][inside].mean()),
            means=mean,
            mean_errors=mean_error,
            convergence_counts=counts,
            convergence_means=running,
            convergence_errors=running_errors,
            degrees_of_freedom=design.degrees_of_freedom,
        )

    @staticmethod
    def doubts(record: ConductivityRecord) -> list[str]:
        """Tell drifting energy zeros and ghost states."""
        texts: list[str] = []
        shift = record.fermi_shifts[np.abs(record.fermi_shifts).argmax()]
        if abs(shift) > FERMI_SHIFT:
            texts.append(
                Doubt(
                    f"displacements move the Fermi energy by {shift:+.2f} eV on average, more than "
                    "bands do.",
                    "The energy zero of the predicted Hamiltonians drifts.",
                    "Judge the network on labelled supercells (mlepi eval).",
                )
            )
        if record.ghosts.max() > 0:
            texts.append(
                Doubt(
                    f"{record.ghosts.max():.2g} ghost states per supercell (errors of H along "
                    "small eigenvalues of S).",
                    "They were given no electrons, so that neutrality is where the undisplaced "
                    "bands have it.",
                    "See the ghost states of the samples.",
                    "note",
                )
            )
        return texts

    def summarize(self, record: ConductivityRecord) -> str:
        """Say in a few words what was found."""
        error = half_interval(record, "mean_errors")[-1]
        return (
            f"σ {record.equilibrium_mean:.3f} → "
            f"{record.means[-1]:.3f}±{error:.3f} e²/4ħ per layer at "
            f"{record.temperatures[-1]:g} K, mean over {record.window[0]:g}–{record.window[1]:g} "
            "eV; "
            f"{record.n_samples} samples of {'×'.join(str(n) for n in record.supercell)} cells"
        )

    def error_bars(self, record: ConductivityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of the mean conductivity in the window, e²/4ħ."""
        return {"optical_conductivity": half_interval(record, "mean_errors")}

    def target_values(self, record: ConductivityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the mean conductivity in the window, e²/4ħ."""
        return {"optical_conductivity": record.means}


def _gather(
    results: Iterable[tuple[SampleKey, Part]], temperatures: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Return what was found in all samples by name: (n_samples, n_temperatures, …)."""
    samples: dict[int, dict[float, Part]] = {}
    for key, part in results:
        samples.setdefault(key.sample, {})[key.temperature] = part
    rows = [[sample[t] for t in temperatures] for sample in samples.values()]
    return {name: np.array([[part[name] for part in row] for row in rows]) for name in rows[0][0]}
