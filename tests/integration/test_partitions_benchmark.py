"""What dividing the edges costs is counted as it must come out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "partitions.py"
TINY = ("size.phonon.num_features=4", "size.phonon.l_max=1", "size.phonon.radial_widths=[8]")


@pytest.fixture(scope="module")
def partitions():
    spec = importlib.util.spec_from_file_location("partitions_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("n", [1, 2, 3])
def test_relations_edges_and_parameters(partitions, n):
    rows = partitions.measure(n, rounds=1, sizes=TINY)
    assert {model: row["sub_networks"] for model, row in rows.items()} == {
        "mace": 1,
        "hedgenet_phonon": 2,
        "hermnet_vertex": n,
        "hermnet_pair": n * (n + 1) // 2,
        "hermnet_triplet": n * n * (n + 1) // 2,
    }
    # an edge is in one pair, has one centre, and is in as many triplets as there are elements
    assert [rows[model]["edges"] for model in rows] == pytest.approx([1, 1, 1, 1, n])
    for row in rows.values():
        assert row["parameters"] == pytest.approx(row["sub_networks"], rel=0.1)
        assert row["seconds"] > 0.0
    assert rows["mace"]["ratio"] == 1.0
