"""K-points that are solved, kept in part files so that an interrupted run goes on.

H is real in space: k and −k have the same energies, and one of the two is solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.results import choose_part, find_parts

KPoint = tuple[float, ...]
"""Fractional coordinates of what ``fold_kpoint`` returns."""

SolvedPoint = dict[str, NDArray[Any]]
"""``energies`` (n_states,), eV, ``residuals`` (n_states,), eV, ``proven`` () and ``cpu_seconds``
(), s."""


@dataclass(frozen=True)
class SolvedPoints:
    """The part files of a run.

    Attributes:
        folder: of the files.
        stage: name of the stage.
        inputs: digest of what decides the result of one k-point.
        former_inputs: the same as files of the first format name it.
        code: fingerprint of the code that solves them.
        keep_other_code: serve results of other code too.
    """

    folder: Path
    stage: str
    inputs: str
    former_inputs: str
    code: str
    keep_other_code: bool

    def read(self) -> dict[KPoint, SolvedPoint]:
        """Return all that is solved; what belongs to other inputs or other code is forgotten."""
        found: dict[KPoint, SolvedPoint] = {}
        parts = find_parts(
            self.folder,
            self.stage,
            self.inputs,
            self.code,
            self.former_inputs,
            keep_other_code=self.keep_other_code,
        )
        for part in parts:
            usable = part.keys()  # deletes a file of other inputs, cuts off what is incomplete
            places = part.places()
            found |= {key: part.load(places[key]) for key in usable}
        return found

    def append(self, kpoint: KPoint, point: Mapping[str, NDArray[Any]]) -> None:
        """Keep a k-point that was solved."""
        choose_part(self.folder, self.stage, 0, self.inputs, self.code).append(kpoint, point)

    def forget(self) -> None:
        """Delete all that is solved."""
        for part in find_parts(self.folder, self.stage, self.inputs):
            part.path.unlink(missing_ok=True)


def fold_kpoint(kpoint: NDArray[np.float64]) -> KPoint:
    """Return the same k-point modulo the reciprocal lattice and time reversal.

    Args:
        kpoint: (3,), fractional.

    Returns:
        That of k and −k that comes first.
    """
    folded = [np.round(np.mod(np.round(sign * kpoint, 9), 1.0), 9) % 1.0 for sign in (1.0, -1.0)]
    return min(tuple(float(x) for x in k) for k in folded)
