"""Overlaps that a data set lacks come from the table of its orbitals, those that it has stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.structures import HamiltonianDataset

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def table():
    return read_overlap_table(ROOT / "data/blg_openmx/overlap_C6.0-s2p2.h5")


@pytest.fixture(scope="module")
def structure():
    return HamiltonianDataset(ROOT / "tests/references/openmx_overlaps.h5")[
        "slide_+0.000_+0.000_3.00"
    ]


def test_overlaps_of_the_table_are_those_of_the_labels(structure, table):
    bare = dataclasses.replace(structure, overlap_blocks=None)
    completed = complete_overlaps(bare, table)
    assert np.abs(completed.overlap_blocks - structure.overlap_blocks).max() < 2e-5
    assert completed.hamiltonian_blocks is structure.hamiltonian_blocks


def test_overlaps_that_exist_are_kept(structure, table):
    assert complete_overlaps(structure, table) is structure


def test_a_structure_without_hamiltonian_is_refused(structure, table):
    bare = dataclasses.replace(structure, overlap_blocks=None, edge_index=None)
    with pytest.raises(DataError, match="no Hamiltonian"):
        complete_overlaps(bare, table)
