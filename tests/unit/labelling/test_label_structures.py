"""The loop with the toy code: what comes out, what fails, what a second run finds done."""

import json
import threading

import numpy as np
import pytest
from toy_labels import Told, displaced, fake

from mlepi.errors import ConfigError, DataError
from mlepi.labelling import LabelledSet, label_structures
from mlepi.labelling.card import compare_labels
from mlepi.labelling.job import State
from mlepi.labelling.structure_files import NamedStructure
from mlepi.physics.overlaps import read_overlap_table
from mlepi.reference_systems.generate import label_structure
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.reference_systems.tight_binding import TightBinding
from mlepi.run_lock import acquire
from mlepi.stopping import Stopped
from mlepi.structures import HamiltonianDataset, read_forces_dataset

NAMES = ["a_0", "b_1", "c_2", "d_3"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A set of four structures: one fails for good, one at first."""
    folder = tmp_path_factory.mktemp("toy")
    told = Told()
    code = fake(fails=["b_1"], fails_once=["c_2"])
    summary = label_structures(folder, displaced(4), code, told, jobs=2)
    return folder, summary, told


def statuses(folder):
    return {job.name: job.read_state().status for job in LabelledSet(folder).jobs()}


def test_labels_are_those_of_the_code(labelled):
    folder, summary, _ = labelled
    assert summary.written.names == ["a_0", "c_2", "d_3"]
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    data.verify()
    frames = {s.name: s for s in read_forces_dataset(folder / "forces.extxyz")}
    model = TightBinding(orbitals="s", orthogonal=False)
    for given in displaced(4):
        if given.name == "b_1":
            continue
        right = label_structure(given.name, given.atoms, model, HoneycombSprings())
        stored = data[given.name]
        assert np.array_equal(stored.atoms.positions, given.atoms.positions)
        found = compare_labels(stored, right)
        assert found.hamiltonian[1] < 1e-6
        assert found.overlap < 1e-7
        assert found.forces == 0.0
        assert frames[given.name].energy == pytest.approx(right.energy, abs=1e-9)
        np.testing.assert_allclose(frames[given.name].forces, right.forces, atol=1e-8)
    data.close()
    assert read_overlap_table(folder / "overlap.h5").max_orbitals == 1
    assert summary.written.overlaps.largest < 1e-6


def test_failures_are_tried_twice_and_told(labelled):
    folder, summary, told = labelled
    assert list(summary.written.failed) == ["b_1"]
    states = {job.name: job.read_state() for job in LabelledSet(folder).jobs()}
    assert [len(states[name].attempts) for name in NAMES] == [1, 2, 2, 1]
    assert "asked to fail" in states["c_2"].attempts[0].reason
    assert states["c_2"].attempts[1].reason == ""
    assert states["b_1"].status == "failed"
    assert "asked to fail" in (folder / "failed.tsv").read_text()
    assert told.total == told.done == 4
    assert [line for line in told.lines if line.startswith("b_1 failed: ")]


def test_every_structure_says_where_it_comes_from(labelled):
    folder, _, _ = labelled
    structure = {s.name: s for s in read_forces_dataset(folder / "forces.extxyz")}["c_2"]
    attempt = LabelledSet(folder).job("c_2").read_state().attempts[1]
    assert structure.provenance["input_sha256"] == attempt.input_sha256
    assert structure.provenance["attempt"] == 2
    assert structure.provenance["kind"] == "thermal"
    assert structure.provenance["wall_time"] >= 0.0
    assert attempt.version == "mlepi.reference_systems"


def test_the_card_says_what_is_in_the_set(labelled):
    card = (labelled[0] / "README.md").read_text()
    assert "3 structures, labelled by `mlepi label` with mlepi.reference_systems" in card
    assert "| formulas | C2 (3) |" in card
    assert "| kinds | thermal (3) |" in card
    assert "| orbitals | s |" in card
    assert "| labelled at the second attempt | 1 |" in card
    assert "| `b_1` | b_1: got a calculation that was asked to fail" in card


def test_what_is_done_stays_done_and_a_set_grows(labelled):
    folder, _, _ = labelled
    before = (folder / "jobs" / "a_0" / "labels.h5").stat().st_mtime_ns
    told = Told()
    summary = label_structures(folder, displaced(5)[4:], fake(), told)
    assert summary.written.names == ["a_0", "c_2", "d_3", "e_4"]
    assert (told.total, told.done) == (5, 5)
    assert (folder / "jobs" / "a_0" / "labels.h5").stat().st_mtime_ns == before
    assert statuses(folder)["b_1"] == "failed"
    summary = label_structures(folder, [], fake(), Told(), retry_failed=True)
    assert summary.written.names == ["a_0", "b_1", "c_2", "d_3", "e_4"]
    assert not (folder / "failed.tsv").exists()


def test_other_settings_and_other_structures_are_refused(tmp_path):
    label_structures(tmp_path, displaced(1), fake(), Told())
    with pytest.raises(DataError, match=r"orbitals 'sp' instead of 's'.*choose another folder"):
        label_structures(tmp_path, displaced(1), fake(orbitals="sp"), Told())
    with pytest.raises(DataError, match="another structure of this name"):
        label_structures(tmp_path, displaced(1, seed=1), fake(), Told())
    with pytest.raises(ConfigError, match="positive numbers"):
        label_structures(tmp_path, [], fake(), Told(), jobs=0)
    with pytest.raises(ConfigError, match="one of"):
        label_structures(tmp_path, [], fake(), Told(), keep="some")


def test_a_structure_that_no_attempt_can_help_is_tried_once(tmp_path):
    atoms = displaced(1)[0].atoms
    atoms.symbols[0] = "B"
    summary = label_structures(tmp_path, [NamedStructure("bc", atoms)], fake(), Told())
    assert "carbon only" in summary.written.failed["bc"]
    assert len(LabelledSet(tmp_path).job("bc").read_state().attempts) == 1


def test_an_attempt_that_was_killed_is_made_again(tmp_path):
    the_set = LabelledSet(tmp_path)
    with the_set.locked():
        the_set.prepare(fake(), "mlepi.reference_systems", displaced(2))
    job = the_set.job("a_0")
    job.write_state(State("running"))
    (job.folder / "attempt-1").mkdir()
    (job.folder / "attempt-1" / "half").write_text("half")
    (job.folder / ".labels.h5.999999999.unfinished").write_text("half")
    summary = label_structures(tmp_path, [], fake(), Told(), keep="nothing")
    assert summary.written.names == ["a_0", "b_1"]
    assert len(job.read_state().attempts) == 1
    assert [path.name for path in (job.folder / "attempt-1").iterdir()] == ["input.txt"]
    assert not list(job.folder.glob(".labels*"))


def test_a_job_that_another_process_holds_is_left_to_it(tmp_path):
    the_set = LabelledSet(tmp_path)
    with the_set.locked():
        the_set.prepare(fake(), "mlepi.reference_systems", displaced(2))
    with acquire(the_set.job("a_0").folder):
        summary = label_structures(tmp_path, [], fake(), Told())
    assert summary.elsewhere == ["a_0"]
    assert summary.written.names == ["b_1"]


def test_a_signal_ends_calculations_and_loses_only_them(tmp_path, monkeypatch):
    begun = threading.Event()

    def stop():
        if begun.is_set():
            raise Stopped(15)
        if (tmp_path / "jobs" / "a_0" / "attempt-1").exists():
            begun.set()

    monkeypatch.setattr("mlepi.labelling.run.stop_if_requested", stop)
    with pytest.raises(Stopped) as stopped:
        label_structures(tmp_path, displaced(2), fake(seconds=60.0), Told())
    assert "the same command goes on" in stopped.value.__notes__[0]
    assert statuses(tmp_path) == {"a_0": "running", "b_1": "waiting"}
    assert not list(tmp_path.rglob("run.lock"))


def test_the_noise_of_the_grid_is_measured_once(tmp_path, monkeypatch):
    """Tight binding has no grid: a shift changes nothing, beyond the rounding of float32."""
    code = fake()
    monkeypatch.setattr(code, "choose_noise_shift", lambda atoms: np.array([0.1, 0.05, 0.02]))
    told = Told()
    summary = label_structures(tmp_path, displaced(1), code, told, measure_noise=True)
    assert (told.total, told.done) == (2, 2)
    assert summary.written.names == ["a_0"]
    noise = LabelledSet(tmp_path).noise
    moved = noise.read_structure().atoms.positions - displaced(1)[0].atoms.positions
    np.testing.assert_allclose(moved, [[0.1, 0.05, 0.02]] * 2, atol=1e-12)
    card = (tmp_path / "README.md").read_text()
    assert "| `a_0` shifted by half a grid spacing: energy 0.000 meV per atom" in card
    label_structures(tmp_path, displaced(2)[1:], code, told, measure_noise=True)
    assert (told.total, told.done) == (3, 3)


def test_a_damaged_state_is_refused(tmp_path):
    label_structures(tmp_path, displaced(1), fake(), Told())
    state = tmp_path / "jobs" / "a_0" / "state.json"
    state.write_text(json.dumps({"status": "finished", "attempts": []}))
    with pytest.raises(DataError, match="Remove it"):
        label_structures(tmp_path, [], fake(), Told())
    (tmp_path / "set.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(DataError, match="Use the mlepi that wrote it"):
        label_structures(tmp_path, [], fake(), Told())
