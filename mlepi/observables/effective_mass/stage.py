"""The effective_mass stage.

Curvature of the edge bands at a k-point, from unfolded peaks along a line through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.effective_mass.record import EffectiveMassRecord
from mlepi.observables.near_k.peak_stage import PeakStage
from mlepi.observables.near_k.peaks import BandPeaks, name_points, place_peaks
from mlepi.physics.bands import lattice
from mlepi.physics.bands.velocities import effective_masses
from mlepi.pipeline.ensemble import Ensemble, SampleKey
from mlepi.pipeline.sampled_stage import Part
from mlepi.pipeline.settings import Settings
from mlepi.results.quantities import half_interval


@dataclass(frozen=True, kw_only=True)
class EffectiveMassStage(PeakStage):
    """Effective masses of the edge bands; see ``conf/stage/effective_mass.yaml``.

    ``PeakStage`` says what it inherits.

    Attributes:
        kpoint: name of a special point, or fractional coordinates.
        toward: the same, another point of the line.
        distances: Å⁻¹ from the k-point, to both sides.
        order: 2 or 4, of the even polynomial in the distance.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "effective_mass"
    record: ClassVar[type] = EffectiveMassRecord
    uneven: ClassVar[bool] = True

    kpoint: str | Sequence[float]
    toward: str | Sequence[float]
    distances: Sequence[float]
    order: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        if (
            self.order not in (2, 4)
            or min(self.distances) < 0
            or len(set(self.distances)) != len(self.distances)
            or len(self.distances) <= self.order // 2
        ):
            raise ConfigError(
                message(
                    "stage.effective_mass",
                    f"order {self.order} with distances {list(self.distances)}",
                    "order 2 with at least two, or order 4 with at least three different "
                    "distances ≥ 0, in 1/Å",
                    "Add distances, each once and without a sign, or choose the lower order.",
                )
            )
        object.__setattr__(self, "distances", tuple(sorted(float(d) for d in self.distances)))

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {**self.sample_inputs(settings), **self.peaks.inputs(), "order": self.order}

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        line = [
            point if isinstance(point, str) else list(point) for point in (self.kpoint, self.toward)
        ]
        return {
            **self.peaks.sample_inputs(),
            "line": [*line, list(self.distances)],
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> BandPeaks:
        """Place the k-points and solve the equilibrium there."""
        kpoint, toward = self._name_ends(ensemble)
        signed = np.array([-d for d in reversed(self.distances) if d > 0] + list(self.distances))
        cell = ensemble.equilibrium.atoms.cell.array
        kpoints = lattice.build_line(kpoint, toward, signed, cell)
        return place_peaks(self.peaks, ensemble, kpoints, signed)

    def finish(
        self,
        prepared: BandPeaks,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> EffectiveMassRecord:
        """Average the spectra and fit the curvature of their peaks."""
        averages = prepared.average(ensemble, results)
        energies, resampled = averages.energies(), averages.resampled()
        distances = prepared.windows[0].distances
        masses, some = (
            effective_masses(distances, found, self.order) for found in (energies, resampled)
        )
        kpoint, toward = self._name_ends(ensemble)
        return EffectiveMassRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            kpoint=kpoint,
            toward=toward,
            order=self.order,
            peak_width=self.peaks.peak_width,
            distances=distances,
            equilibrium=prepared.equilibrium,
            band_energies=energies,
            band_errors=averages.errors(resampled),
            equilibrium_masses=effective_masses(distances, prepared.equilibrium, self.order),
            masses=masses,
            mass_errors=averages.errors(some),
            mass_changes=masses - masses[0],
            mass_change_errors=averages.errors(some - some[:, :1]),
            degrees_of_freedom=averages.degrees_of_freedom,
        )

    def summarize(self, record: EffectiveMassRecord) -> str:
        """Say in a few words what was found."""
        errors = half_interval(record, "mass_errors")[-1]
        parts = [
            f"{name} {record.equilibrium_masses[band]:.4f} → "
            f"{record.masses[-1, band]:.4f}±{errors[band]:.4f}"
            for band, name in enumerate(("valence", "conduction"))
        ]
        return (
            f"{', '.join(parts)} m_e at {record.temperatures[-1]:g} K; {record.n_samples} samples "
            f"of {'×'.join(str(n) for n in record.supercell)} cells"
        )

    def _name_ends(self, ensemble: Ensemble) -> NDArray[np.float64]:
        """Return the k-point and the other point of the line, (2, 3) fractional."""
        ends, where = [self.kpoint, self.toward], "stage.effective_mass.kpoint"
        return name_points(ensemble.equilibrium.atoms, ends, where)
