"""Digests of plain data and files, and where a result comes from."""

import hashlib
from importlib.metadata import version

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.project_files import PROJECT_FOLDER, find_commit
from mlepi.results import collect_provenance, hash_data, hash_file
from mlepi.results.provenance import find_version


def test_hashes(tmp_path):
    assert hash_data({"a": 1, "b": [1, 2]}) == hash_data({"b": (1, 2), "a": 1})
    assert hash_data({"a": 1}) != hash_data({"a": 2})
    with pytest.raises(
        DataError, match=r"stage inputs: got .*not JSON serializable; expected plain JSON-able data"
    ):
        hash_data({"a": np.zeros(2)})
    (tmp_path / "f").write_bytes(b"mlepi")
    assert len(hash_file(tmp_path / "f")) == 64
    with pytest.raises(
        DataError, match=r"missing: got No such file or directory; expected a readable file"
    ):
        hash_file(tmp_path / "missing")


def test_provenance_names_versions_and_commit():
    provenance = collect_provenance({"n_samples": 3}, {"a": 1}, 7, code="f00d")
    assert provenance["code"] == "f00d"
    assert provenance["seed"] == 7
    assert provenance["config"] == {"n_samples": 3}
    assert provenance["packages"]["phonopy"].startswith("4.10")
    assert provenance["inputs"] == {"a": 1}
    assert provenance["packages"]["mlepi"] == find_version() == version("mlepi")
    assert provenance["commit"] == find_commit(PROJECT_FOLDER / "mlepi")
    assert collect_provenance({}, {}, np.int64(3))["code"] is None
    assert hash_data(collect_provenance({}, {}, np.int64(3)))  # plain data


def test_no_secrets_in_records():
    config = {"logger": [{"api_key": "x", "WANDB_TOKEN": "y", "token": None}], "seed": 1}
    hidden = {"logger": [{"api_key": "***", "WANDB_TOKEN": "***", "token": None}], "seed": 1}
    assert collect_provenance(config, {}, 0)["config"] == hidden


def test_digests_are_those_of_the_text_and_of_the_bytes(tmp_path):
    """They stand in files of years ago and must never change."""
    text = b'{"a": [1, 2.5, null], "\\u00c5": "x"}'
    assert hash_data({"Å": "x", "a": (1, 2.5, None)}) == hashlib.sha256(text).hexdigest()
    assert hash_data({6: 4}) == hash_data({"6": 4})
    (tmp_path / "f").write_bytes(b"mlepi" * 100_000)
    assert hash_file(tmp_path / "f") == hashlib.sha256(b"mlepi" * 100_000).hexdigest()
    with pytest.raises(DataError, match=r"stage inputs: got Out of range float values"):
        hash_data({"a": float("nan")})
