"""How labels are compared at equal error, and that both ways start from one first round."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "active_learning.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_active_learning", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def curve(power, labels=(10, 20, 40)):
    return [
        {"labels": n, "error": n**-power, "samples": 2 * n**-power, "predicted": 0.1}
        for n in labels
    ]


def test_labels_for_equal_error_of_power_laws(script):
    """n^−3/2 is at the 1/40 of 1/n after 40^(2/3) labels."""
    seed = {script.INFORMATIVE: curve(1.5), script.RANDOM: curve(1.0)}
    ratio, words = script.judge([seed, seed], "error")
    assert ratio == pytest.approx(40 ** (1 / 1.5) / 40)
    assert "are 0.29 times those by chance (0.29 to 0.29 without one seed)" in words
    worse = {script.INFORMATIVE: curve(-0.5), script.RANDOM: curve(1.0)}
    ratio, words = script.judge([worse], "samples")
    assert math.isnan(ratio)
    assert "single samples" in words
    assert math.isnan(script.judge([{k: x[:1] for k, x in seed.items()}], "error")[0])


def test_seeds_are_averaged_in_squares(script):
    one, other = curve(1.0), [{**row, "error": 7 * row["error"]} for row in curve(1.0)][:2]
    mean = script.average([one, other])
    assert len(mean) == 2
    assert mean[0]["error"] == pytest.approx(0.1 * math.sqrt(25.0))


def test_a_branch_has_the_first_round_and_its_own_way(script, tmp_path):
    first = tmp_path / "first"
    (first / "round_00").mkdir(parents=True)
    (first / "round_00" / "chosen.extxyz").touch()
    (first / "study.json").write_text(json.dumps({"made_from": {"select": "informative"}}))
    for _ in range(2):
        script.branch(first, tmp_path / "random", "random")
    stored = json.loads((tmp_path / "random" / "study.json").read_text())
    assert stored["made_from"]["select"] == "random"
    assert (tmp_path / "random" / "round_00" / "chosen.extxyz").is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_page_says_what_was_found(script):
    mean = {script.INFORMATIVE: curve(1.5), script.RANDOM: curve(1.0)}
    content = {
        "command": "python benchmarks/active_learning.py",
        "what": "a toy",
        "mean": mean,
        "seeds": ["0"],
        "verdict": {key: script.judge([mean], key)[1] for key in ("error", "samples")},
        "each": {"0": mean},
    }
    page = script.tabulate(content)
    assert "| 10 | 31.6 (100) | 100 (100) | 63.2 | 200 |" in page
    assert "0.29 times those by chance" in page
