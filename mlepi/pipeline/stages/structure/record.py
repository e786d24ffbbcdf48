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
        max_force: eV/Å, largest force on an atom in the result, with what holds the layers; None
            likewise.
        spacings: (n_layers − 1,), distance between the mean planes of neighbouring layers, from
            bottom to top.
        note: why this structure was chosen, in the words of the config.
        held_layers: whether the mean height of every layer was kept.
        residual_force: eV/Å, largest force on an atom in the directions that could relax; None
            where the network was not asked.
        layer_forces: (n_layers,), eV/Å per atom, mean force on the atoms of a layer along the
            stacking direction, from bottom to top; empty where the network was not asked.
        in_plane_stress: (3,), eV/Å², xx, yy and xy of the stress times the height of the cell, x
            along the first lattice vector, negative when compressed; empty likewise, NaN where
            there is no stress.
    """

    atoms: Atoms
    source: str
    relaxation: str = "none"
    n_steps: int = 0
    energy: float | None = field(default=None, metadata=unit("eV"))
    max_force: float | None = field(default=None, metadata=unit("eV/Å"))
    spacings: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), metadata=unit("Å"))
    note: str = ""
    held_layers: bool = False
    residual_force: float | None = field(default=None, metadata=unit("eV/Å"))
    layer_forces: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("eV/Å")
    )
    in_plane_stress: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("eV/Å²")
    )


def format_layer_forces(record: StructureRecord) -> str:
    """Write the force on every layer, eV/Å per atom, from bottom to top."""
    return "/".join(f"{force:+.4f}" for force in record.layer_forces)
