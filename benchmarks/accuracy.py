"""Measure a checkpoint on the test subset of the split it was trained with.

``python benchmarks/accuracy.py CHECKPOINT``.

Writes ``accuracy.json`` (all numbers, also by structure) and ``accuracy.md`` (a table) into the
output folder. Nothing is random.

Electron networks. H: differences of the existing elements of all blocks, raw and gauge-free (per
structure, the shift μ that minimises Σ|ΔH − μS|). Bands: predicted H with the S of the checkpoint's
overlap table against H and S of the data, states that DFT has within ±2 eV of its Fermi energy,
paired by band index at every k; "unaligned" compares energies as they are, "aligned" subtracts one
constant per structure, the mean difference over these states. K' is not listed because E(−k) =
E(k).

Phonon networks. Energy per atom and force components, as they are, in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, MlepiError, message
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices, compute_bands
from mlepi.physics.eigenstates.bloch import smallest_overlap_eigenvalue
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training import ForcesDataModule, HamiltonianDataModule
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.losses import compute_block_errors
from mlepi.training.metrics import MILLI, ErrorSums, least_absolute_shift

WINDOW = 2.0
"""Half width of the window of the bands around the Fermi energy, eV."""

PARTS = ("onsite", "intra", "inter")

TARGETS = {
    "hamiltonian_gauge_free_mae_mev": 1.5,
    "bands_aligned_rms_mev": 15.0,
    "overlap_max": 2e-5,
    "energy_mae_mev_per_atom": 1.0,
    "forces_mae_mev_per_angstrom": 20.0,
}
"""Largest value that a shipped checkpoint should have."""

LABELS = {
    "hamiltonian_mae_mev": "H, MAE (meV)",
    "hamiltonian_gauge_free_mae_mev": "H, gauge-free MAE (meV)",
    "hamiltonian_gauge_free_rmse_mev": "H, gauge-free RMSE (meV)",
    **{f"hamiltonian_{part}_mae_mev": f"H {part}, MAE (meV)" for part in PARTS},
    **{
        f"hamiltonian_{part}_gauge_free_mae_mev": f"H {part}, gauge-free MAE (meV)"
        for part in PARTS
    },
    "bands_aligned_rms_mev": "bands within ±2 eV of E_F, RMS, aligned (meV)",
    "bands_unaligned_rms_mev": "bands within ±2 eV of E_F, RMS, unaligned (meV)",
    "bands_aligned_worst_mev": "bands, largest error of a state, aligned (meV)",
    "bands_from_table_rms_mev": "bands of the DFT H with the table's S, RMS, unaligned (meV)",
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


def choose_kpoints(atoms: Atoms) -> NDArray[np.float64]:
    """Return Γ, K, two M and a generic point of a hexagonal cell: (5, 3), fractional.

    In a supercell these are its own points; K of the primitive cell folds onto one of them.
    """
    obtuse = atoms.cell.angles()[2] > 90.0
    k = (1.0 / 3.0, 1.0 / 3.0, 0.0) if obtuse else (2.0 / 3.0, 1.0 / 3.0, 0.0)
    return np.array([(0.0, 0.0, 0.0), k, (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.137, 0.271, 0.0)])


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


def compare_bands(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], fermi_energy: float
) -> NDArray[np.float64]:
    """Return the differences of the reference's states within the window: (n_states,), eV.

    States are paired by band index.
    """
    return np.asarray((predicted - reference)[np.abs(reference - fermi_energy) <= WINDOW])


def measure_bands(
    predictor: ElectronPredictor, structure: LabelledStructure, from_fermi: bool
) -> dict[str, Any]:
    """Compare the bands of one structure with those of its labels, and its overlaps.

    Args:
        predictor: with an overlap table.
        structure: with Hamiltonian, overlap and Fermi energy.
        from_fermi: the network counts energies from the Fermi energy of the labels.

    Returns:
        "states" → (n_states,) differences in eV, likewise "states_from_table" with the labelled H;
        "overlap" of ``measure_overlap``; smallest eigenvalues of both overlaps.
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
    kpoints = choose_kpoints(atoms)
    labelled_h, labelled_s = block_matrices(structure)
    overlap = predictor.overlap(atoms)
    reference = compute_bands(labelled_h, labelled_s, kpoints)
    bands = compute_bands(predictor.hamiltonian(atoms), overlap, kpoints) + (
        structure.fermi_energy if from_fermi else 0.0
    )
    from_table = compute_bands(labelled_h, overlap, kpoints)
    return {
        "states": compare_bands(bands, reference, structure.fermi_energy),
        "states_from_table": compare_bands(from_table, reference, structure.fermi_energy),
        "overlap": measure_overlap(overlap, labelled_s, atoms),
        "smallest_eigenvalue": smallest_overlap_eigenvalue(overlap.dense_many(kpoints)),
        "smallest_eigenvalue_dft": smallest_overlap_eigenvalue(labelled_s.dense_many(kpoints)),
    }


