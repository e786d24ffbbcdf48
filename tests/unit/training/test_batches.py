import pytest
import torch
from torch_geometric.data import Batch

from mlepi.graphs import fields
from mlepi.training.batches import Collation, GlobalBatches
from mlepi.training.data_modules import ForcesDataModule

FORCES = {
    "path": "data/blg_openmx/forces.extxyz",
    "split": "data/blg_openmx/splits/forces_81_09_10.json",
}

SETTINGS = {
    "extra": None,
    "batch_size": 2,
    "eval_batch_size": 1,
    "n_train": 4,
    "dtype": "float32",
    "seed": 1,
}

CUTOFFS = {"intra": 2.0, "inter": 4.0}


def test_processes_share_every_global_batch():
    one = GlobalBatches(n_structures=11, batch_size=4, seed=5)
    two = [
        GlobalBatches(n_structures=11, batch_size=4, seed=5, rank=rank, n_processes=2)
        for rank in (0, 1)
    ]
    for batch, *shares in zip(one, *two, strict=True):
        assert sorted(batch) == sorted(shares[0] + shares[1])
    assert len(one) == len(two[0]) == len(two[1]) == 2


def test_known_sizes_are_shared_out_evenly():
    sizes = [4, 64, 36, 36, 52, 40, 48, 4]
    shared = {"n_structures": 8, "batch_size": 8, "seed": 5, "sizes": sizes}
    one = GlobalBatches(**shared)
    two = [GlobalBatches(**shared, rank=rank, n_processes=2) for rank in (0, 1)]
    for batch, *shares in zip(one, *two, strict=True):
        assert sorted(batch) == sorted(shares[0] + shares[1])
        totals = [sum(sizes[k] for k in share) for share in shares]
        assert max(totals) - min(totals) <= 8
    alone = [GlobalBatches(**shared, rank=rank, n_processes=8) for rank in range(8)]
    assert sorted(k for share in alone for k in next(iter(share))) == list(range(8))


def test_order_depends_on_seed_and_epoch_only():
    batches = GlobalBatches(n_structures=20, batch_size=20, seed=5)
    first, again = next(iter(batches)), next(iter(batches))
    batches.sampler.set_epoch(1)
    assert first == again
    assert first != next(iter(batches))


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("n_structures", [3, 8, 10])
def test_evaluation_takes_every_structure_once_and_leaves_no_process_without(
    n_structures, batch_size
):
    shares = [
        GlobalBatches(
            n_structures=n_structures, batch_size=batch_size, seed=None, rank=r, n_processes=3
        )
        for r in range(3)
    ]
    taken = [k for share in shares for batch in share for k in batch]
    assert sorted(taken) == list(range(n_structures))
    assert [len(list(share)) for share in shares] == [len(share) for share in shares]
    assert min(len(share) for share in shares) > 0


def test_training_takes_full_batches_only():
    batches = GlobalBatches(n_structures=9, batch_size=4, seed=1)
    assert [len(batch) for batch in batches] == [4, 4]
    assert [len(batch) for batch in GlobalBatches(n_structures=3, batch_size=8, seed=1)] == [3]


def test_batch_of_one_structure_is_made_once_in_the_memory_of_its_graph():
    data = ForcesDataModule(**FORCES, **SETTINGS, cutoffs=CUTOFFS)
    data.prepare()
    graphs = data.graphs["train"]
    collation = Collation(graphs)
    first, again = collation([1]), collation([1])
    expected = Batch.from_data_list([graphs[1]])
    assert first.num_graphs == expected.num_graphs == 1
    for store, other, wanted in zip(first.stores, again.stores, expected.stores, strict=True):
        assert list(store.keys()) == list(wanted.keys())
        for name, value in wanted.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(store[name], value)
                assert store[name] is other[name]
    assert first[fields.ATOM][fields.POSITIONS] is graphs[1][fields.ATOM][fields.POSITIONS]
    first.to("meta")
    assert (
        again[fields.ATOM][fields.POSITIONS].device
        == collation([1])[fields.ATOM][fields.POSITIONS].device
        == torch.device("cpu")
    )


def test_several_structures_are_joined_in_the_order_asked_for():
    data = ForcesDataModule(**FORCES, **SETTINGS, cutoffs=CUTOFFS)
    data.prepare()
    graphs = data.graphs["train"]
    batch = Collation(graphs)([2, 0])
    assert batch.num_graphs == 2
    assert torch.equal(
        batch[fields.ENERGY], torch.cat([graphs[2][fields.ENERGY], graphs[0][fields.ENERGY]])
    )
