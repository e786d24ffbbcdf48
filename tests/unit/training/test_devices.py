"""Losses, metrics and parity plots make nothing on the default device.

See test_devices of the models.
"""

import pytest
import torch
from small_run import TINY_ELECTRON, TINY_PHONON, run_training

from mlepi.training.electron_task import ElectronTask
from mlepi.training.phonon_task import PhononTask


@pytest.mark.parametrize(
    ("task", "network"),
    [(PhononTask, TINY_PHONON), (ElectronTask, TINY_ELECTRON)],
    ids=["phonon", "electron"],
)
def test_training(tmp_path, monkeypatch, task, network):
    def on_meta(method):
        def call(*arguments, **more):
            method(*arguments, **more)  # fills the caches of constant tables, which are moved
            with torch.device("meta"):
                return method(*arguments, **more)

        return call

    for name in ("compute_terms", "parity_data"):
        monkeypatch.setattr(task, name, on_meta(getattr(task, name)))
    metrics = run_training(tmp_path, [*network, "trainer.max_epochs=1"])
    assert all(value > 0.0 for value in metrics.values())