def measure_hamiltonian(
    predictor: ElectronPredictor, graphs: Iterable[Any]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Compare Hamiltonian blocks with the labels of the graphs, as training does.

    Returns:
        Metrics over all structures, and raw and gauge-free MAE of each structure; meV.
    """
    network = predictor.network("cpu", "float32")
    exists = torch.zeros(
        max(predictor.basis.elements) + 1, predictor.basis.max_orbitals, dtype=torch.bool
    )
    exists[list(predictor.basis.elements)] = torch.as_tensor(
        predictor.basis.mask(predictor.basis.elements)
    )
    gauges = ("", "_gauge_free")
    sums = {
        part + gauge: ErrorSums()
        for part in ("", *(f"_{name}" for name in PARTS))
        for gauge in gauges
    }
    by_structure = []
    for graph in graphs:
        with torch.no_grad():
            errors = compute_block_errors(network(graph), graph, exists)
        own = {gauge: ErrorSums() for gauge in gauges}
        for gauge, chosen in zip(
            gauges, (errors, errors.shifted(least_absolute_shift(errors))), strict=True
        ):
            for part, difference in chosen.difference.items():
                for total in (sums[gauge], sums[f"_{part}{gauge}"], own[gauge]):
                    total.update(difference, chosen.mask[part].sum())
        by_structure.append(
            {
                f"hamiltonian{gauge}_mae_mev": float(total.compute()["mae"])
                for gauge, total in own.items()
            }
        )
    metrics = {
        f"hamiltonian{name}_{key}_mev": float(v)
        for name, total in sums.items()
        for key, v in total.compute().items()
    }
    return metrics, by_structure


def measure_electron(
    predictor: ElectronPredictor, data: HamiltonianDataModule, subset: str
) -> dict[str, Any]:
    """Measure an electron network on a subset.

    "metrics" over all structures and "structures" → those of each.
    """
    metrics, by_structure = measure_hamiltonian(predictor, data.graphs[subset])
    parts: dict[str, list[Any]] = {part: [] for part in PARTS}
    found = []
    for structure, own in zip(data.structures[subset], by_structure, strict=True):
        result = measure_bands(predictor, structure, data.energy_zero == "fermi")
        found.append(result)
        states = result["states"]
        own["n_states"] = len(states)
        own["bands_shift_mev"] = MILLI * float(states.mean())
        own["bands_aligned_rms_mev"] = MILLI * float(states.std())
        own["bands_unaligned_rms_mev"] = MILLI * root_mean_square(states)
        own["overlap_max"] = max(part["max"] for part in result["overlap"].values())
        own["overlap_smallest_eigenvalue"] = result["smallest_eigenvalue"]
        for part in PARTS:
            parts[part].append(result["overlap"][part])
    aligned = np.concatenate([result["states"] - result["states"].mean() for result in found])
    metrics |= {
        "bands_aligned_rms_mev": MILLI * root_mean_square(aligned),
        "bands_aligned_worst_mev": MILLI * float(np.abs(aligned).max()),
        "bands_unaligned_rms_mev": MILLI
        * root_mean_square(np.concatenate([result["states"] for result in found])),
        "bands_from_table_rms_mev": MILLI
        * root_mean_square(np.concatenate([result["states_from_table"] for result in found])),
        "bands_n_states": float(len(aligned)),
    }
    sums = {f"overlap_{part}": values for part, values in parts.items()}
    sums["overlap"] = [value for values in parts.values() for value in values]
    for name, pieces in sums.items():
        metrics[f"{name}_max"] = max(piece["max"] for piece in pieces)
        metrics[f"{name}_mean"] = sum(piece["sum"] for piece in pieces) / max(
            1, sum(piece["count"] for piece in pieces)
        )
    metrics["overlap_smallest_eigenvalue"] = min(result["smallest_eigenvalue"] for result in found)
    metrics["overlap_smallest_eigenvalue_dft"] = min(
        result["smallest_eigenvalue_dft"] for result in found
    )
    names = [structure.name for structure in data.structures[subset]]
    return {"metrics": metrics, "structures": dict(zip(names, by_structure, strict=True))}


def measure_phonon(
    predictor: PhononPredictor, data: GraphDataModule, subset: str
) -> dict[str, Any]:
    """Measure a phonon network on a subset.

    "metrics" over all structures and "structures" → those of each.
    """
    structures = data.structures[subset]
    energies, forces = predictor.energy_and_forces([structure.atoms for structure in structures])
    energy_sums, force_sums = ErrorSums(), ErrorSums()
    by_structure = {}
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
        energy_error = torch.as_tensor((energy - structure.energy) / len(structure.atoms))
        force_error = torch.as_tensor(force - structure.forces)
        energy_sums.update(energy_error)
        force_sums.update(force_error)
        by_structure[structure.name] = {
            "energy_error_mev_per_atom": MILLI * float(energy_error),
            "forces_mae_mev_per_angstrom": MILLI * float(force_error.abs().mean()),
        }
    metrics = {
        f"energy_{name}_mev_per_atom": float(value) for name, value in energy_sums.compute().items()
    }
    metrics |= {
        f"forces_{name}_mev_per_angstrom": float(value)
        for name, value in force_sums.compute().items()
    }
    return {"metrics": metrics, "structures": by_structure}


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Return √⟨x²⟩; 0 for nothing."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def measure(
    checkpoint: str | Path, path: str | None = None, split: str | None = None, subset: str = "test"
) -> dict[str, Any]:
    """Measure a checkpoint of either kind.

    Args:
        checkpoint: file; an electron network needs its overlap table inside.
        path: data set; None for the one of the training.
        split: JSON file; None for the one of the training.
        subset: of the split.

    Returns:
        "kind", "data", "metrics" and "structures" (metrics by structure); plain Python data.

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
    settings: dict[str, Any] = {
        "path": path,
        "split": split,
        "batch_size": 1,
        "eval_batch_size": 1,
        "n_train": None,
    }
    settings |= {"cutoffs": predictor.cutoffs, "dtype": "float32", "seed": 0}
    data: GraphDataModule
    if isinstance(predictor, ElectronPredictor):
        data = HamiltonianDataModule(
            energy_zero=trained.get("energy_zero", "as_computed"), overlap_table=None, **settings
        )
        data.prepare()
        found = measure_electron(predictor, data, subset)
    else:
        data = ForcesDataModule(**settings)
        data.prepare()
        found = measure_phonon(predictor, data, subset)
    used = {
        "path": data.path.name,
        "split": data.split_path.name,
        "subset": subset,
        "n_structures": len(found["structures"]),
    }
    return {"kind": predictor.kind, "data": used, **found}


def format_table(result: Mapping[str, Any]) -> str:
    """Return the metrics as a Markdown table with the targets."""
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
    parser.add_argument("--subset", default="test", choices=("train", "val", "test"))
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/accuracy"),
        help="folder for accuracy.json and accuracy.md",
    )
    chosen = parser.parse_args()
    try:
        result = measure(chosen.checkpoint, chosen.data, chosen.split, chosen.subset)
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
