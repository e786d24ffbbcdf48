"""Errors as sums over all structures and processes, divided once at the end."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from mlepi.training.losses import BlockErrors, Term

MILLI = 1e3
"""meV per eV."""


class ErrorSums(Metric):
    """Mean absolute and root mean square of differences, over everything that was seen.

    Args:
        unit: factor on the differences, e.g. 1000 for eV → meV.
    """

    full_state_update = False
    absolute: Tensor
    squared: Tensor
    count: Tensor

    def __init__(self, unit: float = MILLI) -> None:
        super().__init__()
        self.unit = unit
        for name in ("absolute", "squared", "count"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, difference: Tensor, count: Tensor | None = None) -> None:
        """Add differences of any shape; ``count`` of them exist if some are padding (zero)."""
        difference = difference.detach().to(torch.float64)
        self.absolute += difference.abs().sum()
        self.squared += difference.square().sum()
        self.count += difference.numel() if count is None else count

    def compute(self) -> dict[str, Tensor]:
        """Return "mae" and "rmse" in the chosen unit; 0 when nothing was seen."""
        count = self.count.clamp(min=1.0)
        return {
            "mae": self.unit * self.absolute / count,
            "rmse": self.unit * (self.squared / count).sqrt(),
        }


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
