"""Batches of graphs that do not depend on the number of processes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler
from torch_geometric.data import Batch

from mlepi.graphs.build import AtomGraph


class GlobalBatches(Sampler[list[int]]):
    """Batches that do not depend on the number of processes.

    Each process takes its share of every global batch. A step lasts as long as the largest share:
    structures of known size are shared out evenly, the largest first.

    The order of an epoch depends on seed and epoch only. Training takes full batches, so that what
    is left over (other structures in every epoch) is left out; evaluation takes every structure
    exactly once.

    Args:
        n_structures: size of the subset.
        batch_size: structures per global batch.
        seed: of the shuffling; None keeps the order.
        rank: number of this process.
        n_processes: number of processes.
        sizes: (n_structures,), what a structure takes in a training step, such as its number of
            atoms, in any unit; None where it is not known.
    """

    def __init__(
        self,
        *,
        n_structures: int,
        batch_size: int,
        seed: int | None,
        rank: int = 0,
        n_processes: int = 1,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.n_structures = n_structures
        self.batch_size = min(batch_size, n_structures)
        self.seed = seed
        self.rank = rank
        self.n_processes = n_processes
        self.sizes = sizes
        self.epoch = 0

    @property
    def sampler(self) -> GlobalBatches:
        """This object: Lightning announces epochs to the sampler of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.n_structures)
        if self.seed is None:  # whole structures in turn: a process must not be left without any
            share = order[self.rank :: self.n_processes]
            size = max(1, self.batch_size // self.n_processes)
            yield from (
                share[start : start + size].tolist() for start in range(0, len(share), size)
            )
            return
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_structures)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._take_share(order[start : start + self.batch_size].tolist())

    def _take_share(self, batch: list[int]) -> list[int]:
        """Return what this process takes of a global batch."""
        if self.sizes is None or self.n_processes == 1:
            return batch[self.rank :: self.n_processes]
        shares: list[list[int]] = [[] for _ in range(self.n_processes)]
        totals = [0] * self.n_processes
        for structure in sorted(batch, key=self.sizes.__getitem__, reverse=True):
            smallest = min(range(self.n_processes), key=lambda rank: (totals[rank], rank))
            shares[smallest].append(structure)
            totals[smallest] += self.sizes[structure]
        return shares[self.rank]

    def __len__(self) -> int:
        if self.seed is not None:
            return self.n_structures // self.batch_size
        share = len(range(self.rank, self.n_structures, self.n_processes))
        return -(-share // max(1, self.batch_size // self.n_processes))


class Collation:
    """Join chosen graphs of a subset to a batch.

    The batch of a single graph is made once and shares its memory, where graphs are kept.

    Args:
        graphs: of the subset.
        kept: whether they are in memory anyway.
    """

    def __init__(self, graphs: Sequence[AtomGraph], kept: bool = True) -> None:
        self.graphs = graphs
        self.kept = kept
        self._singles: dict[int, Batch] = {}

    def __call__(self, chosen: Sequence[int]) -> Batch:
        """Return the batch of the graphs with these numbers."""
        if len(chosen) != 1:
            return Batch.from_data_list([self.graphs[i] for i in chosen])
        [i] = chosen
        if not self.kept:
            return self._join_single(self.graphs[i])
        if i not in self._singles:
            self._singles[i] = self._join_single(self.graphs[i])
        # moving a batch to a device replaces its tensors in place
        return copy.copy(self._singles[i])

    @staticmethod
    def _join_single(graph: AtomGraph) -> Batch:
        batch = Batch.from_data_list([graph])
        for joined, store in zip(batch.stores, graph.stores, strict=True):
            for name, value in store.items():
                if isinstance(value, torch.Tensor):
                    joined[name] = value
        return batch
