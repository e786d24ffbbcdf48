"""Overlap matrices of atomic orbitals from radial two-centre tables, never by DFT."""

from mlepi.physics.overlaps.evaluate import compute_overlap_blocks, compute_overlap_blocks_torch
from mlepi.physics.overlaps.files import (
    read_overlap_table,
    tabulate_files,
    write_overlap_table,
)
from mlepi.physics.overlaps.fit import OverlapSample, fit_overlap_table
from mlepi.physics.overlaps.fit_errors import OverlapErrors, measure_overlap_errors
from mlepi.physics.overlaps.orbital_files import read_gaussians, read_ion_xml
from mlepi.physics.overlaps.orbitals import RadialOrbitals, read_pao
from mlepi.physics.overlaps.table import OverlapTable
from mlepi.physics.overlaps.tabulate import find_k_max, tabulate_overlaps

__all__ = [
    "OverlapErrors",
    "OverlapSample",
    "OverlapTable",
    "RadialOrbitals",
    "compute_overlap_blocks",
    "compute_overlap_blocks_torch",
    "find_k_max",
    "fit_overlap_table",
    "measure_overlap_errors",
    "read_gaussians",
    "read_ion_xml",
    "read_overlap_table",
    "read_pao",
    "tabulate_files",
    "tabulate_overlaps",
    "write_overlap_table",
]
