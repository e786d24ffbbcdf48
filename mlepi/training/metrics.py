"""Errors as sums over all structures and processes, divided once at the end."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from mlepi.training.losses import BlockErrors, Term

MILLI = 1e3
"""meV per eV."""


class StructureSums(Metric):
    """Absolute and squared differences and their number by structure and quantity.

    Whichever structures belong together later, their means follow without another pass.

    Args:
        n_structures: structures of the data, counted over all subsets.
        n_quantities: quantities that are measured.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, n_structures: int, n_quantities: int) -> None:
        super().__init__()
        zeros = torch.zeros(3, n_structures, n_quantities, dtype=torch.float64)
        self.add_state("sums", default=zeros, dist_reduce_fx="sum")

    def update(self, quantity: int, structures: Tensor, values: Tensor) -> None:
        """Add sums to one quantity of some structures.

        Args:
            quantity: its number.
            structures: (n,) int, numbers.
            values: (3, n), Σ|x|, Σx² and number of x.
        """
        self.sums[:, :, quantity].index_add_(
            1, structures.to(self.sums.device), values.detach().to(self.sums)
        )

    def compute(self) -> Tensor:
        """Return the sums over all processes: (3, n_structures, n_quantities)."""
        return self.sums


def sum_by_structure(
    difference: Tensor, structure: Tensor, n_graphs: int, count: Tensor | None = None
) -> Tensor:
    """Sum differences of atoms, edges or structures over each structure of a batch.

    Args:
        difference: (n, …), zero where nothing exists.
        structure: (n,) int, structure of each in the batch.
        n_graphs: number of structures.
        count: (n,), how many of the elements exist; None for all.

    Returns:
        (3, n_graphs) float64: Σ|x|, Σx² and number of x.
    """
    size = difference.shape[1:].numel()  # −1 would be ambiguous where there are no edges
    values = difference.detach().to(torch.float64).reshape(len(difference), size)
    if count is None:
        count = torch.full_like(structure, values.shape[1])
    rows = torch.stack([values.abs().sum(1), values.square().sum(1), count.to(torch.float64)])
    return rows.new_zeros(3, n_graphs).index_add(1, structure, rows)


def mean_error(sums: Tensor) -> dict[str, Tensor]:
    """Return "mae" and "rmse" in thousandths of the unit; 0 when nothing was seen.

    Args:
        sums: (3,), Σ|x|, Σx² and number of x.
    """
    absolute, squared, count = sums
    count = count.clamp(min=1.0)
    return {"mae": MILLI * absolute / count, "rmse": MILLI * (squared / count).sqrt()}


class LossSums(Metric):
    """A loss over a whole subset.

    The same terms as in training, with counts over all structures and processes.
    """

    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, num_terms: int) -> None:
        super().__init__()
        for name in ("totals", "counts"):
            self.add_state(
                name, default=torch.zeros(num_terms, dtype=torch.float64), dist_reduce_fx="sum"
            )

    def update(self, terms: dict[str, Term]) -> None:
        """Add the terms of one batch."""
        self.totals += torch.stack(
            [term.weight * term.total.detach().to(torch.float64) for term in terms.values()]
        )
        self.counts += torch.stack([term.count.to(torch.float64) for term in terms.values()])

    def compute(self) -> Tensor:
        """Return the loss: ()."""
        return (self.totals / self.counts.clamp(min=1.0)).sum()


def least_absolute_shift(errors: BlockErrors) -> Tensor:
    """Find the energy shift that minimises Σ|ΔH − μS| of each structure, exactly.

    The sum is Σ|S|·|ΔH/S − μ|, so the minimiser is the median of ΔH/S with weights |S|.

    Returns:
        (n_graphs,) float64, eV.
    """
    shifts = []
    for structure in range(errors.n_graphs):
        chosen = {name: graph == structure for name, graph in errors.graph.items()}
        difference = torch.cat(
            [errors.difference[name][at].flatten() for name, at in chosen.items()]
        ).to(torch.float64)
        overlap = torch.cat([errors.overlap[name][at].flatten() for name, at in chosen.items()]).to(
            torch.float64
        )
        nonzero = overlap != 0.0
        ratio, order = (difference[nonzero] / overlap[nonzero]).sort()
        weight = overlap[nonzero].abs()[order].cumsum(0)
        shifts.append(ratio[torch.searchsorted(weight, weight[-1] / 2.0)])
    return torch.stack(shifts)
