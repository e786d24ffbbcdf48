"""The record of the cell_error stage: how far the numbers of a run are from an infinite cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.cell_sizes.record import OWN_UNIT
from mlepi.results import unit


@dataclass(frozen=True)
class CellErrorRecord:
    """Cell part of the errors of the quantities of a run, taken from a series of sizes.

    Attributes:
        series: name of the record of the series.
        temperatures: (n_temperatures,), of the run.
        size: N of the N × N cells of the run.
        sizes: (n_sizes,), N of the cells of the series.
        parts: stage and path of a quantity, with dots between them → (n_temperatures, …) ≥ 0,
            distance from the limit 1/N → 0, or its standard error where that is larger; NaN where
            the series does not tell.
        other_settings: stages whose settings are not those of the series: their part stays
            unmeasured.
    """

    series: str
    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    size: int = field(metadata=unit("1"))
    sizes: NDArray[np.int64] = field(metadata=unit("1"))
    parts: Mapping[str, NDArray[np.float64]] = field(metadata=unit(OWN_UNIT))
    other_settings: tuple[str, ...] = field(default=(), metadata=unit("1"))

    def describe(self) -> str:
        """Say how the parts were measured, a few words."""
        sizes = ", ".join(str(n) for n in self.sizes)
        text = f"distance from 1/N → 0 in cells of N = {sizes}"
        if self.size in self.sizes:
            return text
        if self.size > self.sizes[-1]:
            return f"{text}, that of the largest for N = {self.size}"
        return f"{text}, interpolated in 1/N for N = {self.size}"
