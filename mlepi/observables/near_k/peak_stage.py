"""What stages share that rest on peaks of the two edge bands at chosen k-points."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mlepi.observables.near_k.peaks import BandPeaks, PeakSettings
from mlepi.observables.stage_settings import read_electrons
from mlepi.pipeline.ensemble import Sample
from mlepi.pipeline.sampled_stage import Part, SampledStage


@dataclass(frozen=True, kw_only=True)
class PeakStage(SampledStage[BandPeaks], ABC):
    """A stage whose samples are solved near the band edges and unfolded.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        energy_window: eV, half width around the middle of the gap, or around either edge of a wide
            one.
        energy_step: eV.
        peak_width: eV, standard deviation of the lines whose maxima are taken.
        n_resamples: of the bootstrap.

    Raises:
        ConfigError: a setting without meaning.
    """

    valence_electrons: Mapping[int, float]
    energy_window: float
    energy_step: float
    peak_width: float
    n_resamples: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        _ = self.peaks

    @property
    def alignment(self) -> str:
        """What the energies of a sample are relative to, one of ``peaks.ALIGNMENTS``."""
        return "none"

    @cached_property
    def peaks(self) -> PeakSettings:
        """How peaks are found."""
        return PeakSettings(
            self.name,
            self.valence_electrons,
            self.energy_window,
            self.energy_step,
            self.peak_width,
            self.alignment,
            self.n_resamples,
        )

    def evaluate(self, prepared: BandPeaks, sample: Sample) -> Part:
        """Solve one displaced supercell near its edges and unfold it."""
        return prepared.evaluate(sample)
