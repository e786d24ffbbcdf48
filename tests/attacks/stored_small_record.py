"""The smallest record with an array, a text and a number."""

from dataclasses import dataclass, field

import numpy as np

from mlepi.results import unit


@dataclass(frozen=True)
class Numbers:
    """What a stage might have found."""

    values: np.ndarray = field(metadata=unit("eV"))
    word: str
    share: float
