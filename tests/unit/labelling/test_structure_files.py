"""Structures to label: names, what a file says of them, and what cannot be labelled."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import DataError, StructureError
from mlepi.labelling import read_structures
from mlepi.structures import build_graphene


def write(path, frames):
    ase.io.write(path, frames, format="extxyz")
    return path


def test_every_frame_has_a_name_and_keeps_what_the_file_says(tmp_path):
    frames = [build_graphene("AB"), build_graphene("AB")]
    frames[0].info = {"name": "first", "kind": "slide", "temperature": 300.0, "energy": 1.0}
    frames[0].set_array("layer", np.array([0, 0, 1, 1]))
    found = read_structures([write(tmp_path / "my cells.extxyz", frames)])
    assert [structure.name for structure in found] == ["first", "my_cells_00001"]
    assert found[0].notes == {"kind": "slide", "temperature": 300.0}
    assert found[0].atoms.arrays["layer"].tolist() == [0, 0, 1, 1]
    assert found[0].atoms.pbc.all()
    single = read_structures([write(tmp_path / "cell.xyz", frames[1:])])
    assert [structure.name for structure in single] == ["cell"]


def test_structures_that_cannot_be_labelled_are_refused(tmp_path):
    frame = build_graphene("monolayer")
    frame.info["name"] = "same"
    file = write(tmp_path / "twice.extxyz", [frame, frame])
    with pytest.raises(DataError, match=r"\['same'\] twice"):
        read_structures([file])
    frame.info["name"] = "../up"
    with pytest.raises(DataError, match="letters, digits"):
        read_structures([write(tmp_path / "up.extxyz", [frame])])
    with pytest.raises(StructureError, match="a cell of rank 0"):
        read_structures([write(tmp_path / "free.extxyz", [Atoms("C")])])
    close = Atoms("C2", [[0, 0, 0], [0, 0, 0.01]], cell=[5, 5, 5], pbc=True)
    with pytest.raises(StructureError, match="in one place"):
        read_structures([write(tmp_path / "close.extxyz", [close])])
    with pytest.raises(DataError, match="no such file"):
        read_structures([tmp_path / "missing.cif"])
