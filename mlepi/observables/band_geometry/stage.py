"""The band_geometry stage.

Berry curvature, quantum metric and Berry phases of bands of the averaged Bloch Hamiltonian.

Bands of a supercell have no geometry of their own that could be averaged: folding mixes k-points at
every crossing. The averaged Bloch Hamiltonian has one. The blocks of H and S of each supercell are
averaged over its primitive cells; B_k†HB_k and B_k†SB_k are then the first and zeroth moments of
its spectral function at k. The first moment, per weight of the zeroth and from the sample's own
energy zero, is averaged over the samples (``averaged_blocks``). It holds the Debye–Waller effect of
all orders; transitions to other k-points and back (Fan) enter with the second moment and are not in
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.band_geometry.averaged_blocks import average_ensemble, average_sample
from mlepi.observables.band_geometry.primitive_geometry import (
    Places,
    PrimitiveGeometry,
    prepare_geometry,
)
from mlepi.observables.band_geometry.record import BandGeometryRecord
from mlepi.observables.near_k.reference_bands import sort_distances
from mlepi.observables.stage_settings import describe_electrons, read_electrons
from mlepi.physics.averages.convergence import choose_counts
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.settings import Settings

OCCUPIED = "occupied"
"""Word for all bands below the gap or the cone."""

NARROW_GAP = 0.005
"""eV; the geometry of bands that come closer to others than this somewhere is told to be doubtful
there."""


@dataclass(frozen=True, kw_only=True)
class BandGeometryStage(SampledStage[PrimitiveGeometry]):
    """Band geometry against temperature; see ``conf/stage/band_geometry.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        bands: "occupied", or bands counted from the lowest empty one; −1 is the highest occupied.
        distances: Å⁻¹, |k − K| of the points on K→Γ and K→M.
        loop_radius: Å⁻¹, of the circle around K.
        n_loop: points on the circle.
        map_radius: Å⁻¹, half side of the maps around K.
        n_map: points along each side.
        n_counts: of the convergence study.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "band_geometry"
    record: ClassVar[type] = BandGeometryRecord

    valence_electrons: Mapping[int, float]
    bands: str | Sequence[int]
    distances: Sequence[float]
    loop_radius: float
    n_loop: int
    map_radius: float
    n_map: int
    n_counts: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        bands = self.bands
        if (isinstance(bands, str) and bands != OCCUPIED) or len(bands) == 0:
            raise ConfigError(
                message(
                    "stage.band_geometry.bands",
                    f"{bands!r}",
                    f"{OCCUPIED} or a list such as [-1]",
                    "Choose the bands.",
                )
            )
        if self.loop_radius <= 0 or self.map_radius <= 0 or self.n_loop < 3 or self.n_map < 2:
            raise ConfigError(
                message(
                    "stage.band_geometry",
                    f"loop_radius {self.loop_radius}, n_loop {self.n_loop}, "
                    f"map_radius {self.map_radius}, n_map {self.n_map}",
                    "radii > 0 in 1/Å, at least 3 points on the circle and 2 along a map",
                    "Enlarge what is below that.",
                )
            )
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        if not isinstance(bands, str):
            object.__setattr__(self, "bands", tuple(sorted({int(band) for band in bands})))
        object.__setattr__(self, "distances", sort_distances(self.name, self.distances))

    @property
    def map_steps(self) -> NDArray[np.float64]:
        """(n_map,) Å⁻¹, k_x − K_x and k_y − K_y of the maps."""
        return np.linspace(-self.map_radius, self.map_radius, self.n_map)

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(settings),
            "valence_electrons": describe_electrons(self.valence_electrons),
            "bands": self.bands if isinstance(self.bands, str) else list(self.bands),
            "distances": list(self.distances),
            "loop": [self.loop_radius, self.n_loop],
            "map": self.map_steps.tolist(),
            "n_counts": self.n_counts,
        }

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the averaged blocks of one sample."""
        return {"supercell": list(settings.supercell)}

    def begin(self, ensemble: Ensemble) -> PrimitiveGeometry:
        """Prepare the undisplaced primitive cell."""
        places = Places(self.distances, self.loop_radius, self.n_loop, self.map_steps)
        bands = None if isinstance(self.bands, str) else self.bands
        return prepare_geometry(ensemble, self.valence_electrons, bands, places)

    def evaluate(self, prepared: PrimitiveGeometry, sample: Sample) -> Part:
        """Average H and S of one displaced supercell over its primitive cells."""
        return average_sample(prepared, sample)

    def finish(
        self,
        prepared: PrimitiveGeometry,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> BandGeometryRecord:
        """Average over the samples and compute the geometry, of all blocks and without each."""
        averaged = average_ensemble(prepared, ensemble, results)
        averages = averaged.line
        at_rest = prepared.orthonormalise(prepared.build(prepared.pairs, prepared.blocks))
        equilibrium = prepared.examine(at_rest.line, at_rest.circle)
        found = averaged.examine(averages.design.weights)
        left_out = [averaged.examine(weights) for weights in averages.left_out]
        line = np.array([one.line for one in found])
        errors = averages.standard_errors(
            line, np.array([[one.line for one in row] for row in left_out])
        )
        phases = np.array([one.phase for one in found])
        others = np.array([[one.phase for one in row] for row in left_out])
        turns = np.angle(np.exp(1j * (others.reshape(-1, len(phases)) - phases)))
        shifts, spreads = averaged.zero_shifts()
        counts = choose_counts(averages.design, self.n_counts)
        running = [averaged.trace_from_first(int(count)) for count in counts]
        return BandGeometryRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            bands=prepared.bands,
            distances=prepared.signed,
            equilibrium_gaps=equilibrium.line[:, 0],
            gaps=line[..., 0],
            equilibrium_curvatures=equilibrium.line[:, 1],
            curvatures=line[..., 1],
            curvature_errors=errors[..., 1],
            equilibrium_metrics=equilibrium.line[:, 2:].reshape(-1, 2, 2),
            metrics=line[..., 2:].reshape(*line.shape[:2], 2, 2),
            metric_errors=errors[..., 2:].reshape(*line.shape[:2], 2, 2),
            loop_radius=self.loop_radius,
            equilibrium_berry_phase=equilibrium.phase,
            berry_phases=phases,
            berry_phase_errors=averages.standard_errors(np.zeros_like(phases), turns),
            map_steps=prepared.map_steps,
            equilibrium_maps=prepared.draw(at_rest.square),
            maps=averaged.draw(),
            convergence_counts=averages.n_samples[counts - 1],
            convergence_traces=np.array([mean for mean, _ in running]),
            convergence_errors=np.array([error for _, error in running]),
            degrees_of_freedom=averages.degrees_of_freedom,
            zero_shifts=shifts,
            zero_shift_spreads=spreads,
        )

    @staticmethod
    def doubts(record: BandGeometryRecord) -> list[str]:
        """Tell where chosen bands touch others."""
        gaps = np.concatenate([record.equilibrium_gaps[None], record.gaps])
        narrow = gaps.min(axis=0) < NARROW_GAP
        if not np.any(narrow):
            return []
        where = ", ".join(f"{d:g}" for d in record.distances[narrow])
        return [
            Doubt(
                f"at k − K = {where} Å⁻¹ the chosen bands come within {1e3 * gaps.min():.1f} meV "
                "of others.",
                "Curvature and metric diverge there, and follow what is left of noise and "
                "symmetry breaking.",
                "Read the numbers at other points, or choose bands that stand apart "
                "(stage.band_geometry.bands).",
            )
        ]

    def summarize(self, record: BandGeometryRecord) -> str:
        """Say in a few words what was found."""
        last = int(np.argmin(np.abs(record.distances)))
        return (
            f"tr g {record.equilibrium_traces[last]:.1f} → {record.traces[-1, last]:.1f} Å² at "
            f"k − K = {record.distances[last]:g} Å⁻¹ and {record.temperatures[-1]:g} K, "
            f"Berry phase around K {record.equilibrium_berry_phase / np.pi:.3f}π → "
            f"{record.berry_phases[-1] / np.pi:.3f}π"
        )
