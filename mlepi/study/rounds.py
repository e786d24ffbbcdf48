"""What a study remembers, its settings and finished rounds, in a file that is always whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message
from mlepi.physics.averages.error_budget import STATISTICAL, SYSTEMATIC
from mlepi.project_files import write_json
from mlepi.study.progress import Round
from mlepi.study.targets import Look
from mlepi.untrusted import read_json, reading

FILE, FORMAT = "study.json", 1


@dataclass(frozen=True)
class Finished:
    """One finished round.

    Attributes:
        n_labels: that the networks were trained and judged on.
        hours: of the study at its end.
        temperatures: K.
        values: of the target, at every temperature.
        parts: of its error budget → half widths at 68 %; NaN is written as None.
        spreads: other targets of the same run → standard deviation among the networks.
        worst: which temperature has the largest error.
        n_samples: displaced supercells per temperature, at most.
        action: what was decided.
        reason: in words.
    """

    n_labels: int
    hours: float
    temperatures: Sequence[float]
    values: Sequence[float]
    parts: Mapping[str, Sequence[float | None]]
    spreads: Mapping[str, Sequence[float]]
    worst: int
    n_samples: int
    action: str = ""
    reason: str = ""

    @classmethod
    def of(
        cls, look: Look, n_labels: int, hours: float, others: Sequence[Look], n_samples: int
    ) -> Finished:
        """Tell of a round.

        Args:
            look: at the target.
            n_labels: so far.
            hours: so far.
            others: looks at other targets.
            n_samples: displaced supercells per temperature, at most.
        """
        parts = {
            name: [float(x) if np.isfinite(x) else None for x in look.budget.part(name)]
            for name in (STATISTICAL, *SYSTEMATIC)
        }
        spreads = {one.target: one.budget.part(SYSTEMATIC[0]).tolist() for one in others}
        return cls(
            n_labels,
            hours,
            look.temperatures.tolist(),
            look.budget.values.tolist(),
            {name: sizes for name, sizes in parts.items() if any(x is not None for x in sizes)},
            spreads,
            look.worst,
            n_samples,
        )

    def to_round(self, most: float | None = None) -> Round:
        """Return what the rule of ``decide`` looks at: the temperature with the largest error.

        Args:
            most: that the statistical part counts, where more samples may be taken; None for all.
        """
        parts = {name: sizes[self.worst] for name, sizes in self.parts.items()}
        measured = {name: float(part) for name, part in parts.items() if part is not None}
        if most is not None and STATISTICAL in measured:
            measured[STATISTICAL] = min(most, measured[STATISTICAL])
        return Round(self.n_labels, measured, self.hours)


@dataclass(frozen=True)
class Memory:
    """All that a study remembers.

    Attributes:
        made_from: what decides it, as plain data.
        target: observable; empty before it was chosen.
        rounds: that are finished.
    """

    made_from: Mapping[str, Any]
    target: str = ""
    rounds: Sequence[Finished] = field(default_factory=tuple)

    def write(self, folder: Path) -> None:
        """Write it, complete or not at all."""
        write_json(folder / FILE, {"format": FORMAT, **asdict(self)})


def read_memory(folder: Path) -> Memory | None:
    """Return what a study remembers; None where there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content, fix = read_json(path), "Choose another folder, or remove it."
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(message(str(path), "a damaged file", f"format {FORMAT}", fix))
    with reading(str(path), "a study", fix):
        rounds = tuple(Finished(**each) for each in content["rounds"])
        return Memory(content["made_from"], content["target"], rounds)


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a study that was begun with other settings.

    Raises:
        DataError: they differ.
    """
    differ = [key for key in now if before.get(key) != now[key]]
    if differ:
        got = f"a study with other settings ({', '.join(differ)})"
        fix = "Choose another folder; hours, target_error and max_labels may change."
        raise DataError(message(str(folder / FILE), got, "the same", fix))
