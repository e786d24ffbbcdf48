"""The script that times the loss in the metric of S runs and measures every kind of it."""

import importlib.util
from pathlib import Path

from small_run import TINY_ELECTRON

PATH = Path(__file__).parents[2] / "benchmarks" / "metric_loss.py"


def test_times_of_every_kind():
    spec = importlib.util.spec_from_file_location("metric_loss_script", PATH)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.measure(TINY_ELECTRON, rounds=1)
    parts = [f"{kind}: {part}" for kind in script.KINDS for part in ("preparation", "term")]
    assert set(found) == {"n_atoms", "step", *parts}
    assert all(value > 0.0 for value in found.values())
