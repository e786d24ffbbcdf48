"""Potentials of layers: what they add to the H of labels, and files that are none."""

import json

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.layer_charges import add_layer_potentials
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.project_files import find_file
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.layer_potentials import add_to_labels, read_layer_potentials

DATA = "data/blg_openmx"


@pytest.fixture(scope="module")
def labels():
    dataset = HamiltonianDataset(find_file("data", f"{DATA}/hamiltonians.h5"))
    table = read_overlap_table(find_file("data", f"{DATA}/overlap_C6.0-s2p2.h5"))
    return complete_overlaps(dataset["twist21_06"], table)


def test_labels_get_what_matrices_get(labels):
    potentials = np.array([0.02, -0.03])
    raised = add_to_labels(labels, {"twist21_06": potentials})
    hamiltonian, overlap = block_matrices(labels)
    layers = labels.atoms.arrays["layer"]
    wanted = add_layer_potentials(hamiltonian, overlap, layers, potentials)
    kpoint = np.array([0.1, 0.2, 0.0])
    np.testing.assert_allclose(
        block_matrices(raised)[0].dense(kpoint), wanted.dense(kpoint), atol=1e-6
    )
    # the same for both layers is a shift of all levels
    same = add_to_labels(labels, {"twist21_06": np.full(2, 0.05)})
    shift = same.hamiltonian_blocks - labels.hamiltonian_blocks
    np.testing.assert_allclose(shift, 0.05 * labels.overlap_blocks, atol=1e-6)


def test_the_shipped_file_is_read():
    potentials = read_layer_potentials(find_file("data", f"{DATA}/layer_potentials.json"))
    assert len(potentials) > 30
    assert potentials["twist21_06"].shape == (2,)


def test_a_structure_without_potentials_is_refused(labels):
    with pytest.raises(DataError, match=r"'twist21_06': got none; expected one for each of its 2"):
        add_to_labels(labels, {"other": np.zeros(2)})
    with pytest.raises(DataError, match="got those of 3 layers"):
        add_to_labels(labels, {"twist21_06": np.zeros(3)})


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        json.dumps({"potentials": {}}),
        json.dumps({"structures": {"a": {"potentials": "much"}}}),
        json.dumps({"structures": {"a": {"potentials": [1.0, float("nan")]}}}),
        json.dumps({"structures": ["a"]}),
    ],
)
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "potentials.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"expected \{\"structures\""):
        read_layer_potentials(file)
