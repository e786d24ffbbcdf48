"""Training of a phonon network: energies and forces."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mlepi.graphs import fields
from mlepi.training.losses import PhononLoss, Term
from mlepi.training.task import Task


class PhononTask(Task):
    """Train a network that returns "energy" (n_graphs,), eV, and "forces" (n_atoms, 3), eV/Å.

    Metrics: MAE and RMSE of the energy per atom (meV/atom) and of the force components (meV/Å). See
    ``Task`` for arguments.
    """

    kind: ClassVar[str] = "phonon"
    quantities: ClassVar[tuple[str, ...]] = ("energy", "forces")

    def build_loss(self, config: dict[str, Any]) -> PhononLoss:
        """Return the loss of energies and forces."""
        return PhononLoss(**config)

    def compute_terms(self, graph: Any, subset: str | None = None) -> dict[str, Term]:
        """Return the loss terms of a batch; those of a named subset enter the metrics."""
        with torch.enable_grad():  # forces are a derivative, also in validation
            prediction = self.model(graph)
        atoms = graph[fields.ATOM]
        energy_difference = (
            prediction["energy"].to(torch.float64) - graph[fields.ENERGY]
        ) / atoms.ptr.diff()
        forces_difference = prediction["forces"] - atoms[fields.FORCES]
        if subset is not None:
            self.errors(subset, "energy").update(energy_difference)
            self.errors(subset, "forces").update(forces_difference)
        return self.loss(
            energy_difference.to(forces_difference.dtype),
            forces_difference,
            atoms[fields.LAYER],
            atoms.batch,
        )

    def collect_metrics(self, subset: str) -> dict[str, Tensor]:
        """Return the metrics of a subset over all processes."""
        metrics: dict[str, Tensor] = {}
        for quantity, unit in (("energy", "mev_per_atom"), ("forces", "mev_per_angstrom")):
            values = self.errors(subset, quantity).compute()
            metrics.update(
                {f"{quantity}_{measure}_{unit}": value for measure, value in values.items()}
            )
        return metrics

    def parity_data(self, graph: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return energies per atom (less references) and forces, label and prediction."""
        with torch.enable_grad():
            prediction = self.model(graph)
        atoms = graph[fields.ATOM]
        n_atoms = atoms.ptr.diff()
        return {
            "energy (eV/atom)": (
                graph[fields.ENERGY] / n_atoms,
                prediction["energy"].detach().to(torch.float64) / n_atoms,
            ),
            "forces (eV/Å)": (
                atoms[fields.FORCES].flatten(),
                prediction["forces"].detach().flatten(),
            ),
        }
