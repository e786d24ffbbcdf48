"""The record of the structure stage: the equilibrium structure of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class StructureRecord:
    """The equilibrium structure of a run.

    Attributes:
        atoms: one cell, with the layer of each atom.
        source: file or builder that it came from.
        relaxation: "none", "positions" or "positions_and_cell".
        n_steps: relaxation steps taken.
        energy: eV, of the phonon network; None when it was not asked.
        max_force: eV/Å, largest force on an atom in the result; None likewise.
        spacings: (n_layers − 1,), distance between the mean planes of neighbouring layers, from
            bottom to top.
        note: why this structure was chosen, in the words of the config.
    """

    atoms: Atoms
    source: str
    relaxation: str = "none"
    n_steps: int = 0
    energy: float | None = field(default=None, metadata=unit("eV"))
    max_force: float | None = field(default=None, metadata=unit("eV/Å"))
    spacings: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), metadata=unit("Å"))
    note: str = ""
