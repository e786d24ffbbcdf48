"""The error bar that a run was asked for, and what it took at every temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PROVENANCE = "precision"
"""Entry of the provenance of a record: ``Precision`` as plain data."""


@dataclass(frozen=True)
class Precision:
    """How the samples of a record were chosen by the error bar of an observable.

    Attributes:
        target: name of the observable.
        wanted: half the 68 % interval that was asked for, in its unit or relative to it.
        relative: whether it is relative.
        temperatures: K.
        errors: half the 68 % interval of the record at every temperature, in the unit of the
            observable; infinite where there is none.
        values: the observable itself; empty where its stage does not tell it.
        n_samples: samples at every temperature.
        reached: whether each temperature stopped because its error was small enough.
        corrected_by: stage whose correction the values and errors contain; empty for none.
        n_cheap: samples of a cheap Hamiltonian that it takes, at every temperature.
    """

    target: str
    wanted: float
    relative: bool
    temperatures: tuple[float, ...]
    errors: tuple[float, ...]
    values: tuple[float, ...]
    n_samples: tuple[int, ...]
    reached: tuple[bool, ...]
    corrected_by: str = ""
    n_cheap: int = 0

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> Precision | None:
        """Read it from the provenance of a record, None where that has none."""
        stored = provenance.get(PROVENANCE)
        if stored is None:
            return None
        tuples = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(**{**stored, **tuples})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the provenance of a record."""
        return asdict(self)

    def write(self, error: float, place: int) -> str:
        """Write an error at a temperature as it was asked for: in per cent or in its unit.

        Args:
            error: half an interval, in the unit of the observable.
            place: number of the temperature.
        """
        if not self.relative:
            return f"{error:.3g}"
        value = abs(self.values[place])
        return f"{100.0 * error / value:.2g} %" if value > 0.0 else f"{error:.3g}"

    @property
    def asked(self) -> str:
        """The error that was asked for, in words."""
        return f"{100.0 * self.wanted:.3g} %" if self.relative else f"{self.wanted:.3g}"

    def rows(self) -> list[tuple[str, str]]:
        """Return a row per temperature: what about, and target, reached error and samples."""
        told = zip(self.temperatures, self.errors, self.n_samples, self.reached, strict=True)
        name = self.target.replace("_", " ")
        cheap = (
            f" and {self.n_cheap} cheap ones ({self.corrected_by.replace('_', ' ')})"
            if self.n_cheap
            else ""
        )
        return [
            (
                f"error bar of {name} at {temperature:g} K",
                f"± {self.write(error, place)} (68 %) from {n_samples} samples{cheap}, asked for "
                f"{self.asked}{'' if reached else ': not reached'}",
            )
            for place, (temperature, error, n_samples, reached) in enumerate(told)
        ]


def write_counts(counts: int | Sequence[int]) -> str:
    """Write numbers of samples: one where they are equal, else the smallest and the largest."""
    each = (counts,) if isinstance(counts, int) else counts
    low, high = min(each), max(each)
    return f"{low}" if low == high else f"{low}–{high}"
