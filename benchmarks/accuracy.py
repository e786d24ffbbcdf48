"""Measure a checkpoint on the test subset of the split it was trained with.

``python benchmarks/accuracy.py CHECKPOINT``.

Writes ``accuracy.json`` (all numbers, also by structure) and ``accuracy.md`` (tables, also by named
test subset and by size of the cell) into the output folder. Nothing is random.

Electron networks. H: differences of the existing elements of all blocks, raw and gauge-free (per
structure, the shift μ that minimises Σ|ΔH − μS|). In the metric of S: √(Tr[(S⁻¹(ΔH − μS))²]/N) at
one k-point per structure, with the S of the data. Levels: predicted H with the S of the
checkpoint's overlap table against H and S of the data, by window around DFT's Fermi energy, paired
by band index at every k; as they are, and less the median of each structure; of H as predicted and
once more with the level shift of the checkpoint. Ghosts: levels more than 1 eV below DFT's lowest.
Soft states: up to 2 eV above E_F, with more than twice the |c|² of any training state. Slopes: ΔH
between paired displacements. K' is not listed because E(−k) = E(k).

Phonon networks. Energy per atom and force components, as they are, in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, MlepiError, message
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices, compute_bands
from mlepi.graphs.build import AtomGraph
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import smallest_overlap_eigenvalue
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.predictors.level_shifts import read_largest_norm
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training import ElectronTask, ForcesDataModule, HamiltonianDataModule, PhononTask
from mlepi.training.electron_errors import (
    BOUND,
    METRIC,
    compare_pencils,
    electron_metrics,
    sum_blocks,
    sum_metric,
)
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.level_errors import (
    WINDOWS,
    choose_kpoints,
    form_bound,
    select_errors,
)
from mlepi.training.losses import compute_block_errors
from mlepi.training.metric_loss import MEASURING, MetricLoss
from mlepi.training.metrics import MILLI
from mlepi.training.phonon_task import phonon_metrics
from mlepi.training.slopes import collect_blocks, compare_slopes, find_pairs
from mlepi.training.test_table import format_markdown, group_by_size, tabulate

LevelShift = Callable[[Atoms, BlockMatrix], BlockMatrix]
"""Structure and S → what is added to H so that the soft directions of S are out of the way, eV."""

AUTO = "auto"
"""The level shift that the checkpoint carries."""

Chosen = Mapping[str, tuple[LabelledStructure, AtomGraph]]
"""Name → labelled structure and graph."""

PARTS = ("onsite", "intra", "inter")

TARGETS = {
    "hamiltonian_gauge_free_mae_mev": 0.6,
    "ghosts_kpoints_percent": 1.0,
    "shifted_ghosts_kpoints_percent": 0.0,
    "shifted_bands_2ev_rms_mev": 10.0,
    "shifted_bands_2ev_aligned_rms_mev": 5.0,
    "slope_error": 0.04,
    "overlap_max": 2e-5,
    "energy_mae_mev_per_atom": 0.4,
    "forces_rmse_mev_per_angstrom": 12.0,
}
"""Largest value that a shipped checkpoint should have."""

WINDOW_LABELS = {"2ev": "within ±2 eV of E_F", "occupied": "below E_F", "5ev": "below E_F + 5 eV"}

LABELS = {
    "hamiltonian_mae_mev": "H, MAE (meV)",
    "hamiltonian_gauge_free_mae_mev": "H, gauge-free MAE (meV)",
    "hamiltonian_gauge_free_rmse_mev": "H, gauge-free RMSE (meV)",
    **{f"hamiltonian_{part}_mae_mev": f"H {part}, MAE (meV)" for part in PARTS},
    **{
        f"hamiltonian_{part}_gauge_free_mae_mev": f"H {part}, gauge-free MAE (meV)"
        for part in PARTS
    },
    "hamiltonian_s_metric_rms_mev": "H in the metric of S, RMS (meV)",
    **{
        f"{prefix}bands_{window}{suffix}_rms_mev": f"levels {label}, RMS{comment}{shifted} (meV)"
        for prefix, shifted in (("", ""), ("shifted_", ", with the level shift"))
        for window, label in WINDOW_LABELS.items()
        for suffix, comment in (("", ""), ("_aligned", " less the median"))
    },
    "form_bound_mean": "form bound, mean (no ghost where below 1)",
    "ghosts_per_1000_k": "ghosts per 1,000 k-points",
    "ghosts_kpoints_percent": "k-points with ghosts (%)",
    "soft_states_kpoints_percent": "k-points with soft states (%)",
    "shifted_ghosts_per_1000_k": "ghosts per 1,000 k-points, with the level shift",
    "shifted_ghosts_kpoints_percent": "k-points with ghosts, with the level shift (%)",
    "shifted_soft_states_kpoints_percent": "k-points with soft states, with the level shift (%)",
    "slope_error": "slopes ΔH/Δu, relative error",
    **{f"slope_{part}_error": f"slopes {part}, relative error" for part in PARTS},
    "bands_from_table_rms_mev": "levels within ±2 eV of the DFT H with the table's S, RMS (meV)",
    "overlap_max": "S, largest error",
    "overlap_mean": "S, mean error",
    **{f"overlap_{part}_max": f"S {part}, largest error" for part in PARTS},
    **{f"overlap_{part}_mean": f"S {part}, mean error" for part in PARTS},
    "overlap_smallest_eigenvalue": "smallest eigenvalue of S, table",
    "overlap_smallest_eigenvalue_dft": "smallest eigenvalue of S, data",
    "energy_mae_mev_per_atom": "energy, MAE (meV/atom)",
    "energy_rmse_mev_per_atom": "energy, RMSE (meV/atom)",
    "forces_mae_mev_per_angstrom": "forces, MAE (meV/Å)",
    "forces_rmse_mev_per_angstrom": "forces, RMSE (meV/Å)",
}
"""Metric → row of the table, in this order."""


def subtract_blocks(
    first: BlockMatrix, second: BlockMatrix
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Subtract two matrices that may have different edge lists; a missing block counts as zero.

    Returns:
        Edges (n_edges, 5) as source, target and cell shift, and the differences (n_edges, p, p).
    """
    rows = np.concatenate(
        [np.column_stack([m.edge_index.T, m.edge_cell_shift]) for m in (first, second)]
    )
    edges, place = np.unique(rows, axis=0, return_inverse=True)
    place = place.reshape(-1)
    difference = np.zeros((len(edges), *first.blocks.shape[1:]))
    n_first = len(first.blocks)
    difference[place[:n_first]] += first.blocks
    difference[place[n_first:]] -= second.blocks
    return edges, difference


