"""Structures of the shipped data with their Hamiltonians, and overlaps from the shipped table."""

from __future__ import annotations

from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.project_files import find_file
from mlepi.structures import HamiltonianDataset

FOLDER = "data/blg_openmx"
SPLITS = {
    "hamiltonian_622": (0.6, 0.2, 0.2),
    "forces_81_09_10": (0.81, 0.09, 0.10),
    "shapes_622": (0.6, 0.2, 0.2),
    "shapes_81_09_10": (0.81, 0.09, 0.10),
}
"""Splits of the shipped data and the shares of train, val and test."""


def open_shipped():
    """The shipped data set of Hamiltonians, without overlaps."""
    return HamiltonianDataset(find_file("data", f"{FOLDER}/hamiltonians.h5"))


def shipped_labels(*names):
    """The named structures, completed with overlaps."""
    dataset = open_shipped()
    table = read_overlap_table(find_file("table", f"{FOLDER}/overlap_C6.0-s2p2.h5"))
    return [complete_overlaps(dataset[name], table) for name in names]
