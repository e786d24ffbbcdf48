"""Ghost states of displaced supercells: counted in every sample, and never averaged.

A ghost is a state further below the lowest level of the crystal at rest than any thermal spread,
``stage.hamiltonian.ghost_margin``. The inertia of H − ES counts them exactly (Sylvester), at Γ and
at a general k-point, for H as it was predicted and for H with the level shift. A snapshot that
still has one with the shift is left out at every temperature, so that temperatures keep their
common random numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.followed_states import factorise
from mlepi.physics.eigenstates.shift_invert import count_states_below

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.ensemble import Sample, SampleKey

KEY = "ghost_counts"
"""Array of the runner in the part of every sample: (2,) int, ghosts without and with the shift."""

KPOINTS = ((0.0, 0.0, 0.0), (0.137, 0.271, 0.389))
"""Fractional, of a sample: where its ghosts are counted; the larger number is kept."""

MARGIN = 0.5
"""eV; single precision moves a ghost by 0.01 eV where an eigenvalue of S is 1e-3, by less than this
down to 2e-5."""

PROVENANCE = "ghosts"
"""Entry of the provenance of a record: ``GhostSummary`` as plain data."""


@dataclass(frozen=True)
class GhostSummary:
    """What the ghost states of the samples of one record were.

    Attributes:
        n_samples: snapshots that were looked at.
        temperatures: K.
        plain: samples with a ghost per temperature, H as predicted.
        shifted: the same with the level shift; equal to ``plain`` without one.
        unknown: samples whose ghosts were not counted, by an older version.
        left_out: snapshots that no average contains.
        level_shift: parameters of the shift, None without one.
        absent: samples of snapshots that temperatures with fewer samples do not have.
    """

    n_samples: int
    temperatures: tuple[float, ...]
    plain: tuple[int, ...]
    shifted: tuple[int, ...]
    unknown: int
    left_out: tuple[int, ...]
    level_shift: Mapping[str, float] | None
    absent: int = 0

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> GhostSummary | None:
        """Read it from the provenance of a record, None where that has none."""
        stored = provenance.get(PROVENANCE)
        if stored is None:
            return None
        tuples = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(**{**stored, **tuples})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the provenance of a record."""
        return asdict(self)

    @property
    def n_counted(self) -> int:
        """Samples whose ghosts were counted, at all temperatures."""
        return self.n_samples * len(self.temperatures) - self.unknown - self.absent

    def describe(self) -> str:
        """Say in one line how many there were."""
        counted = f"{sum(self.shifted)} of {self.n_counted}"
        if self.level_shift is None:
            text = f"{counted} samples (no level shift)"
        else:
            text = f"{counted} samples with the level shift, {sum(self.plain)} without"
        return f"{text}; {self.unknown} not counted" if self.unknown else text

    def doubts(self) -> list[str]:
        """Say which snapshots were left out."""
        if not self.left_out:
            return []
        some = ", ".join(str(n) for n in self.left_out[:8])
        more = ", …" if len(self.left_out) > 8 else ""
        return [
            Doubt(
                f"{len(self.left_out)} of {self.n_samples} snapshots have ghost states (levels far "
                "below all bands, from errors of H where S is soft) and were left out of every "
                f"average, at all temperatures: {some}{more}.",
                "What such displacements do to the bands is missing in the averages.",
                "Label these snapshots and train on them too, or raise level_shift.",
            )
        ]


def lowest_level(hamiltonian: BlockMatrix, overlap: BlockMatrix) -> float:
    """Return the lowest level at Γ, eV."""
    gamma = np.zeros(3)
    return float(
        solve_bands(hamiltonian.lay_out().at(gamma), overlap.lay_out().at(gamma), subset=(0, 0))[0]
    )


def count_ghosts(sample: Sample, energy: float) -> NDArray[np.int64]:
    """Count the states below an energy: (2,) int, with H as predicted and as it is solved.

    None in an orthogonal basis, which amplifies no error of H: what lies low there lies low in H.

    Args:
        sample: one displaced supercell; one that carries its counts is not counted again.
        energy: eV.
    """
    if sample.ghosts is not None:
        return sample.ghosts
    overlap = sample.overlap.lay_out()
    overlaps = [overlap.at(np.array(kpoint)) for kpoint in KPOINTS]
    if all(np.array_equal(overlap_k, np.eye(len(overlap_k))) for overlap_k in overlaps):
        return np.zeros(2, dtype=np.int64)

    def count(hamiltonian: BlockMatrix) -> int:
        layout = hamiltonian.lay_out()
        return max(
            _count_below(layout.at(np.array(kpoint)), overlap_k, energy)
            for kpoint, overlap_k in zip(KPOINTS, overlaps, strict=True)
        )

    shifted = count(sample.hamiltonian)
    same = sample.predicted is sample.hamiltonian
    return np.array([shifted if same else count(sample.predicted), shifted])


def _count_below(hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], energy: float) -> int:
    """Count the states below an energy.

    Single precision, which takes half the time, tells that there are none below a higher energy.
    """
    factors = factorise(hamiltonian_k, overlap_k, energy + MARGIN)
    if factors is not None and factors[1] == 0:
        return 0
    return count_states_below(hamiltonian_k, overlap_k, energy)


def summarize_ghosts(
    counts: Iterable[tuple[SampleKey, NDArray[np.int64] | None]],
    temperatures: Sequence[float],
    level_shift: Mapping[str, float] | None,
    left_out: Iterable[int] = (),
) -> GhostSummary:
    """Say which snapshots have ghosts.

    Args:
        counts: sample and its counts, None where they are unknown.
        temperatures: K.
        level_shift: parameters of the shift.
        left_out: snapshots that are left out anyway.

    Raises:
        PhysicsError: no snapshot is left.
    """
    plain, shifted = dict.fromkeys(temperatures, 0), dict.fromkeys(temperatures, 0)
    snapshots, haunted, unknown, seen = set(), set(left_out), 0, 0
    for key, found in counts:
        snapshots.add(key.sample)
        seen += 1
        if found is None:
            unknown += 1
            continue
        plain[key.temperature] += int(found[0] > 0)
        shifted[key.temperature] += int(found[1] > 0)
        if found[1] > 0:
            haunted.add(key.sample)
    haunted &= snapshots
    if snapshots and haunted == snapshots:
        raise PhysicsError(
            message(
                "samples",
                f"ghost states in all {len(snapshots)} snapshots",
                "samples without them",
                "Use a network that knows such structures, or set level_shift.",
            )
        )
    return GhostSummary(
        n_samples=len(snapshots),
        temperatures=tuple(temperatures),
        plain=tuple(plain.values()),
        shifted=tuple(shifted.values()),
        unknown=unknown,
        left_out=tuple(sorted(haunted)),
        level_shift=level_shift,
        absent=len(snapshots) * len(temperatures) - seen,
    )


@dataclass(frozen=True)
class RenumberedResults:
    """The results that an average takes, without counts, snapshots numbered from 0 without gaps.

    Attributes:
        results: of all samples; may be gone through more than once.
        left_out: numbers of the snapshots that are not wanted.
    """

    results: Iterable[tuple[SampleKey, dict[str, NDArray[Any]]]]
    left_out: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[SampleKey, dict[str, NDArray[Any]]]]:
        """Yield the results one by one."""
        left_out = frozenset(self.left_out)
        omitted = np.array(sorted(left_out), dtype=np.int64)
        for key, part in self.results:
            if key.sample not in left_out:
                below = int(np.searchsorted(omitted, key.sample))
                kept = {name: array for name, array in part.items() if name != KEY}
                yield key._replace(sample=key.sample - below), kept
