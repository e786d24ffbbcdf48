"""The gap stage: band edges at chosen k-points and the gap between them, against temperature.

Edges are the peaks of the averaged unfolded spectra of the highest valence and the lowest
conduction band; of several points the smallest direct gap, of both bands at one of them, stands
beside the gap. What a supercell itself shows, the distance of its highest occupied and lowest
empty level, is reported too: it contains how folded states split and repel each other in a cell of
that size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.observables.gap.record import GapRecord
from mlepi.observables.near_k.peak_stage import PeakStage
from mlepi.observables.near_k.peaks import (
    BandPeaks,
    distance_of_edges,
    find_edges,
    name_points,
    place_peaks,
    smallest_direct_distance,
)
from mlepi.pipeline.ensemble import Ensemble, SampleKey
from mlepi.pipeline.sampled_stage import Part
from mlepi.pipeline.settings import Settings
from mlepi.results.quantities import half_interval


@dataclass(frozen=True, kw_only=True)
class GapStage(PeakStage):
    """Band edges and gap; see ``conf/stage/gap.yaml``, and ``PeakStage`` for what it inherits.

    Attributes:
        kpoints: names of special points or fractional coordinates; None takes the edges of the
            undisplaced crystal on ``mesh``.
        mesh: k-points among which they are looked for.
        align: "none", or "mean_potential" to remove rigid shifts of H between samples.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "gap"
    record: ClassVar[type] = GapRecord
    targets: ClassVar[tuple[str, ...]] = ("gap", "gap_change")
    uneven: ClassVar[bool] = True

    kpoints: Sequence[str | Sequence[float]] | None
    mesh: Sequence[int]
    align: str

    @property
    def alignment(self) -> str:
        """What the energies of a sample are relative to."""
        return self.align

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {**self.sample_inputs(settings), **self.peaks.inputs()}

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        places = (
            [int(n) for n in self.mesh]
            if self.kpoints is None
            else [k if isinstance(k, str) else list(k) for k in self.kpoints]
        )
        return {
            **self.peaks.sample_inputs(),
            "kpoints": places,
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> BandPeaks:
        """Find the edges of the undisplaced crystal and place the energy windows."""
        kpoints = (
            find_edges(ensemble.equilibrium, self.mesh, self.valence_electrons)
            if self.kpoints is None
            else name_points(ensemble.equilibrium.atoms, self.kpoints, "stage.gap.kpoints")
        )
        return place_peaks(self.peaks, ensemble, kpoints)

    def finish(
        self,
        prepared: BandPeaks,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> GapRecord:
        """Average the spectra and take the distance of their peaks."""
        averages = prepared.average(ensemble, results)
        energies, resampled = averages.energies(), averages.resampled()
        gaps, resampled_gaps = distance_of_edges(energies), distance_of_edges(resampled)
        edges, edge_errors = averages.own_edges()
        direct: dict[str, Any] = {}
        if len(prepared.equilibrium) > 1:
            direct = {
                "equilibrium_direct_gap": float(smallest_direct_distance(prepared.equilibrium)),
                "direct_gaps": smallest_direct_distance(energies),
                "direct_gap_errors": averages.errors(smallest_direct_distance(resampled)),
            }
        return GapRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            reference=prepared.reference,
            align=self.peaks.align,
            peak_width=self.peaks.peak_width,
            kpoints=prepared.windows[0].kpoints,
            equilibrium=prepared.equilibrium,
            energies=self.peaks.energies,
            centres=prepared.centres,
            spectral_functions=averages.spectra.average(),
            band_energies=energies,
            band_errors=averages.errors(resampled),
            equilibrium_gap=float(distance_of_edges(prepared.equilibrium)),
            gaps=gaps,
            gap_errors=averages.errors(resampled_gaps),
            gap_changes=gaps - gaps[0],
            gap_change_errors=averages.errors(resampled_gaps - resampled_gaps[:, :1]),
            supercell_edges=edges,
            supercell_edge_errors=edge_errors,
            degrees_of_freedom=averages.degrees_of_freedom,
            pseudo_gaps=averages.pseudo_gaps(),
            **direct,
        )

    def summarize(self, record: GapRecord) -> str:
        """Say in a few words what was found."""
        error = half_interval(record, "gap_errors")[-1]
        if record.equilibrium_gap < NO_GAP:
            return (
                "no gap: valence and conduction band of the undisplaced crystal "
                f"{describe_overlap(record)}; {len(record.kpoints)} k-points, "
                f"{record.n_samples} samples"
            )
        own = record.supercell_edges[-1, 2]
        word = f"own {1e3 * own:.0f}" if np.isfinite(own) else "own beyond the energy window"
        return (
            f"gap {1e3 * record.equilibrium_gap:.0f} → "
            f"{1e3 * record.gaps[-1]:.0f}±{1e3 * error:.0f} meV at "
            f"{record.temperatures[-1]:g} K (spectral peaks; supercells' {word}), "
            f"{describe_direct(record)}"
            f"{len(record.kpoints)} k-points, {record.n_samples} samples of "
            f"{'×'.join(str(n) for n in record.supercell)} cells"
        )

    @staticmethod
    def doubts(record: GapRecord) -> list[str]:
        """Tell of a material without a gap, and of a gap that closes."""
        if record.equilibrium_gap < NO_GAP:
            return [
                Doubt(
                    "This material has no gap: its valence and conduction band "
                    f"{describe_overlap(record)}.",
                    "What stands under `gap` is the distance of two peaks and no gap.",
                    "Ask for another quantity, such as stage=fermi_velocity.",
                    "serious",
                )
            ]
        closed = [
            f"{t:g} K" for t, gap in zip(record.temperatures, record.gaps, strict=True) if gap <= 0
        ]
        return [Doubt(f"the gap has closed at {', '.join(closed)}.")] if closed else []

    def error_bars(self, record: GapRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of the gap and of its change from the first temperature, eV."""
        names = {"gap": "gap_errors", "gap_change": "gap_change_errors"}
        return {target: half_interval(record, name) for target, name in names.items()}

    def target_values(self, record: GapRecord) -> dict[str, NDArray[np.float64]]:
        """Return the gap and its change from the first temperature, eV."""
        return {"gap": record.gaps, "gap_change": record.gap_changes}

    def contributions(self, record: GapRecord) -> dict[str, NDArray[np.float64]]:
        """Return the pseudo-values of the gap and of its change, eV."""
        gaps = record.pseudo_gaps
        return {"gap": gaps, "gap_change": gaps - gaps[:, :1]}


NO_GAP = 1e-3
"""eV; a smaller distance of the undisplaced bands is that of a metal or semimetal."""


def describe_direct(record: GapRecord) -> str:
    """Say what the smallest direct gap does, with a comma; nothing where it is the gap itself."""
    if not record.direct_gaps.size:
        return ""
    error = half_interval(record, "direct_gap_errors")[-1]
    return (
        f"direct {1e3 * record.equilibrium_direct_gap:.0f} → "
        f"{1e3 * record.direct_gaps[-1]:.0f}±{1e3 * error:.0f} meV, "
    )


def describe_overlap(record: GapRecord) -> str:
    """Say how the bands of a crystal without a gap meet."""
    overlap = -1e3 * record.equilibrium_gap
    return f"overlap by {overlap:.0f} meV" if overlap > 1e3 * NO_GAP else "touch"
