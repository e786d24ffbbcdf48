"""The smallest record with a quantity that depends on temperature, and its error."""

from dataclasses import dataclass, field

import numpy as np

from mlepi.results import unit


@dataclass(frozen=True)
class Widths:
    temperatures: np.ndarray = field(metadata=unit("K"))
    widths: np.ndarray = field(metadata=unit("eV"))
    errors: np.ndarray = field(metadata=unit("eV", error_of="widths"))
    degrees_of_freedom: float = field(default=float("inf"), metadata=unit("1"))
