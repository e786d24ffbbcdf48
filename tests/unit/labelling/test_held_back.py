"""Labels of a data set in the place of DFT."""

import numpy as np
import pytest
from toy_labels import Told, displaced, fake

from mlepi.errors import ConfigError
from mlepi.labelling import HeldBack, label_structures
from mlepi.labelling.structure_files import read_structures
from mlepi.structures import HamiltonianDataset


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle")
    label_structures(folder, displaced(3), fake(), Told())
    return folder


def held_back(folder, **given):
    files = {
        "hamiltonians": str(folder / "hamiltonians.h5"),
        "forces": str(folder / "forces.extxyz"),
        "overlap": str(folder / "overlap.h5"),
    }
    return HeldBack(**{**files, **given})


def test_labels_are_revealed_one_by_one(oracle, tmp_path):
    structures = read_structures([oracle / "forces.extxyz"])
    summary = label_structures(tmp_path, structures[1:2], held_back(oracle), Told())
    assert summary.written.names == ["b_1"]
    right, found = (HamiltonianDataset(f / "hamiltonians.h5") for f in (oracle, tmp_path))
    np.testing.assert_array_equal(found["b_1"].hamiltonian_blocks, right["b_1"].hamiltonian_blocks)
    np.testing.assert_allclose(found["b_1"].forces, right["b_1"].forces, atol=1e-8)
    assert found["b_1"].energy == right["b_1"].energy
    right.close()
    found.close()
    assert (tmp_path / "overlap.h5").is_file()


def test_what_the_set_does_not_hold_has_no_label(oracle, tmp_path):
    summary = label_structures(tmp_path, displaced(1, seed=9), held_back(oracle), Told())
    assert "one without labels" in summary.written.failed["a_0"]


def test_forces_alone(oracle, tmp_path):
    code = held_back(oracle, hamiltonians=None, overlap=None)
    summary = label_structures(tmp_path, displaced(1), code, Told())
    assert summary.written.names == ["a_0"]
    assert not (tmp_path / "hamiltonians.h5").exists()


def test_no_data_set_is_told(oracle):
    with pytest.raises(ConfigError, match=r"dft: got no data set"):
        held_back(oracle, hamiltonians=None, forces=None)
