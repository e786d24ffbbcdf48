"""What labelling a structure costs: CPU-hours by the number of atoms, measured or estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlepi.errors import DataError, message
from mlepi.labelling import LabelledSet
from mlepi.labelling.job import DONE

SPAN, FEWEST = 1.5, 3
"""Factor between the largest and the smallest structure of a set, and number of structures, from
which on the power is fitted."""
POWERS = (0.5, 4.0)
"""Between which a fitted power is believed."""


@dataclass(frozen=True)
class Cost:
    """CPU-hours = ``hours`` · (number of atoms / ``atoms``)^``power``.

    Attributes:
        atoms: of a structure.
        hours: CPU-hours that it costs.
        power: of the number of atoms.
        source: where this comes from, for a card.
    """

    atoms: float
    hours: float
    power: float
    source: str

    def estimate(self, n_atoms: int) -> float:
        """Return CPU-hours of a structure."""
        return float(self.hours * (n_atoms / self.atoms) ** self.power)

    def find_atoms(self, hours: float) -> int:
        """Return the largest number of atoms that so many CPU-hours pay for."""
        return math.floor(self.atoms * (hours / self.hours) ** (1.0 / self.power) + 1e-9)

    def describe(self) -> str:
        """Say how it was found."""
        return (
            f"{self.hours:.3g} CPU-hours for {self.atoms:.0f} atoms, growing with their number to "
            f"the power {self.power:.2g} ({self.source})"
        )


def estimate_cost(given: Sequence[float], power: float) -> Cost:
    """Take an estimate of the user.

    Args:
        given: atoms, and the CPU-hours that they cost.
        power: of the number of atoms.
    """
    return Cost(float(given[0]), float(given[1]), power, "an estimate")


def measure_cost(folder: Path, power: float, cores: int) -> Cost:
    """Measure the cost of labels that are there.

    Args:
        folder: of a set made by ``mlepi label``.
        power: of the number of atoms, where the set has structures of one size only.
        cores: that each of its calculations had.

    Returns:
        With all attempts at every structure that was labelled.

    Raises:
        DataError: the folder has no labelled structure.
    """
    jobs = [job for job in LabelledSet(folder).jobs() if job.read_state().status == DONE]
    if not jobs:
        got, fix = "no labelled structure", "Give the folder of a set by mlepi label."
        raise DataError(message(f"measured, {folder}", got, "one at least", fix))
    atoms = np.array([len(job.read_structure().atoms) for job in jobs], dtype=np.float64)
    seconds = np.array([job.read_state().seconds for job in jobs])
    hours = np.maximum(seconds, 1e-3) * cores / 3600.0
    middle = float(np.exp(np.log(atoms).mean()))
    found, how = power, "of one size: the power is given"
    if len(jobs) >= FEWEST and atoms.max() >= SPAN * atoms.min():
        fitted = float(np.polyfit(np.log(atoms), np.log(hours), 1)[0])
        how = f"whose power, {fitted:.2g}, is not believed"
        if POWERS[0] <= fitted <= POWERS[1]:
            found, how = fitted, "which give the power"
    scale = float(np.mean(hours * (middle / atoms) ** found))
    return Cost(middle, scale, found, f"{len(jobs)} structures of {folder.name}, {how}")
