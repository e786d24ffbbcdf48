"""What a batch of predicted Hamiltonians adds to the sums of every quantity, by structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlepi.graphs import fields
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.structures.basis import OrbitalBasis
from mlepi.training.bloch_sums import bloch_sums
from mlepi.training.level_errors import (
    COUNTS,
    LEVEL_QUANTITIES,
    WINDOWS,
    choose_kpoints,
    compare_levels,
    form_bound,
    predict_levels,
    predict_states,
)
from mlepi.training.losses import BlockErrors
from mlepi.training.metric_loss import MetricLoss, find_shift
from mlepi.training.metrics import MILLI, least_absolute_shift, mean_error, sum_by_structure
from mlepi.training.shifted_blocks import add_by_part

GAUGES = ("", "_gauge_free")
BLOCKS = tuple(part + gauge for part in ("", "_onsite", "_intra", "_inter") for gauge in GAUGES)
METRIC, BOUND = "metric", "form_bound"
SHIFTED = "shifted_"
"""In front of a quantity of levels: with a level shift of the soft directions of S."""

LEVELS = (BOUND, *LEVEL_QUANTITIES, *(SHIFTED + name for name in LEVEL_QUANTITIES))
QUANTITIES = (*BLOCKS, METRIC, *LEVELS)
"""Errors of the blocks, of Bloch sums in the metric of S, and of levels, plain and shifted."""


def sum_blocks(errors: BlockErrors, gauge_free: BlockErrors | None = None) -> dict[str, Tensor]:
    """Sum the errors of the blocks, as they are and gauge-free, together and by block type.

    Args:
        errors: of the blocks.
        gauge_free: the same after ``least_absolute_shift``, where it is known already.

    Returns:
        Quantity of ``BLOCKS`` → (3, n_graphs), Σ|x| (eV), Σx² (eV²) and number of elements.
    """
    found: dict[str, Tensor] = {}
    if gauge_free is None:
        gauge_free = errors.shifted(least_absolute_shift(errors))
    for gauge, chosen in zip(GAUGES, (errors, gauge_free), strict=True):
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


@dataclass(frozen=True)
class LevelMeasure:
    """At how many k-points levels are compared, and with which level shift once more.

    Attributes:
        n_kpoints: number of ``choose_kpoints``.
        shift: parameters of the level shift; None for none.
        largest_norm: |c|² of training states, beyond which soft states are counted; None for not.
    """

    n_kpoints: int
    shift: LevelShift | None = None
    largest_norm: float | None = None


@dataclass(frozen=True)
class States:
    """Solutions of one pencil at several k-points.

    Attributes:
        levels: (n_k, n), eV, ascending.
        norms: (n_k, n), Σ|c|² of the states with c†Sc = 1; None where nobody asked for them.
    """

    levels: NDArray[np.float64]
    norms: NDArray[np.float64] | None = None


def solve_pencils(
    hamiltonian: NDArray[Any],
    overlap: NDArray[Any],
    added: NDArray[Any] | None,
    with_norms: bool,
) -> dict[str, States]:
    """Solve for the states of H as predicted and with a level shift.

    Args:
        hamiltonian: (n_k, n, n), eV.
        overlap: (n_k, n, n).
        added: (n_k, n, n), eV, what the level shift adds; None for none.
        with_norms: also return |c|², which takes eigenvectors.

    Returns:
        "" and, with a level shift, ``SHIFTED`` → states.
    """
    matrices = {"": None} if added is None else {"": None, SHIFTED: added}
    if with_norms:
        return {
            prefix: States(*predict_states(hamiltonian, overlap, matrix))
            for prefix, matrix in matrices.items()
        }
    return {
        prefix: States(predict_levels(hamiltonian, overlap, matrix))
        for prefix, matrix in matrices.items()
    }


def compare_pencils(
    solved: Mapping[str, States],
    reference: NDArray[np.float64],
    fermi_energy: float,
    largest_norm: float | None,
    windows: Mapping[str, tuple[float, float]] = WINDOWS,
) -> dict[str, NDArray[np.float64]]:
    """Compare the levels of one structure, of H as predicted and with a level shift.

    Args:
        solved: of ``solve_pencils``, on the energy zero of the reference.
        reference: (n_k, n), levels of the labels, eV.
        fermi_energy: of the labels, eV.
        largest_norm: |c|² of training states; None where it is not known.
        windows: name → lowest and highest energy from the Fermi level, eV.

    Returns:
        Quantities of ``compare_levels`` → (3,), with a level shift also with ``SHIFTED`` in front.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for prefix, states in solved.items():
        sums = compare_levels(
            states.levels, reference, fermi_energy, states.norms, largest_norm, windows
        )
        found |= {prefix + name: values for name, values in sums.items()}
    return found


