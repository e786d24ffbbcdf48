"""The script that times the loss in the metric of S runs and measures every kind of it."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "metric_loss.py"
TINY = [
    "model=hedgenet_electron",
    "model.network.backbone.num_layers=1",
    "model.network.backbone.channels=[4,4,4]",
    "model.network.backbone.pseudo_channels=[0,2]",
    "model.network.backbone.l_max=2",
    "model.network.backbone.num_radial=8",
    "model.network.backbone.radial_hidden=[8]",
    "data.n_train=2",
]


def test_times_of_every_kind():
    spec = importlib.util.spec_from_file_location("metric_loss_script", PATH)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.measure(TINY, rounds=1)
    parts = [f"{kind}: {part}" for kind in script.KINDS for part in ("preparation", "term")]
    assert set(found) == {"n_atoms", "step", *parts}
    assert all(value > 0.0 for value in found.values())
