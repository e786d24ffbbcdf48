"""Training of an electron network: Hamiltonian blocks in a local-orbital basis."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mlepi.graphs import fields
from mlepi.structures.basis import OrbitalBasis
from mlepi.training.losses import ElectronLoss, Term, compute_block_errors
from mlepi.training.metric_loss import MetricLoss
from mlepi.training.metrics import least_absolute_shift
from mlepi.training.task import Task

GAUGES = ("", "_gauge_free")


class ElectronTask(Task):
    """Train a network of Hamiltonian blocks.

    It returns "onsite_blocks", (n_atoms, p, p), and "edge_blocks", relation → (n_edges, p, p), eV.

    Metrics, all in meV: MAE and RMSE of the existing Hamiltonian elements (on-site blocks and both
    directions of every pair), as they are and gauge-free, min over μ of Σ|ΔH − μS| per structure
    with the exact minimiser, together and by block type. See ``Task`` for further arguments.

    Args:
        basis: orbital basis of the labels as plain data (``OrbitalBasis.to_dict``).
        **arguments: of ``Task``.
    """

    kind: ClassVar[str] = "electron"
    quantities: ClassVar[tuple[str, ...]] = tuple(
        part + gauge for part in ("", "_onsite", "_intra", "_inter") for gauge in GAUGES
    )
    orbital_mask: Tensor

    def __init__(self, *, basis: dict[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        orbitals = OrbitalBasis.from_dict(basis)
        mask = torch.zeros(max(orbitals.elements) + 1, orbitals.max_orbitals, dtype=torch.bool)
        mask[list(orbitals.elements)] = torch.as_tensor(orbitals.mask(orbitals.elements))
        self.register_buffer("orbital_mask", mask, persistent=False)

    def build_loss(self, config: dict[str, Any]) -> ElectronLoss:
        """Return the loss of Hamiltonian blocks, and keep that in the metric of S."""
        config = dict(config)
        self.metric = MetricLoss(**config.pop("metric"))
        return ElectronLoss(**config)

    @property
    def num_terms(self) -> int:
        """Number of terms of the loss."""
        return self.loss.num_terms + self.metric.num_terms

    def compute_terms(self, graph: Any, subset: str | None = None) -> dict[str, Term]:
        """Return the loss terms of a batch; those of a named subset enter the metrics."""
        errors = compute_block_errors(self.model(graph), graph, self.orbital_mask)
        if subset is not None:
            shifted = errors.shifted(least_absolute_shift(errors))
            for gauge, chosen in zip(GAUGES, (errors, shifted), strict=True):
                for part, difference in chosen.difference.items():
                    count = chosen.mask[part].sum()
                    self.errors(subset, f"_{part}{gauge}").update(difference, count)
                    self.errors(subset, gauge).update(difference, count)
            return {**self.loss(errors), **self.metric(errors, graph, turn=0)}
        terms = self.loss(errors)
        if self.metric.num_terms:
            rise = self.metric.rise(self.progress)
            terms |= self.metric(errors, graph, turn=self.current_epoch, factor=rise)
        return terms

    def collect_metrics(self, subset: str) -> dict[str, Tensor]:
        """Return the metrics of a subset over all processes."""
        return {
            f"hamiltonian{quantity}_{measure}_mev": value
            for quantity in self.quantities
            for measure, value in self.errors(subset, quantity).compute().items()
        }

    def parity_data(self, graph: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return Hamiltonian elements of one batch by block type, label and prediction."""
        errors = compute_block_errors(self.model(graph), graph, self.orbital_mask)
        stores = {
            "onsite": graph[fields.ATOM],
            **{name: graph[fields.edge_type(name)] for name in fields.RELATIONS},
        }
        data = {}
        for name, store in stores.items():
            label = store[fields.HAMILTONIAN_BLOCKS][errors.mask[name]]
            data[f"H {name} (eV)"] = (
                label,
                label + errors.difference[name][errors.mask[name]].detach(),
            )
        return data