def measure_overlap(
    predicted: BlockMatrix, labelled: BlockMatrix, atoms: Atoms
) -> dict[str, dict[str, float]]:
    """Compare overlaps on the existing orbitals.

    Returns:
        "onsite", "intra" and "inter" → "max", "sum" of the absolute differences and "count" of the
        elements.
    """
    edges, difference = subtract_blocks(predicted, labelled)
    layer, counts = atoms.arrays["layer"], predicted.basis.counts(predicted.numbers)
    source, target = edges[:, 0], edges[:, 1]
    onsite = (source == target) & ~edges[:, 2:].any(axis=1)
    same = layer[source] == layer[target]
    elements = counts[source] * counts[target]
    chosen = {"onsite": onsite, "intra": same & ~onsite, "inter": ~same}
    return {
        part: {
            "max": float(np.abs(difference[at]).max(initial=0.0)),
            "sum": float(np.abs(difference[at]).sum()),
            "count": int(elements[at].sum()),
        }
        for part, at in chosen.items()
    }


def measure_bands(
    predictor: ElectronPredictor,
    structure: LabelledStructure,
    from_fermi: bool,
    n_kpoints: int,
    shift: LevelShift | None,
) -> dict[str, Any]:
    """Compare the levels of one structure with those of its labels, and its overlaps.

    Args:
        predictor: with an overlap table.
        structure: with Hamiltonian, overlap and Fermi energy.
        from_fermi: the network counts energies from the Fermi energy of the labels.
        n_kpoints: number of ``choose_kpoints``.
        shift: levels are compared once more with it; None for not.

    Returns:
        "sums": quantity → (3,), see ``compare_pencils``; "states_from_table": (n_states,)
        differences in eV of the labelled H with the table's S; "overlap" of ``measure_overlap``;
        smallest eigenvalues of both overlaps.
    """
    atoms = structure.atoms
    if structure.fermi_energy is None:
        raise DataError(
            message(
                f"structure {structure.name!r}",
                "no Fermi energy",
                "one",
                "Label it; the window needs it.",
            )
        )
    kpoints = choose_kpoints(atoms.cell.array, n_kpoints)
    labelled_h, labelled_s = block_matrices(structure)
    overlap = predictor.overlap(atoms)
    hamiltonian_k, overlap_k = (
        matrix.dense_many(kpoints) for matrix in (predictor.hamiltonian(atoms), overlap)
    )
    reference = compute_bands(labelled_h, labelled_s, kpoints)
    zero = structure.fermi_energy if from_fermi else 0.0
    label_k = labelled_h.dense_many(kpoints)
    bounds = np.array(
        [
            form_bound(label, metric, predicted + zero * metric - label, reference.min())
            for label, metric, predicted in zip(label_k, overlap_k, hamiltonian_k, strict=True)
        ]
    )
    sums = {BOUND: np.array([bounds.sum(), (bounds**2).sum(), len(bounds)])}
    sums |= compare_pencils(
        hamiltonian_k + zero * overlap_k,
        overlap_k,
        None if shift is None else shift(atoms, overlap).dense_many(kpoints),
        reference,
        structure.fermi_energy,
        read_largest_norm(predictor.metadata),
    )
    from_table = compute_bands(labelled_h, overlap, kpoints)
    return {
        "sums": sums,
        "states_from_table": select_errors(
            from_table, reference, structure.fermi_energy, WINDOWS["2ev"]
        ),
        "overlap": measure_overlap(overlap, labelled_s, atoms),
        "smallest_eigenvalue": smallest_overlap_eigenvalue(overlap_k),
        "smallest_eigenvalue_dft": smallest_overlap_eigenvalue(labelled_s.dense_many(kpoints)),
    }


