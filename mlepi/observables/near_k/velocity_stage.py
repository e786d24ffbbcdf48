"""What the stages share that fit a Fermi velocity to energies on the line through K."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlepi.observables.near_k.reference_bands import sort_distances
from mlepi.observables.near_k.velocity_fit import VelocityFit
from mlepi.observables.stage_settings import read_electrons
from mlepi.physics.bands.velocities import DISPERSIONS
from mlepi.pipeline.sampled_stage import Prepared, SampledStage
from mlepi.pipeline.stage import check_choice


@dataclass(frozen=True, kw_only=True)
class VelocityStage(SampledStage[Prepared], ABC):
    """A stage whose samples give energies near K, to which velocities are fitted.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        distances: Å⁻¹, |k − K|; 0 is K itself.
        velocity_window: Å⁻¹.
        windows: Å⁻¹, further windows in which all fits are repeated.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones
            (hyperbola).
        n_resamples: of the bootstrap.
        n_counts: of the convergence study.

    Raises:
        ConfigError: a setting without meaning.
    """

    valence_electrons: Mapping[int, float]
    distances: Sequence[float]
    velocity_window: Sequence[float]
    windows: Sequence[Sequence[float]]
    dispersion: str
    split_off_bands: bool
    n_resamples: int
    n_counts: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning, and bring the others to their types."""
        check_choice(f"stage.{self.name}.dispersion", self.dispersion, DISPERSIONS)
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        object.__setattr__(self, "distances", sort_distances(self.name, self.distances))

    @cached_property
    def fit(self) -> VelocityFit:
        """How energies become a velocity."""
        window = float(self.velocity_window[0]), float(self.velocity_window[1])
        return VelocityFit(window, self.dispersion, self.n_resamples, 0, self.n_counts)

    @cached_property
    def other_windows(self) -> tuple[tuple[float, float], ...]:
        """Å⁻¹, in which the fits are repeated."""
        return tuple((float(low), float(high)) for low, high in self.windows)

    @property
    def with_split_off(self) -> bool:
        """Whether the split-off bands are followed."""
        return self.split_off_bands and self.dispersion == "hyperbola"
