"""Old formats under present names; the digests of old files follow from present descriptions."""

import json

import h5py
import numpy as np
import pytest
from old_runs import FOLDER, NAMES, unpack_run

from mlepi.errors import DataError
from mlepi.results import PartFile, former_inputs, hash_data
from mlepi.results.provenance import find_version
from mlepi.results.upgrades import (
    FORMER_STAGE_NAMES,
    PART_FORMAT,
    PART_UPGRADES,
    RECORD_FORMAT,
    RECORD_UPGRADES,
    StoredResult,
    current_stage,
    former_stage,
    refuse_newer,
    upgrade,
)

PRESENT = {"observables": "fermi_velocity", "bands": "sparse_bands", "control": "control_variate"}


def in_present_words(inputs):
    """What a runner of today writes for the same inputs: other names, no versions."""
    present = {key: value for key, value in inputs.items() if key != "version"}
    if "stage" in present:
        present["stage"] = PRESENT.get(present["stage"], present["stage"])
    if "records" in present:
        present["records"] = {PRESENT.get(k, k): v for k, v in present["records"].items()}
    return present


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    return {name: unpack_run(name, folder) for name in NAMES}


def test_there_is_one_step_per_format():
    assert sorted(RECORD_UPGRADES) == list(range(1, RECORD_FORMAT))
    assert sorted(PART_UPGRADES) == list(range(1, PART_FORMAT))


def test_old_runs_of_every_kind_are_kept():
    assert set(NAMES) == {"finished", "half_done", "bands", "half_bands", "target", "cell_sizes"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 700_000


def test_steps_leave_what_they_get_alone():
    stored = StoredResult("observables", {"energies": [1.0]})
    upgraded = upgrade(stored, 1)
    assert upgraded == StoredResult("fermi_velocity", {"energies": [1.0]})
    assert stored.stage == "observables"
    assert upgrade(stored, RECORD_FORMAT) == stored


def test_errors_of_format_2_get_the_factor_that_they_lacked():
    """Of records that keep a pseudo-value per group, at any depth; others keep what they have."""
    inner = {
        "pseudo_velocities": np.zeros((5, 2, 2)),
        "velocity_errors": np.array([1.0, 2.0]),
        "convergence_errors": np.ones(2),
        "velocities": np.ones(2),
    }
    other = {"slope_errors": np.ones(2), "first_order_errors": np.ones(2)}
    stored = StoredResult("fermi_velocity", {"spectral": inner, "windows": other})
    fields = upgrade(stored, 2).fields
    np.testing.assert_allclose(
        fields["spectral"]["velocity_errors"], np.sqrt(5 / 4) * np.array([1.0, 2.0])
    )
    assert fields["spectral"]["degrees_of_freedom"] == 4.0
    for name in ("convergence_errors", "velocities"):
        np.testing.assert_array_equal(fields["spectral"][name], 1.0)
    np.testing.assert_allclose(fields["windows"]["slope_errors"], np.sqrt(5 / 4))
    np.testing.assert_array_equal(fields["windows"]["first_order_errors"], 1.0)  # a jackknife
    assert fields["degrees_of_freedom"] == 4.0
    unknown = StoredResult("gap", {"gap_errors": np.ones(2)})
    assert upgrade(unknown, 2) == unknown
    np.testing.assert_array_equal(inner["velocity_errors"], [1.0, 2.0])


def test_steps_are_taken_in_order_from_the_format_found():
    def step(number):
        return lambda stored: stored._replace(stage=f"{stored.stage}{number}")

    steps = {3: step(3), 1: step(1), 2: step(2)}
    names = [upgrade(StoredResult("s", {}), found, upgrades=steps).stage for found in (1, 2, 3, 4)]
    assert names == ["s123", "s23", "s3", "s"]


def test_names_of_stages():
    assert FORMER_STAGE_NAMES == PRESENT
    for former, present in PRESENT.items():
        assert current_stage(former, 1) == present
        assert former_stage(present) == former
        assert current_stage(former, 2) == former, "a later stage may take the name again"
    assert current_stage("gap", 1) == former_stage("gap") == "gap"


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_inputs_of_old_records_follow_from_the_present_description(runs, name):
    n_checked = 0
    for path in sorted(runs[name].rglob("results.h5")):
        with h5py.File(path) as file:
            for stage in set(file) - {"cell_sizes"}:  # whose inputs are the digests of two files
                described = json.loads(file[stage].attrs["provenance"])["inputs"]
                present = in_present_words(described)
                assert "version" not in present
                assert former_inputs(present) == described
                assert hash_data(former_inputs(present)) == file[stage].attrs["inputs"]
                n_checked += 1
    assert n_checked >= (15 if name == "finished" else 2)


def test_inputs_of_old_parts_follow_from_the_present_description(runs):
    described = json.loads((FOLDER / "part_inputs.json").read_text(encoding="utf-8"))
    assert len(described) == 12
    for file, inputs in described.items():
        name, _, rest = file.partition("/")
        header = PartFile(runs[name] / rest, "").header()
        assert header.inputs == hash_data(former_inputs(in_present_words(inputs)))


def test_inputs_without_a_stage_have_version_one():
    inputs = {"n_states": 8, "hamiltonian": "digest"}
    assert former_inputs(inputs) == {"n_states": 8, "hamiltonian": "digest", "version": 1}
    assert inputs == {"n_states": 8, "hamiltonian": "digest"}


def test_settings_and_stopping_are_handed_on():
    inputs = {
        "stage": "fermi_velocity",
        "settings": {"observables": 1},
        "records": {"fermi_velocity": "a", "phonon": "b"},
        "stopping": {"target": "fermi_velocity"},
    }
    assert former_inputs(inputs) == {
        "stage": "observables",
        "version": 3,
        "settings": {"observables": 1},
        "records": {"observables": "a", "phonon": "b"},
        "stopping": {"target": "fermi_velocity"},
    }
    for stage, version in (("phonon", 2), ("sampling", 2), ("gap", 1), ("control_variate", 1)):
        assert former_inputs({"stage": stage})["version"] == version


def test_what_a_newer_version_wrote_names_the_version():
    own = find_version()
    refuse_newer("file", 2, 2, "9.1")
    text = (
        rf"file: got data written by mlepi 9.1 \(format 7\); this is mlepi {own}, which reads up "
        r"to format 2; expected format 2 or older. Install mlepi 9.1 or newer."
    )
    with pytest.raises(DataError, match=text):
        refuse_newer("file", 7, 2, "9.1")
    with pytest.raises(DataError, match=r"of an unknown version .* Install a newer mlepi"):
        refuse_newer("file", 7, 2, None)
    with pytest.raises(DataError, match=rf"Install mlepi {own} or newer, from its newest source"):
        refuse_newer("file", 7, 2, own)
