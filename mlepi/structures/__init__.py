"""Structures and data: layers, builders, bases, readers and writers, and the on-disk formats."""

from mlepi.structures.ase_files import read_forces_dataset, read_structure, write_extxyz
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset, write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.splits import make_split, read_split, write_split

__all__ = [
    "HamiltonianDataset",
    "LabelledStructure",
    "OrbitalBasis",
    "make_split",
    "read_forces_dataset",
    "read_split",
    "read_structure",
    "reverse_edges",
    "write_extxyz",
    "write_hamiltonian_dataset",
    "write_split",
]
