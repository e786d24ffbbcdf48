"""The effective_mass stage.

Curvature of the edge bands at a k-point, from unfolded peaks along a line through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.near_k.peaks import BandPeaks, PeakSettings, name_points, place_peaks
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.bands import lattice
from mlepi.physics.bands.velocities import effective_masses
from mlepi.pipeline.stage import SampleKey
from mlepi.results.effective_mass import EffectiveMassRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run


class EffectiveMassStage:
    """Effective masses of the highest valence and the lowest conduction band.

    See ``conf/stage/settings/effective_mass.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        kpoint: name of a special point, or fractional coordinates.
        toward: the same, another point of the line.
        distances: Å⁻¹ from the k-point, to both sides.
        order: 2 or 4, of the even polynomial in the distance.
        energy_window: eV, half width around the middle of the gap, or around either edge of a wide
            one.
        energy_step: eV.
        peak_width: eV, standard deviation of the lines whose maxima are taken.
        n_resamples: of the bootstrap.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "effective_mass"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = EffectiveMassRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        kpoint: str | Sequence[float],
        toward: str | Sequence[float],
        distances: Sequence[float],
        order: int,
        energy_window: float,
        energy_step: float,
        peak_width: float,
        n_resamples: int,
    ) -> None:
        electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.settings = PeakSettings(
            self.name, electrons, energy_window, energy_step, peak_width, "none", n_resamples
        )
        if (
            order not in (2, 4)
            or min(distances) < 0
            or len(set(distances)) != len(distances)
            or len(distances) <= order // 2
        ):
            raise ConfigError(
                message(
                    "stage.effective_mass",
                    f"order {order} with distances {list(distances)}",
                    "order 2 with at least two, or order 4 with at least three different "
                    "distances ≥ 0, in 1/Å",
                    "Add distances, or use order 2.",
                )
            )
        self.kpoint, self.toward, self.order = kpoint, toward, order
        self.distances = tuple(sorted(float(d) for d in distances))
        self._peaks: BandPeaks | None = None
        self._device = "cpu"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {**self.sample_inputs(run), **self.settings.inputs(), "order": self.order}

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        line = [
            point if isinstance(point, str) else list(point) for point in (self.kpoint, self.toward)
        ]
        return {
            **self.settings.sample_inputs(),
            "line": [*line, list(self.distances)],
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Place the k-points and solve the equilibrium there."""
        equilibrium = run.equilibrium()
        self._device = run.device
        kpoint, toward = name_points(
            equilibrium[0], [self.kpoint, self.toward], "stage.effective_mass.kpoint"
        )
        signed = np.array([-d for d in reversed(self.distances) if d > 0] + list(self.distances))
        kpoints = lattice.build_line(kpoint, toward, signed, equilibrium[0].cell.array)
        peaks = place_peaks(self.settings, equilibrium, run.supercell, kpoints, signed)
        check_samples(
            run.n_samples,
            equilibrium[0],
            run.displaced(SampleKey(0, run.temperatures[0])),
            peaks.windows[0].atom_map,
        )
        self._peaks = peaks

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Solve one displaced supercell near its edges and unfold it."""
        return self._require_peaks().evaluate(hamiltonian, overlap, self._device)

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> EffectiveMassRecord:
        """Average the spectra and fit the curvature of their peaks."""
        if self._peaks is None:
            self.begin(run)
        peaks = self._require_peaks()
        reference = peaks.windows[0]
        averages = peaks.average(
            run.design,
            run.temperatures,
            ((key.sample, key.temperature, arrays) for key, arrays in results),
        )
        energies, resampled = averages.energies(), averages.resampled()
        masses, some = (
            effective_masses(reference.distances, found, self.order)
            for found in (energies, resampled)
        )
        kpoint, toward = name_points(
            run.equilibrium()[0], [self.kpoint, self.toward], "stage.effective_mass.kpoint"
        )
        return EffectiveMassRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=reference.atom_map.supercell,
            kpoint=kpoint,
            toward=toward,
            order=self.order,
            peak_width=self.settings.peak_width,
            distances=reference.distances,
            equilibrium=peaks.equilibrium,
            band_energies=energies,
            band_errors=resampled.std(axis=0),
            equilibrium_masses=effective_masses(reference.distances, peaks.equilibrium, self.order),
            masses=masses,
            mass_errors=some.std(axis=0),
            mass_changes=masses - masses[0],
            mass_change_errors=(some - some[:, :1]).std(axis=0),
        )

    def summarize(self, record: EffectiveMassRecord) -> str:
        """Say in a few words what was found."""
        parts = [
            f"{name} {record.equilibrium_masses[band]:.4f} → "
            f"{record.masses[-1, band]:.4f}±{record.mass_errors[-1, band]:.4f}"
            for band, name in enumerate(("valence", "conduction"))
        ]
        return (
            f"{', '.join(parts)} m_e at {record.temperatures[-1]:g} K; {record.n_samples} samples "
            "of "
            f"{'×'.join(str(n) for n in record.supercell)} cells"
        )

    def _require_peaks(self) -> BandPeaks:
        if self._peaks is None:
            where = "effective_mass stage"
            raise PhysicsError(
                message(
                    where,
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._peaks
