"""Training of a phonon network: energies and forces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mlepi.graphs import fields
from mlepi.training.losses import (
    LateStage,
    PhononLoss,
    Term,
    compute_relative_layer_forces,
)
from mlepi.training.metrics import mean_error, sum_by_structure
from mlepi.training.task import Task


class PhononTask(Task):
    """Train a network that returns "energy" (n_graphs,), eV, and "forces" (n_atoms, 3), eV/Å.

    Metrics: MAE and RMSE of the energy per atom (meV/atom), of the force components (meV/Å), and of
    the mean force on the atoms of a layer relative to that of its structure (meV/Å), on which the
    modes of rigid layers rest. See ``Task`` for arguments.
    """

    kind: ClassVar[str] = "phonon"
    quantities: ClassVar[tuple[str, ...]] = ("energy", "forces", "layers")
    main_metric: ClassVar[str] = "forces_mae_mev_per_angstrom"
    main_quantity: ClassVar[str] = "forces"
    columns: ClassVar[dict[str, str]] = {
        "energy_mae_mev_per_atom": "energy MAE (meV/atom)",
        "energy_rmse_mev_per_atom": "RMSE",
        "forces_mae_mev_per_angstrom": "forces MAE (meV/Å)",
        "forces_rmse_mev_per_angstrom": "RMSE",
        "layers_rmse_mev_per_angstrom": "on layers, RMSE",
    }
    settings_of: ClassVar[dict[str, type]] = {
        "loss": PhononLoss,
        "loss.late": LateStage,
    }

    def build_loss(self, config: dict[str, Any]) -> PhononLoss:
        """Return the loss of energies and forces."""
        return PhononLoss(**config)

    def compute_terms(self, graph: Any, subset: str | None = None) -> dict[str, Term]:
        """Return the loss terms of a batch; those of a named subset enter the metrics.

        A subset is weighed as at the end of the training, so that its losses can be compared.
        """
        with torch.enable_grad():  # forces are a derivative, also in validation
            prediction = self.model(graph)
        atoms = graph[fields.ATOM]
        energy_difference = (
            prediction["energy"].to(torch.float64) - graph[fields.ENERGY]
        ) / atoms.ptr.diff()
        forces_difference = prediction["forces"] - atoms[fields.FORCES]
        if subset is not None:
            n_graphs = len(energy_difference)
            each = torch.arange(n_graphs, device=energy_difference.device)
            energies = sum_by_structure(energy_difference, each, n_graphs)
            forces = sum_by_structure(forces_difference, atoms.batch, n_graphs)
            self.record(subset, "energy", graph, energies)
            self.record(subset, "forces", graph, forces)
            on_layers, structure = compute_relative_layer_forces(
                forces_difference, atoms[fields.LAYER], atoms.batch
            )
            layers = sum_by_structure(on_layers, structure, n_graphs)
            self.record(subset, "layers", graph, layers)
        return self.loss(
            energy_difference.to(forces_difference.dtype),
            forces_difference,
            atoms[fields.LAYER],
            atoms.batch,
            self.progress if subset is None and self.loss.late.exists else 1.0,
        )

    def collect_metrics(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics of sums by quantity."""
        return phonon_metrics(sums)

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


def phonon_metrics(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the metrics of sums by quantity.

    Args:
        sums: "energy" (eV/atom), "forces" (eV/Å) and, where known, "layers" (eV/Å) and "stress"
            (eV/Å³) → (3,), Σ|x|, Σx² and number of x; layers are left out where there are none.
    """
    return {
        f"{quantity}_{measure}_{unit}": value
        for quantity, unit in UNITS.items()
        if quantity in sums and (quantity != "layers" or sums[quantity][2] > 0)
        for measure, value in mean_error(sums[quantity]).items()
    }


UNITS = {
    "energy": "mev_per_atom",
    "forces": "mev_per_angstrom",
    "layers": "mev_per_angstrom",
    "stress": "mev_per_cubic_angstrom",
}
"""Quantity → how its unit ends the names of metrics."""
