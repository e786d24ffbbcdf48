"""CP2K as a program: played by a script everywhere, and run where it is installed."""

import shutil
import threading

import numpy as np
import pytest
from cp2k_files import SETTINGS, hbn, play, unpack, write_data
from toy_labels import Told

from mlepi.errors import ConfigError
from mlepi.labelling import Calculation, Cp2k, LabelledSet, label_structures
from mlepi.labelling.card import compare_labels
from mlepi.labelling.code import InterruptedCalculationError
from mlepi.labelling.structure_files import NamedStructure
from mlepi.physics.overlaps import read_overlap_table
from mlepi.predictors.electron import check_overlap_table
from mlepi.structures import HamiltonianDataset
from mlepi.structures.cp2k import read_cp2k
from mlepi.structures.cp2k_input import place_atoms

NAMED = NamedStructure("hbn", hbn(), {"kind": "pair"})


def test_a_set_is_labelled_by_the_program(tmp_path):
    """The whole way with a program that plays CP2K, the table of overlaps included."""
    code = play(tmp_path)
    folder = tmp_path / "set"
    summary = label_structures(folder, [NAMED], code, Told(), measure_noise=False)
    assert summary.written.names == ["hbn"], summary.written.failed
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    labels = read_cp2k(
        unpack(tmp_path / "recorded"), "hbn", hbn(), place_atoms(hbn()), code.build_basis([5, 7])
    )
    stored = data["hbn"]
    found = compare_labels(stored, labels)
    assert found.hamiltonian[1] < 1e-5  # float32
    assert found.overlap < 1e-7
    assert found.forces < 1e-12
    assert stored.energy == labels.energy
    assert stored.provenance["k_mesh"] == [4, 4, 1]
    assert data.basis.valence_electrons == {5: 3.0, 7: 5.0}
    check_overlap_table(data.basis, read_overlap_table(folder / "overlap.h5"))
    data.close()
    assert summary.written.overlaps.largest < 1e-5
    assert not list(folder.rglob("*.csr"))
    card = (folder / "README.md").read_text()
    assert "| basis set | SZV-MOLOPT-SR-GTH |" in card
    assert "| k-meshes | 4×4×1 (1) |" in card
    assert "| bands of H and S against the code's own, at most |" in card


def test_a_program_that_breaks_off_is_tried_twice(tmp_path):
    code = play(tmp_path, ["echo half; exit 1"])
    label_structures(tmp_path / "set", [NAMED], code, Told())
    state = LabelledSet(tmp_path / "set").job("hbn").read_state()
    assert state.status == "failed"
    assert [attempt.number for attempt in state.attempts] == [1, 2]
    assert "ends too early" in state.reason
    assert state.attempts[0].input_sha256 != state.attempts[1].input_sha256


def calculation(folder, stop):
    return Calculation("hbn", hbn(), folder, "", 1, 1, stop)


def test_a_program_that_takes_too_long_is_ended(tmp_path):
    code = play(tmp_path, ["sleep 60"])
    code._hours = 1e-5
    with pytest.raises(Exception, match="still running after 1e-05 h"):
        code.compute(calculation(tmp_path, threading.Event()))
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedCalculationError):
        code.compute(calculation(tmp_path, stop))


def test_programs_and_data_that_are_not_there_are_told(tmp_path):
    missing = Cp2k(**{**SETTINGS, "command": "no-such-cp2k"})
    with pytest.raises(ConfigError, match="'no-such-cp2k', which cannot be started"):
        missing.find_version()
    with pytest.raises(ConfigError, match="does not name a version of CP2K"):
        Cp2k(**{**SETTINGS, "command": "echo"}).find_version()
    with pytest.raises(ConfigError, match="hours=0"):
        Cp2k(**{**SETTINGS, "hours": 0})
    with pytest.raises(ConfigError, match="without BASIS_MOLOPT, GTH_POTENTIALS"):
        _ = Cp2k(**{**SETTINGS, "data_folder": str(tmp_path)}).data_folder
    given = {"data_folder": str(write_data(tmp_path))}
    with pytest.raises(ConfigError, match=r"dft.basis: .*no set"):
        Cp2k(**{**SETTINGS, **given}).build_basis([6])
    with pytest.raises(ConfigError, match=r"dft.potential: got 'X' for B.*GTH-PBE-q3"):
        Cp2k(**{**SETTINGS, **given, "potential": "X"}).build_basis([5])


@pytest.mark.skipif(shutil.which("cp2k") is None, reason="CP2K is not installed")
def test_cp2k_gives_what_was_recorded(tmp_path):
    """H, S, forces and bands of a real run; every check of a label is passed on the way."""
    code = Cp2k(**SETTINGS)
    folder = tmp_path / "set"
    summary = label_structures(folder, [NAMED], code, Told(), threads=1, keep="all")
    assert summary.written.names == ["hbn"], summary.written.failed
    basis = code.build_basis([5, 7])
    recorded, fresh = (
        read_cp2k(where, "hbn", hbn(), place_atoms(hbn()), basis)
        for where in (unpack(tmp_path / "recorded"), folder / "jobs" / "hbn" / "attempt-1")
    )
    assert fresh.provenance["band_error"] < 1e-7
    assert fresh.energy == pytest.approx(recorded.energy, abs=1e-4)
    np.testing.assert_allclose(fresh.forces, recorded.forces, atol=1e-3)
    np.testing.assert_array_equal(fresh.edge_cell_shift, recorded.edge_cell_shift)
    np.testing.assert_allclose(fresh.hamiltonian_blocks, recorded.hamiltonian_blocks, atol=1e-3)
    np.testing.assert_allclose(fresh.overlap_blocks, recorded.overlap_blocks, atol=1e-9)
