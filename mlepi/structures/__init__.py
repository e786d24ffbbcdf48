"""Structures and data: layers, builders, bases, readers and writers, and the on-disk formats."""

from mlepi.structures.ase_files import read_forces_dataset, read_structure, write_extxyz
from mlepi.structures.automatic_splits import split_structures
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.builders import (
    build_boron_nitride,
    build_graphene,
    build_graphene_on_boron_nitride,
    build_molybdenum_disulphide,
    build_supercell,
    build_twisted_bilayer,
    perturb_structure,
)
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.deeph import read_deeph, write_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.layers import assign_layers, get_layers, select_intralayer
from mlepi.structures.openmx import read_openmx
from mlepi.structures.openmx_input import OpenmxSettings, write_openmx_input
from mlepi.structures.splits import (
    NamedSubsets,
    make_split,
    read_named_subsets,
    read_split,
    write_split,
)
from mlepi.structures.vasp_input import VaspSettings, write_vasp_input

__all__ = [
    "HamiltonianDataset",
    "LabelledStructure",
    "NamedSubsets",
    "OpenmxSettings",
    "OrbitalBasis",
    "VaspSettings",
    "assign_layers",
    "build_boron_nitride",
    "build_graphene",
    "build_graphene_on_boron_nitride",
    "build_molybdenum_disulphide",
    "build_supercell",
    "build_twisted_bilayer",
    "get_layers",
    "make_split",
    "perturb_structure",
    "read_deeph",
    "read_deeph_legacy",
    "read_forces_dataset",
    "read_named_subsets",
    "read_openmx",
    "read_split",
    "read_structure",
    "reverse_edges",
    "select_intralayer",
    "split_structures",
    "write_deeph",
    "write_extxyz",
    "write_hamiltonian_dataset",
    "write_openmx_input",
    "write_split",
    "write_vasp_input",
]