def sum_levels(
    errors: BlockErrors, graph: Any, measure: LevelMeasure, basis: OrbitalBasis
) -> dict[str, Tensor]:
    """Sum the errors of levels with the label's S, and count ghosts.

    Args:
        errors: of the blocks.
        graph: batch with Hamiltonian and overlap labels; windows need its Fermi energies.
        measure: k-points and level shift.
        basis: of the labels.

    Returns:
        ``BOUND`` and quantities of ``compare_pencils`` → (3, n_graphs), see ``form_bound``.
    """
    cells = graph[fields.CELL].cpu().numpy()
    points = np.stack([choose_kpoints(cell, measure.n_kpoints) for cell in cells], axis=1)
    overlap, difference = (
        {name: value.detach().to(torch.float64) for name, value in blocks.items()}
        for blocks in (errors.overlap, errors.difference)
    )
    parts = [errors.labels(graph), overlap, difference]
    if measure.shift is not None:
        parts.append(add_by_part(overlap, graph, basis, measure.shift))
    matrices = [
        [
            [matrix.cpu().numpy() for matrix in bloch_sums(blocks, graph, errors.exists, kpoints)]
            for blocks in parts
        ]
        for kpoints in torch.from_numpy(points).to(errors.exists.device)
    ]
    found: dict[str, list[Any]] = {}
    for number, fermi in enumerate(graph[fields.FERMI_ENERGY].tolist()):
        label, metric, error, *added = (
            np.stack([of_k[part][number] for of_k in matrices]) for part in range(len(parts))
        )
        reference = predict_levels(label, metric)
        bounds = [
            form_bound(*of_k, reference.min()) for of_k in zip(label, metric, error, strict=True)
        ]
        sums = {BOUND: np.array([np.sum(bounds), np.sum(np.square(bounds)), len(bounds)])}
        solved = solve_pencils(
            label + error,
            metric,
            added[0] if added else None,
            measure.largest_norm is not None,
        )
        sums |= compare_pencils(solved, reference, fermi, measure.largest_norm)
        for name, values in sums.items():
            found.setdefault(name, []).append(values)
    return {name: torch.from_numpy(np.stack(sums, axis=1)) for name, sums in found.items()}


def electron_metrics(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the metrics of sums by quantity; those of levels only where some were seen.

    Args:
        sums: quantity of ``QUANTITIES``, or of levels in other windows → (3,), Σ|x|, Σx² and number
            of x.
    """
    metrics = {
        f"hamiltonian{quantity}_{measure}_mev": value
        for quantity in BLOCKS
        for measure, value in mean_error(sums[quantity]).items()
    }
    metrics["hamiltonian_s_metric_rms_mev"] = mean_error(sums[METRIC])["rmse"]
    for quantity, (total, second, count) in sums.items():
        if quantity in (*BLOCKS, METRIC) or count == 0.0:
            continue
        if quantity == BOUND:
            metrics["form_bound_mean"] = total / count
        elif quantity.endswith(COUNTS):
            metrics[f"{quantity}_per_1000_k"] = MILLI * total / count
            metrics[f"{quantity}_kpoints_percent"] = 100.0 * second / count
        else:
            metrics[f"{quantity}_rms_mev"] = mean_error(sums[quantity])["rmse"]
    return metrics
