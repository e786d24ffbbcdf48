"""Labels as a network has learned them: whose data they are, and the potentials that they get."""

from types import SimpleNamespace

import pytest

from mlepi.errors import DataError
from mlepi.graphs.own_labels import find_own_potentials, is_own_data, trained_data


def network(**data):
    return SimpleNamespace(metadata={"config": {"data": data}})


@pytest.fixture
def files(tmp_path):
    for name in ("h.h5", "more.h5", "other.h5", "potentials.json"):
        (tmp_path / name).touch()
    return tmp_path


def test_data_of_the_training_are_its_set_and_the_further_one(files):
    trained = network(path=str(files / "h.h5"), extra=str(files / "more.h5"))
    assert is_own_data(trained, files / "h.h5")
    assert is_own_data(trained, files / "more.h5")
    assert not is_own_data(trained, files / "more.h5", ("path",))
    assert not is_own_data(trained, files / "other.h5")
    absent = network(path=str(files / "h.h5"), extra=str(files / "gone.h5"))
    assert not is_own_data(absent, files / "gone.h5")
    assert not is_own_data(SimpleNamespace(), files / "h.h5")


def test_potentials_belong_to_the_data_of_the_training(files):
    given = str(files / "potentials.json")
    trained = network(path=str(files / "h.h5"), layer_potentials=given)
    assert find_own_potentials(trained, files / "h.h5") == files / "potentials.json"
    assert find_own_potentials(trained, files / "other.h5") is None
    assert find_own_potentials(network(path=str(files / "h.h5")), files / "h.h5") is None
    lost = network(path=str(files / "h.h5"), layer_potentials="gone.json")
    with pytest.raises(DataError, match=r"data\.layer_potentials of the checkpoint: got 'gone"):
        find_own_potentials(lost, files / "h.h5")


def test_the_first_of_a_committee_counts(files):
    members = (network(path="first.h5"), network(path="second.h5"))
    assert trained_data(SimpleNamespace(members=members)) == {"path": "first.h5"}
