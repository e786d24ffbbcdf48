"""The loss of a batch that memory does not hold at once: part by part, with the same gradient.

The loss is a sum of means over the whole batch, ``Σ weight · total / count``. Once the counts are
known, the gradients of its parts add up to that of the whole, and the optimizer sees the batch that
the configuration asks for, however little memory there is.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from mlepi.faults import is_out_of_memory
from mlepi.training.losses import Term, add_terms, global_loss, sum_over_processes

log = logging.getLogger(__name__)


class PartwiseLoss:
    """Compute the loss of a batch, in more and more parts as memory runs out.

    Args:
        compute_terms: loss terms of a batch.

    Attributes:
        num_parts: into which a batch is divided.
    """

    def __init__(self, compute_terms: Callable[[Any], Mapping[str, Term]]) -> None:
        self.compute_terms = compute_terms
        self.num_parts = 1

    def __call__(self, graph: Any, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return a tensor with the value of the loss, (), and its gradient.

        Args:
            graph: the batch.
            parameters: that are trained.

        Raises:
            Exception: whatever the network raises, also for lack of memory for a single structure.
        """
        while True:
            loss = self._attempt(graph, parameters)
            if loss is not None:
                return loss
            self.divide()

    def can_divide(self, graph: Any) -> bool:
        """Tell whether a batch has more structures than parts."""
        return int(graph.num_graphs) > self.num_parts

    def divide(self) -> None:
        """Take twice as many parts from here on, and give back what is not in use."""
        self.num_parts *= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            "memory is short: every batch is computed in %d parts from here on; its size for the "
            "optimizer stays",
            self.num_parts,
        )

    def _attempt(self, graph: Any, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        try:
            if self.num_parts == 1:
                return global_loss(self.compute_terms(graph))
            return self._add_parts(split_batch(graph, self.num_parts), parameters)
        except Exception as error:
            if not is_out_of_memory(error) or not self.can_divide(graph):
                raise
            return None

    def _add_parts(self, parts: Sequence[Any], parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add up value and gradient; what is returned has this value and this gradient."""
        counts: dict[str, Tensor] = {}
        for part in parts:
            for name, term in self.compute_terms(part).items():
                counts[name] = counts.get(name, 0.0) + term.count.detach().to(torch.float64)
        names = list(counts)
        summed, n_processes = sum_over_processes(torch.stack([counts[name] for name in names]))
        whole = dict(zip(names, summed, strict=True))
        gradients: list[Tensor | None] = [None] * len(parameters)
        value = torch.zeros((), device=parameters[0].device, dtype=parameters[0].dtype)
        for part in parts:
            loss = add_terms(self.compute_terms(part), whole, n_processes)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            value = value + loss.detach()
            gradients = [
                old if new is None else new if old is None else old + new
                for old, new in zip(gradients, found, strict=True)
            ]
        products = [
            (parameter * gradient).sum()
            for parameter, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None
        ]
        linear = torch.stack(products).sum()
        return value + linear - linear.detach()


def split_batch(graph: Any, num_parts: int) -> list[Any]:
    """Divide a batch into batches of about equally many structures.

    Args:
        graph: batch.
        num_parts: at most so many.
    """
    structures = graph.to_data_list()
    size = -(-len(structures) // num_parts)
    return [
        Batch.from_data_list(structures[start : start + size])
        for start in range(0, len(structures), size)
    ]
