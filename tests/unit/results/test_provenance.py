"""Digests of plain data and files, and where a result comes from."""

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.results import collect_provenance, hash_data, hash_file


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