def measure_electron(
    predictor: ElectronPredictor,
    chosen: Chosen,
    from_fermi: bool,
    n_kpoints: int,
    shift: LevelShift | None,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]], dict[str, float]]:
    """Measure an electron network on structures.

    Returns:
        Structure → quantity → sums (3,); structure → what else ``measure_bands`` found; errors of
        the slopes between paired displacements.
    """
    network = predictor.network("cpu", "float32")
    exists = torch.zeros(
        max(predictor.basis.elements) + 1, predictor.basis.max_orbitals, dtype=torch.bool
    )
    exists[list(predictor.basis.elements)] = torch.as_tensor(
        predictor.basis.mask(predictor.basis.elements)
    )
    metric = MetricLoss(**MEASURING)
    paired = {name for pair in find_pairs(chosen) for name in pair}
    sums: dict[str, dict[str, Tensor]] = {}
    blocks, found = {}, {}
    for name, (structure, graph) in chosen.items():
        with torch.no_grad():
            errors = compute_block_errors(network(graph), graph, exists)
            own = sum_blocks(errors)
            own[METRIC] = sum_metric(errors, graph, metric, keep=False)
        sums[name] = {quantity: values[:, 0] for quantity, values in own.items()}
        if name in paired:
            blocks[name] = collect_blocks(errors, graph)
        found[name] = measure_bands(predictor, structure, from_fermi, n_kpoints, shift)
        sums[name] |= {q: torch.from_numpy(v) for q, v in found[name].pop("sums").items()}
    pairs = find_pairs(blocks)
    return sums, found, compare_slopes((blocks[plus], blocks[minus]) for plus, minus in pairs)


