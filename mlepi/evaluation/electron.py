"""Electron networks against labelled Hamiltonians.

Blocks: differences of all existing elements, as they are and gauge-free (with the shift μ of each
structure that minimises Σ|ΔH − μS|). Metric of S: √(Tr[(S⁻¹(ΔH − μS))²]/N) at one k-point per
structure, with the S of the labels. Levels: predicted H with the S that inference would take, that
of the checkpoint's table, against H and S of the labels, paired by band index at every k; as they
are and less the median of each structure; of H as predicted and once more with the level shift of
the checkpoint. Ghosts: levels more than 1 eV below DFT's lowest. Soft states: up to 2 eV above E_F
with more than twice the |c|² of any training state. Slopes: ΔH between paired displacements ±u.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mlepi.arithmetic import parse_dtype
from mlepi.evaluation.breakdown import add_sums, break_down
from mlepi.evaluation.findings import Finding, Points, thin
from mlepi.evaluation.overlaps import OverlapErrors, compare_overlaps, overlap_metrics
from mlepi.evaluation.settings import Settings
from mlepi.graphs import fields
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices, compute_bands
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import smallest_overlap_eigenvalue
from mlepi.predictors import ElectronPredictor
from mlepi.predictors.level_shifts import read_largest_norm
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.electron_errors import (
    BOUND,
    METRIC,
    States,
    compare_pencils,
    electron_metrics,
    solve_pencils,
    sum_blocks,
    sum_metric,
)
from mlepi.training.level_errors import WINDOWS, form_bound, select_errors
from mlepi.training.losses import BlockErrors, compute_block_errors
from mlepi.training.metric_loss import MEASURING, MetricLoss
from mlepi.training.metrics import least_absolute_shift
from mlepi.training.slopes import collect_blocks, compare_slopes, find_pairs

DTYPE = "float32"
"""Precision of a network of Hamiltonians where nothing else is asked for."""

DRAWN = "5ev"
"""Window of the levels in the figure."""


class ElectronJudge:
    """Compares Hamiltonians of a network with labels.

    Args:
        predictor: the network.
        settings: k-points, windows, bins, device and precision.
        most_points: of every quantity and structure for the parity plots.
        own_overlap: whether labels have overlaps of their own, which the table is compared with.
    """

    outlying: ClassVar[Sequence[str]] = (
        "hamiltonian_gauge_free_mae_mev",
        "bands_2ev_aligned_rms_mev",
        "shifted_bands_2ev_aligned_rms_mev",
    )

    def __init__(
        self, predictor: ElectronPredictor, settings: Settings, most_points: int, own_overlap: bool
    ) -> None:
        self.predictor = predictor
        self.settings = settings
        self.most_points = most_points
        self.compares_overlap = own_overlap and predictor.overlap_table is not None
        self.dtype = settings.dtype or DTYPE
        self.network = predictor.network(settings.device, self.dtype)
        self.metric = MetricLoss(**MEASURING)
        elements = list(predictor.basis.elements)
        self.exists = torch.zeros(
            max(elements) + 1, predictor.basis.max_orbitals, dtype=torch.bool
        ).to(settings.device)
        self.exists[elements] = torch.as_tensor(predictor.basis.mask(elements)).to(settings.device)

    @torch.no_grad()
    def measure(self, structure: LabelledStructure, number: int, paired: bool) -> Finding:
        """Compare blocks and levels of one structure; see ``Judge``."""
        device = self.settings.device
        graph = build_graph(
            structure.atoms, self.predictor.cutoffs, structure, parse_dtype(self.dtype)
        )
        graph[fields.STRUCTURE] = torch.tensor([number])
        graph = graph.to(device)
        prediction = self.network(graph)
        errors = compute_block_errors(prediction, graph, self.exists)
        gauge_free = errors.shifted(least_absolute_shift(errors))
        own = sum_blocks(errors, gauge_free)
        own[METRIC] = sum_metric(errors, graph, self.metric, keep=False)
        sums = {quantity: values[:, 0].cpu() for quantity, values in own.items()}
        finding = Finding(
            structure.atoms,
            sums,
            self._select_points(errors, graph),
            breakdown=break_down(gauge_free, graph, self.settings.bin_width),
            paired=collect_blocks(errors, graph) if paired else None,
        )
        if not self.settings.with_levels:
            return finding
        predicted = self.predictor.assemble(
            structure.atoms,
            graph,
            _to_numpy(prediction["onsite_blocks"]),
            {name: _to_numpy(blocks) for name, blocks in prediction["edge_blocks"].items()},
        )
        return self._add_levels(finding, structure, predicted)

    def _select_points(self, errors: BlockErrors, graph: AtomGraph) -> dict[str, Points]:
        """Return labels and predictions by block type, for the parity plots."""
        points = {}
        for part, blocks in errors.labels(graph).items():
            label, difference = (
                x[errors.mask[part]].cpu().to(torch.float64)
                for x in (blocks, errors.difference[part])
            )
            points[f"H {part} (eV)"] = thin(label, label + difference, self.most_points)
        return points

    def _add_levels(
        self, finding: Finding, structure: LabelledStructure, hamiltonian: BlockMatrix
    ) -> Finding:
        """Add what follows from the levels of one structure."""
        atoms, predictor = structure.atoms, self.predictor
        kpoints = self.settings.points(atoms.cell.array)
        labelled_h, labelled_s = block_matrices(structure)
        overlap = labelled_s if predictor.overlap_table is None else predictor.overlap(atoms)
        reference = compute_bands(labelled_h, labelled_s, kpoints)
        hamiltonian_k, overlap_k, label_k = (
            matrix.dense_many(kpoints) for matrix in (hamiltonian, overlap, labelled_h)
        )
        bounds = np.array(
            [
                form_bound(label, metric, found - label, reference.min())
                for label, metric, found in zip(label_k, overlap_k, hamiltonian_k, strict=True)
            ]
        )
        shift = predictor.level_shift
        added = None
        if shift is not None:
            added = shift_matrix(atoms, overlap, shift, self.settings.device).dense_many(kpoints)
        fermi = math.nan if structure.fermi_energy is None else structure.fermi_energy
        largest = read_largest_norm(predictor.metadata)
        if math.isnan(fermi):
            largest = None  # nobody knows which states lie low
        solved = solve_pencils(hamiltonian_k, overlap_k, added, largest is not None)
        sums = {BOUND: np.array([bounds.sum(), (bounds**2).sum(), len(bounds)])}
        sums |= compare_pencils(solved, reference, fermi, largest, self.settings.windows)
        finding.sums.update({name: torch.from_numpy(values) for name, values in sums.items()})
        for prefix, states in solved.items():
            depth = float(states.levels.min() - reference.min())
            finding.extremes[f"{prefix}lowest_level_from_dft_ev"] = depth
            finding.points[f"{prefix}levels (eV)"] = self._select_levels(states, reference, fermi)
        if not self.compares_overlap:
            return finding
        errors = OverlapErrors(
            compare_overlaps(overlap, labelled_s, atoms),
            smallest_overlap_eigenvalue(overlap_k),
            smallest_overlap_eigenvalue(labelled_s.dense_many(kpoints)),
            select_errors(
                compute_bands(labelled_h, overlap, kpoints), reference, fermi, WINDOWS["2ev"]
            ),
        )
        return Finding(**{**finding.__dict__, "overlap": errors})

    def _select_levels(
        self, states: States, reference: NDArray[np.float64], fermi: float
    ) -> Points:
        """Return levels of labels and prediction from the Fermi energy, up to the window's end."""
        chosen = reference - fermi <= WINDOWS[DRAWN][1]
        return thin(reference[chosen] - fermi, states.levels[chosen] - fermi, self.most_points)

    def summarize(self, findings: Mapping[str, Finding]) -> dict[str, float]:
        """Return the metrics of a group of structures, by name; see ``Judge``."""
        total = add_sums(finding.sums for finding in findings.values())
        metrics = {name: float(value) for name, value in electron_metrics(total).items()}
        overlaps = [f.overlap for f in findings.values() if f.overlap is not None]
        return metrics | overlap_metrics(overlaps) | self._compare_pairs(findings)

    @staticmethod
    def _compare_pairs(findings: Mapping[str, Finding]) -> dict[str, float]:
        blocks = {n: f.paired for n, f in findings.items() if f.paired is not None}
        return compare_slopes((blocks[plus], blocks[minus]) for plus, minus in find_pairs(blocks))


def _to_numpy(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)
