"""Training of an electron network: Hamiltonian blocks in a local-orbital basis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mlepi.errors import ConfigError, message
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors.level_shifts import KEY, NORM_KEY
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.electron_errors import (
    METRIC,
    QUANTITIES,
    LevelMeasure,
    electron_metrics,
    sum_blocks,
    sum_levels,
    sum_metric,
)
from mlepi.training.level_errors import choose_kpoints
from mlepi.training.level_shift import describe_training
from mlepi.training.losses import ElectronLoss, Term, compute_block_errors
from mlepi.training.metric_loss import MEASURING, MetricLoss
from mlepi.training.slopes import collect_blocks, compare_slopes, find_pairs
from mlepi.training.task import Task


class ElectronTask(Task):
    """Train a network of Hamiltonian blocks.

    It returns "onsite_blocks", (n_atoms, p, p), and "edge_blocks", relation → (n_edges, p, p), eV.

    Metrics: MAE and RMSE (meV) of the existing Hamiltonian elements (on-site blocks and both
    directions of every pair), as they are and gauge-free, min over μ of Σ|ΔH − μS| per structure
    with the exact minimiser, together and by block type; and the error in the metric of S,
    √(Tr[(S⁻¹(ΔH − μS))²]/N) at one k-point per structure (meV), the RMS by which levels could move.
    On the test subsets also the levels of ``compare_levels``, with the label's S, plain and with
    the level shift that the checkpoint carries, and the slopes of ``compare_slopes``. See ``Task``
    for further arguments.

    Args:
        basis: orbital basis of the labels as plain data (``OrbitalBasis.to_dict``).
        test_kpoints: number of ``choose_kpoints`` at which levels are compared; 0 for none.
        level_shift: parameters of the level shift with which they are compared once more; None for
            not. In the config also "auto" and "off", see ``describe_training``.
        largest_norm: |c|² of training states, beyond which soft states are counted; None for not.
        **arguments: of ``Task``.
    """

    kind: ClassVar[str] = "electron"
    quantities: ClassVar[tuple[str, ...]] = QUANTITIES
    main_metric: ClassVar[str] = "hamiltonian_gauge_free_mae_mev"
    main_quantity: ClassVar[str] = "_gauge_free"
    columns: ClassVar[dict[str, str]] = {
        "hamiltonian_gauge_free_mae_mev": "H gauge-free MAE (meV)",
        "hamiltonian_onsite_gauge_free_mae_mev": "on-site",
        "hamiltonian_intra_gauge_free_mae_mev": "intra",
        "hamiltonian_inter_gauge_free_mae_mev": "inter",
        "hamiltonian_s_metric_rms_mev": "S metric (meV)",
        "bands_2ev_rms_mev": "±2 eV RMS (meV)",
        "bands_2ev_aligned_rms_mev": "less median",
        "form_bound_mean": "form bound",
        "ghosts_per_1000_k": "ghosts/1000 k",
        "ghosts_kpoints_percent": "k with ghosts (%)",
        "soft_states_kpoints_percent": "k with soft states (%)",
        "shifted_bands_2ev_rms_mev": "shifted: ±2 eV RMS (meV)",
        "shifted_bands_2ev_aligned_rms_mev": "shifted: less median",
        "shifted_ghosts_per_1000_k": "shifted: ghosts/1000 k",
        "shifted_soft_states_kpoints_percent": "shifted: k with soft states (%)",
    }
    settings_of: ClassVar[dict[str, type]] = {"loss": ElectronLoss, "loss.metric": MetricLoss}
    orbital_mask: Tensor

    def __init__(
        self,
        *,
        basis: dict[str, Any],
        test_kpoints: int,
        level_shift: dict[str, float] | None,
        largest_norm: float | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not 0 <= test_kpoints <= len(choose_kpoints(np.eye(3))):
            raise ConfigError(
                message("task.test_kpoints", str(test_kpoints), "0 to 5", "Edit the config.")
            )
        shift = None if level_shift is None else LevelShift.from_dict(level_shift)
        self.test_levels = LevelMeasure(test_kpoints, shift, largest_norm)
        self.measuring = MetricLoss(**MEASURING)
        self.basis = OrbitalBasis.from_dict(basis)
        mask = torch.zeros(max(self.basis.elements) + 1, self.basis.max_orbitals, dtype=torch.bool)
        mask[list(self.basis.elements)] = torch.as_tensor(self.basis.mask(self.basis.elements))
        self.register_buffer("orbital_mask", mask, persistent=False)

    @classmethod
    def learn(
        cls, config: Mapping[str, Any], structures: Sequence[LabelledStructure]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the level shift that the training structures allow, and the norm of states."""
        found = describe_training(config["level_shift"], structures)
        return {"level_shift": found[KEY], "largest_norm": found.get(NORM_KEY)}, found

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
            keep = subset == "val"
            sums = sum_blocks(errors)
            sums[METRIC] = sum_metric(errors, graph, self.measuring, keep)
            if subset != "val" and self.test_levels.n_kpoints:
                sums |= sum_levels(errors, graph, self.test_levels, self.basis)
            for quantity, values in sums.items():
                self.record(subset, quantity, graph, values)
            if subset == "further":  # not in the loss, whose eigenvectors take long in large cells
                return {}
            return {**self.loss(errors), **self.metric(errors, graph, turn=0, keep=keep)}
        terms = self.loss(errors)
        if self.metric.num_terms:
            rise = self.metric.rise(self.progress)
            terms |= self.metric(errors, graph, turn=self.current_epoch, factor=rise)
        return terms

    def collect_metrics(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics of sums by quantity."""
        return electron_metrics(sums)

    @torch.no_grad()
    def compare_structures(self, graphs: Mapping[str, Any]) -> dict[str, float]:
        """Return the errors of the slopes between paired displacements, if there are pairs."""

        def collect(name: str) -> Any:
            graph = graphs[name].to(self.device)
            errors = compute_block_errors(self.model(graph), graph, self.orbital_mask)
            return collect_blocks(errors, graph)

        self.eval()
        return compare_slopes((collect(plus), collect(minus)) for plus, minus in find_pairs(graphs))

    def parity_data(self, graph: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return Hamiltonian elements of one batch by block type, label and prediction."""
        errors = compute_block_errors(self.model(graph), graph, self.orbital_mask)
        data = {}
        for name, blocks in errors.labels(graph).items():
            label = blocks[errors.mask[name]]
            data[f"H {name} (eV)"] = (
                label,
                label + errors.difference[name][errors.mask[name]].detach(),
            )
        return data