def overlap_metrics(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the metrics of overlaps over structures, from what ``measure_bands`` found."""
    states = np.concatenate([result["states_from_table"] for result in found])
    metrics = {"bands_from_table_rms_mev": MILLI * root_mean_square(states)}
    parts = {part: [result["overlap"][part] for result in found] for part in PARTS}
    pieces = {f"overlap_{part}": values for part, values in parts.items()}
    pieces["overlap"] = [value for values in parts.values() for value in values]
    for name, values in pieces.items():
        metrics[f"{name}_max"] = max(piece["max"] for piece in values)
        metrics[f"{name}_mean"] = sum(piece["sum"] for piece in values) / max(
            1, sum(piece["count"] for piece in values)
        )
    for suffix in ("", "_dft"):
        key = f"smallest_eigenvalue{suffix}"
        metrics[f"overlap_{key}"] = min(result[key] for result in found)
    return metrics


def measure_phonon(predictor: PhononPredictor, chosen: Chosen) -> dict[str, dict[str, Tensor]]:
    """Measure a phonon network on structures.

    Returns:
        Structure → "energy" (eV/atom) and "forces" (eV/Å) → sums (3,).
    """
    structures = [structure for structure, _ in chosen.values()]
    energies, forces = predictor.energy_and_forces([structure.atoms for structure in structures])
    sums = {}
    for structure, energy, force in zip(structures, energies, forces, strict=True):
        if structure.energy is None or structure.forces is None:
            raise DataError(
                message(
                    f"structure {structure.name!r}",
                    "no energy or no forces",
                    "both",
                    "Label the structure.",
                )
            )
        differences = {
            "energy": np.array([(energy - structure.energy) / len(structure.atoms)]),
            "forces": force - structure.forces,
        }
        sums[structure.name] = {
            quantity: torch.tensor([np.abs(x).sum(), (x**2).sum(), x.size], dtype=torch.float64)
            for quantity, x in differences.items()
        }
    return sums


def add_sums(sums: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Add the sums of several structures, quantity by quantity."""
    total: dict[str, Tensor] = {}
    for own in sums:
        for quantity, values in own.items():
            total[quantity] = total[quantity] + values if quantity in total else values
    return total


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Return √⟨x²⟩; 0 for nothing."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def choose_structures(data: GraphDataModule, subset: str) -> Chosen:
    """Return structures and graphs of a subset, by name; named test subsets come with "test".

    Raises:
        DataError: the split has no such subset.
    """
    if subset in data.named.test:
        evaluated = data.evaluated()
        return {name: evaluated[name] for name in data.named.test[subset]}
    if subset not in data.structures:
        known = [*data.structures, *data.named.test]
        raise DataError(
            message(str(data.split_path), f"no subset {subset!r}", f"one of {known}", "Choose one.")
        )
    if subset == "test":
        return data.evaluated()
    pairs = zip(data.structures[subset], data.graphs[subset], strict=True)
    return {structure.name: (structure, graph) for structure, graph in pairs}


def open_data(predictor: Any, path: str, split: str, extra: str | None) -> GraphDataModule:
    """Read the data sets that a checkpoint is measured on."""
    trained = predictor.metadata.get("config", {}).get("data", {})
    settings: dict[str, Any] = {
        "path": path,
        "split": split,
        "extra": extra,
        "batch_size": 1,
        "eval_batch_size": 1,
        "n_train": None,
        "cutoffs": predictor.cutoffs,
        "dtype": "float32",
        "seed": 0,
    }
    data: GraphDataModule
    if isinstance(predictor, ElectronPredictor):
        energy_zero = trained.get("energy_zero", "as_computed")
        data = HamiltonianDataModule(energy_zero=energy_zero, overlap_table=None, **settings)
        data.overlap_table = predictor.overlap_table  # for labels without overlaps
    else:
        data = ForcesDataModule(**settings)
    data.prepare()
    return data


def own_level_shift(predictor: ElectronPredictor) -> LevelShift | None:
    """Return what the level shift of a checkpoint adds, None where it has none."""
    parameters = predictor.level_shift
    if parameters is None:
        return None
    return lambda atoms, overlap: shift_matrix(atoms, overlap, parameters)


def measure(
    checkpoint: str | Path,
    path: str | None = None,
    split: str | None = None,
    subset: str = "test",
    extra: str | None = None,
    n_kpoints: int = 3,
    shift: LevelShift | Literal["auto"] | None = AUTO,
) -> dict[str, Any]:
    """Measure a checkpoint of either kind.

    Args:
        checkpoint: file; an electron network needs its overlap table inside.
        path: data set; None for the one of the training.
        split: JSON file; None for the one of the training.
        subset: of the split.
        extra: data set with further test structures; None for the one of the training.
        n_kpoints: number of ``choose_kpoints``, 1 to 5.
        shift: levels are compared once more with it; "auto" is that of the checkpoint, None for
            not.

    Returns:
        "kind", "data", "metrics", "structures" (metrics by structure), "subsets" and "sizes"
        (of ``tabulate``); plain Python data.

    Raises:
        DataError: neither the checkpoint nor the caller names data set and split.
    """
    predictor = load_model(checkpoint)
    trained = predictor.metadata.get("config", {}).get("data", {})
    path, split = path or trained.get("path"), split or trained.get("split")
    if not path or not split:
        raise DataError(
            message(
                str(checkpoint),
                "no data set or split in its metadata",
                "both",
                "Give --data and --split.",
            )
        )
    data = open_data(predictor, path, split, extra or trained.get("extra"))
    chosen = choose_structures(data, subset)
    names = list(chosen)
    own = [structure.name for structure in data.structures.get(subset, ())] or names
    metrics: dict[str, float] = {}
    if isinstance(predictor, ElectronPredictor):
        added = own_level_shift(predictor) if shift == AUTO else shift
        sums, found, slopes = measure_electron(
            predictor, chosen, trained.get("energy_zero") == "fermi", n_kpoints, added
        )
        metrics = overlap_metrics([found[name] for name in own]) | slopes
    else:
        sums = measure_phonon(predictor, chosen)
    compute = METRICS[predictor.kind]

    def measure_some(numbers: Sequence[int]) -> dict[str, float]:
        total = add_sums(sums[names[number]] for number in numbers)
        return {name: float(value) for name, value in compute(total).items()}

    numbers = {name: number for number, name in enumerate(names)}
    atoms = {number: chosen[name][0].atoms for name, number in numbers.items()}
    members = {subset: own} | (data.named.test if subset == "test" else {})
    groups = {name: [numbers[n] for n in of_group] for name, of_group in members.items()}
    used = {"path": data.path.name, "split": data.split_path.name, "subset": subset}
    return {
        "kind": predictor.kind,
        "data": {**used, "n_structures": len(own)},
        "metrics": measure_some(groups[subset]) | metrics,
        "structures": {name: measure_some([number]) for name, number in numbers.items()},
        "subsets": tabulate(groups, atoms, measure_some),
        "sizes": tabulate(group_by_size(atoms), atoms, measure_some),
    }


METRICS = {"electron": electron_metrics, "phonon": phonon_metrics}
"""Kind of network → sums by quantity → metrics."""

COLUMNS = {"electron": ElectronTask.columns, "phonon": PhononTask.columns}


def format_table(result: Mapping[str, Any]) -> str:
    """Return the metrics as a Markdown table with the targets, and those by subset and size."""
    data = result["data"]
    lines = [
        f"{data['n_structures']} structures: subset `{data['subset']}` of `{data['split']}`, data "
        f"`{data['path']}`.",
        "",
        "| quantity | value | target | met |",
        "|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        if name in result["metrics"]:
            value, target = result["metrics"][name], TARGETS.get(name)
            verdict = (
                ("", "")
                if target is None
                else (f"≤ {target:g}", "yes" if value <= target else "**no**")
            )
            lines.append(f"| {label} | {value:.3g} | {verdict[0]} | {verdict[1]} |")
    for title in ("subsets", "sizes"):
        lines += ["", *format_markdown(title, result[title], COLUMNS[result["kind"]])]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, measure and write both files."""
    parser = argparse.ArgumentParser(
        description="Measure a checkpoint on the test subset of its named split."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", help="data set; by default the one of the training")
    parser.add_argument(
        "--split", help="JSON file of the split; by default the one of the training"
    )
    parser.add_argument(
        "--extra", help="further test structures; by default the file of the training"
    )
    parser.add_argument("--subset", default="test", help="train, val, test or a named test subset")
    parser.add_argument("--kpoints", type=int, default=3, choices=range(1, 6))
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/accuracy"),
        help="folder for accuracy.json and accuracy.md",
    )
    chosen = parser.parse_args()
    try:
        result = measure(
            chosen.checkpoint,
            chosen.data,
            chosen.split,
            chosen.subset,
            chosen.extra,
            chosen.kpoints,
        )
    except MlepiError as error:
        sys.exit(f"error: {error}")
    table = format_table(result)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "accuracy.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    (chosen.output / "accuracy.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
