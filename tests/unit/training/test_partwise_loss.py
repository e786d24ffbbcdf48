"""Batches that memory does not hold: computed in parts, with the weights of the whole batch."""

import pytest
import torch
from small_run import TINY_PHONON, run_training

from mlepi.training.partwise_loss import split_batch
from mlepi.training.phonon_task import PhononTask

OVERRIDES = [
    *TINY_PHONON,
    "trainer.max_epochs=1",
    "test=false",
    "data.batch_size=3",
    "dtype=float64",
    "trainer.limit_val_batches=1",
]


def read_weights(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["training_weights"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run_training(folder, OVERRIDES)
    return read_weights(folder)


def out_of_memory():
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_optimizer_sees_the_whole_batch(tmp_path, monkeypatch, caplog, whole, where):
    compute, backward = PhononTask.compute_terms, torch.Tensor.backward
    parts = []

    def limited(self, graph, subset=None):
        if subset is None:
            parts.append(graph.num_graphs)
            if where == "forward" and graph.num_graphs > 1:
                out_of_memory()
        return compute(self, graph, subset)

    def limited_backward(self, *args, **kwargs):
        if parts[-1] > 1:
            out_of_memory()
        backward(self, *args, **kwargs)

    monkeypatch.setattr(PhononTask, "compute_terms", limited)
    if where == "backward":
        monkeypatch.setattr(torch.Tensor, "backward", limited_backward)
    run_training(tmp_path, OVERRIDES)
    assert "every batch is computed in" in caplog.text
    assert parts[-4:] == ([1, 1, 1, 1] if where == "forward" else [2, 1, 2, 1])
    for name, value in read_weights(tmp_path).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-9, atol=1e-12)


def test_a_structure_that_does_not_fit_alone_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(PhononTask, "compute_terms", lambda *args: out_of_memory())
    with pytest.raises(RuntimeError, match="out of memory"):
        run_training(tmp_path, OVERRIDES)


def test_parts_of_a_batch_are_batches_of_their_structures():
    from torch_geometric.data import Batch, Data

    graphs = [Data(x=torch.full((n, 1), float(n)), edge_index=torch.zeros(2, 1)) for n in (1, 2, 3)]
    parts = split_batch(Batch.from_data_list(graphs), 2)
    assert [part.num_graphs for part in parts] == [2, 1]
    assert parts[1].x.tolist() == [[3.0]] * 3
