"""The shipped data of hexagonal boron nitride are intact, consistent, and what their card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.overlaps import read_overlap_table
from mlepi.structures import HamiltonianDataset, assign_layers, read_forces_dataset, read_split
from mlepi.structures.labelled_structure import reverse_edges
from mlepi.structures.openmx_labels import read_label_file
from mlepi.structures.splits import read_named_subsets
from mlepi.structures.validation import check_hamiltonian_labels, check_two_centre_overlap
from mlepi.units import BOHR

FOLDER = Path(__file__).parents[3] / "data" / "hbn_openmx"
LABELS = Path(__file__).parents[4] / "shared" / "data" / "openmx-hbn" / "hbn3_000.npz"


@pytest.fixture(scope="module")
def dataset():
    return HamiltonianDataset(FOLDER / "hamiltonians.h5")


@pytest.fixture(scope="module")
def table():
    return read_overlap_table(FOLDER / "overlap_B7.0-s2p2_N6.0-s2p2.h5")


def test_checksums_size_and_basis(dataset):
    dataset.verify()
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 4.5e6
    assert dataset.quantum == 2.0**-15
    assert dataset.basis.shells == {5: (0, 0, 1, 1), 7: (0, 0, 1, 1)}
    assert dataset.basis.radii == pytest.approx({5: 7.0 * BOHR, 7: 6.0 * BOHR})
    assert dataset.provenance["counts"] == {"hbn1": 1, "hbn3": 21}


def test_card_tells_the_number_of_structures(dataset):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{len(dataset)} structures" in card
    for kind, count in dataset.provenance["counts"].items():
        assert f"| `{kind}` | {count} |" in card


def test_structures_are_valid_and_files_agree(dataset, table):
    forces = {one.name: one for one in read_forces_dataset(FOLDER / "forces.extxyz")}
    assert list(forces) == list(dataset.names)
    for name in ("hbn1_ideal", "hbn3_000", "hbn3_025"):
        structure = complete_overlaps(dataset[name], table)
        check_hamiltonian_labels(dataset[name])
        check_two_centre_overlap(structure)
        reverse = reverse_edges(structure.edge_index, structure.edge_cell_shift)
        turned = structure.overlap_blocks[reverse].transpose(0, 2, 1)
        assert np.abs(turned - structure.overlap_blocks).max() < 1e-12
        assert np.array_equal(assign_layers(structure.atoms), structure.atoms.arrays["layer"])
        assert forces[name].energy == structure.energy
        assert np.abs(forces[name].forces - structure.forces).max() <= 0.5e-8 * (1 + 1e-6)


@pytest.mark.parametrize(
    ("name", "fractions"),
    [
        ("hamiltonian_622", [0.6, 0.2, 0.2]),
        ("forces_81_09_10", [0.81, 0.09, 0.10]),
        ("hamiltonian_81_09_10", [0.81, 0.09, 0.10]),
    ],
)
def test_splits_fit_the_data(dataset, name, fractions):
    split = read_split(FOLDER / "splits" / f"{name}.json", dataset.names)
    counts = np.array([len(members) for members in split.values()])
    assert np.abs(counts - np.array(fractions) * 21).max() < 1.0
    assert read_named_subsets(FOLDER / "splits" / f"{name}.json").test == {"ideal": ["hbn1_ideal"]}


def levels(dataset, table, kpoint):
    """Return the levels of the undisplaced cell less its Fermi energy, eV."""
    structure = complete_overlaps(dataset["hbn1_ideal"], table)
    offsets = dataset.basis.offsets(structure.atoms.numbers)
    index, shift = structure.edge_index, structure.edge_cell_shift
    h, s = (
        bloch_sum(blocks, index, shift, offsets, np.array([kpoint]))[0]
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    return scipy.linalg.eigvalsh(h, s) - structure.fermi_energy


def test_the_bilayer_is_an_insulator(dataset, table):
    """16 electrons fill eight bands; PBE's gap is 4 to 5 eV, and smallest around K."""
    at_k, at_gamma = (levels(dataset, table, k) for k in ((1 / 3, 2 / 3, 0.0), (0.0, 0.0, 0.0)))
    assert at_k[7] < 0.0 < at_k[8]
    assert at_k[8] - at_k[7] == pytest.approx(4.64, abs=0.01)  # as the card says
    assert at_gamma[7] < at_k[7] < at_k[8] < at_gamma[8]


@pytest.mark.skipif(not LABELS.is_file(), reason="the labels are not part of the project")
def test_overlaps_of_the_table_are_those_of_the_calculation(dataset, table):
    labels = read_label_file(LABELS, dataset.basis)
    found = complete_overlaps(dataset["hbn3_000"], table)
    row = find_pairs(*(list_pairs(s.edge_index, s.edge_cell_shift) for s in (found, labels)))
    assert len(row) == len(found.overlap_blocks)
    assert np.abs(found.overlap_blocks[row] - labels.overlap_blocks).max() < 2e-5
    difference = found.hamiltonian_blocks[row] - labels.hamiltonian_blocks
    assert np.abs(difference).max() <= 2.0**-16
