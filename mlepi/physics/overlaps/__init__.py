"""Overlap matrices of atomic orbitals from radial two-centre tables, never by DFT."""

from mlepi.physics.overlaps.augmented import (
    AugmentedOverlapTable,
    AugmentedPairs,
    RadialOverlaps,
    compute_augmented_blocks,
    rebuild_overlaps,
)
from mlepi.physics.overlaps.augmented_orbitals import read_augmented_orbitals
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
    "AugmentedOverlapTable",
    "AugmentedPairs",
    "OverlapErrors",
    "OverlapSample",
    "OverlapTable",
    "RadialOrbitals",
    "RadialOverlaps",
    "compute_augmented_blocks",
    "compute_overlap_blocks",
    "compute_overlap_blocks_torch",
    "find_k_max",
    "fit_overlap_table",
    "measure_overlap_errors",
    "read_augmented_orbitals",
    "read_gaussians",
    "read_ion_xml",
    "read_overlap_table",
    "read_pao",
    "rebuild_overlaps",
    "tabulate_files",
    "tabulate_overlaps",
    "write_overlap_table",
]
