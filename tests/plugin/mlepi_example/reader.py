"""A reader: structures with H and S in a .npz file, in internal units and orbital order."""

from pathlib import Path

import numpy as np
from ase import Atoms

from mlepi.structures import LabelledStructure, OrbitalBasis


def read(path: Path, name: str) -> LabelledStructure:
    """Read one structure; both directions of every pair are in the file."""
    with np.load(path, allow_pickle=False) as file:
        atoms = Atoms(file["numbers"], file["positions"], cell=file["cell"], pbc=True)
        element = int(file["numbers"][0])
        return LabelledStructure(
            name=name,
            atoms=atoms,
            basis=OrbitalBasis(
                shells={element: tuple(file["shells"])},
                radii={element: float(file["radius"])},
                names={element: "example"},
            ),
            edge_index=file["edge_index"],
            edge_cell_shift=file["edge_cell_shift"],
            hamiltonian_blocks=file["hamiltonian_blocks"],
            overlap_blocks=file["overlap_blocks"],
        )
