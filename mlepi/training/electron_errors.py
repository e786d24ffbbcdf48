"""What a batch of predicted Hamiltonians adds to the sums of every quantity, by structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlepi.graphs import fields
from mlepi.training.bloch_sums import bloch_sums
from mlepi.training.level_errors import (
    LEVEL_QUANTITIES,
    choose_kpoints,
    compare_levels,
    form_bound,
    predict_levels,
)
from mlepi.training.losses import BlockErrors
from mlepi.training.metric_loss import MetricLoss, find_shift
from mlepi.training.metrics import MILLI, least_absolute_shift, mean_error, sum_by_structure

GAUGES = ("", "_gauge_free")
BLOCKS = tuple(part + gauge for part in ("", "_onsite", "_intra", "_inter") for gauge in GAUGES)
METRIC, BOUND = "metric", "form_bound"
QUANTITIES = (*BLOCKS, METRIC, BOUND, *LEVEL_QUANTITIES)
"""Errors of the blocks, of Bloch sums in the metric of S, and of levels."""

SHIFTED = "shifted_"
"""In front of a quantity of levels: with a level shift of the soft directions of S."""


def sum_blocks(errors: BlockErrors) -> dict[str, Tensor]:
    """Sum the errors of the blocks, as they are and gauge-free, together and by block type.

    Returns:
        Quantity of ``BLOCKS`` → (3, n_graphs), Σ|x| (eV), Σx² (eV²) and number of elements.
    """
    found: dict[str, Tensor] = {}
    shifted = errors.shifted(least_absolute_shift(errors))
    for gauge, chosen in zip(GAUGES, (errors, shifted), strict=True):
        for part, difference in chosen.difference.items():
            count = chosen.mask[part].sum((1, 2))
            own = sum_by_structure(difference, chosen.graph[part], errors.n_graphs, count)
            found[f"_{part}{gauge}"] = own
            found[gauge] = found[gauge] + own if gauge in found else own
    return found


def sum_metric(errors: BlockErrors, graph: Any, metric: MetricLoss, keep: bool) -> Tensor:
    """Sum the squared errors in the metric of S, at the first k-point of every structure.

    Args:
        errors: of the blocks.
        graph: batch that they belong to.
        metric: with all states counted equally; knows the k-points.
        keep: keep what belongs to the structures for the next time.

    Returns:
        (3, n_graphs): Tr[(S⁻¹(ΔH − μS))²] stands second (eV²), N last.
    """
    found = []
    for matrix, frame in metric.transform(errors, graph, 0, keep=keep):
        shift = find_shift(matrix, frame.scale, frame.n_low, 1.0, 1.0)
        square = (matrix.abs().square().sum() - len(matrix) * shift.square()).clamp(min=0.0)
        found.append(torch.stack([square.sqrt(), square, torch.full_like(square, len(matrix))]))
    return torch.stack(found, dim=1)


def sum_levels(errors: BlockErrors, graph: Any, n_kpoints: int) -> dict[str, Tensor]:
    """Sum the errors of levels of the plain H with the label's S, and count ghosts.

    Args:
        errors: of the blocks.
        graph: batch with Hamiltonian and overlap labels; windows need its Fermi energies.
        n_kpoints: number of ``choose_kpoints``.

    Returns:
        ``BOUND`` and quantities of ``LEVEL_QUANTITIES`` → (3, n_graphs), see ``form_bound`` and
        ``compare_levels``.
    """
    cells = graph[fields.CELL].cpu().numpy()
    points = np.stack([choose_kpoints(cell, n_kpoints) for cell in cells], axis=1)
    overlap, difference = (
        {name: value.detach().to(torch.float64) for name, value in blocks.items()}
        for blocks in (errors.overlap, errors.difference)
    )
    matrices = [
        [
            [matrix.cpu().numpy() for matrix in bloch_sums(blocks, graph, errors.exists, kpoints)]
            for blocks in (errors.labels(graph), overlap, difference)
        ]
        for kpoints in torch.from_numpy(points).to(errors.exists.device)
    ]
    found: dict[str, list[Any]] = {}
    for number, fermi in enumerate(graph[fields.FERMI_ENERGY].tolist()):
        label, metric, error = (
            np.stack([of_k[part][number] for of_k in matrices]) for part in range(3)
        )
        reference = predict_levels(label, metric)
        bounds = [
            form_bound(*of_k, reference.min()) for of_k in zip(label, metric, error, strict=True)
        ]
        found.setdefault(BOUND, []).append(
            np.array([np.sum(bounds), np.sum(np.square(bounds)), len(bounds)])
        )
        predicted = predict_levels(label + error, metric)
        for name, sums in compare_levels(predicted, reference, fermi).items():
            found.setdefault(name, []).append(sums)
    return {name: torch.from_numpy(np.stack(sums, axis=1)) for name, sums in found.items()}


def electron_metrics(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the metrics of sums by quantity; those of levels only where some were seen.

    Args:
        sums: quantity of ``QUANTITIES``, those of levels also with ``SHIFTED`` in front → (3,),
            Σ|x|, Σx² and number of x.
    """
    metrics = {
        f"hamiltonian{quantity}_{measure}_mev": value
        for quantity in BLOCKS
        for measure, value in mean_error(sums[quantity]).items()
    }
    metrics["hamiltonian_s_metric_rms_mev"] = mean_error(sums[METRIC])["rmse"]
    levels = (BOUND, *LEVEL_QUANTITIES, *(SHIFTED + name for name in LEVEL_QUANTITIES))
    for quantity in levels:
        if quantity not in sums or sums[quantity][2] == 0.0:
            continue
        total, second, count = sums[quantity]
        if quantity == BOUND:
            metrics["form_bound_mean"] = total / count
        elif quantity.endswith("ghosts"):
            metrics[f"{quantity}_per_1000_k"] = MILLI * total / count
            metrics[f"{quantity}_kpoints_percent"] = 100.0 * second / count
        else:
            metrics[f"{quantity}_rms_mev"] = mean_error(sums[quantity])["rmse"]
    return metrics
