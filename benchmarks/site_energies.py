"""How long-ranged the errors of site energies are: what a local network cannot know.

``python benchmarks/site_energies.py [CHECKPOINT …] [--split SPLIT] [--subsets NAME …]``.

The site energy of an atom is the mean diagonal element of its own block of H, its error that of the
network less the label, with the energy zero of the structure (μS, fitted over all blocks) taken
out. Errors ε_i at positions r_i of one structure have the amplitudes

    ε(q) = N^(−1/2) Σ_i ε_i exp(−i q·r_i)

at the wave vectors q of its cell. Errors that know nothing of each other have the same mean |ε(q)|²
at every q, their variance. A network sees no further than its receptive field R; a part of H that
comes from further away (the slowly varying potential of displaced charge) can only be missed at
q < 1/R, where the mean then rises. Both layers in phase (a common potential) and in antiphase (a
potential step between them) are told apart; q = 0 of the first is the energy zero and left out.

Writes ``site_energies.json``, ``site_energies.md`` and ``site_energies.png`` into the output
folder. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import MlepiError
from mlepi.figures import BLUE, COLUMN, GREY, RED, house_style, new_figure, save_figure
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.block_pairs import align_matrices
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.predictors import ElectronPredictor
from mlepi.project_files import find_file
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import read_named_subsets, read_split

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "data" / "checkpoints"
DATA = "data/blg_openmx/hamiltonians.h5"
SPLIT = "data/blg_openmx/splits/shapes_81_09_10.json"
SUBSETS = ("thermal3", "shape", "thermal4", "sample6", "twist21", "twist13")
"""Test subsets whose structures are joined."""

EDGES = (0.0, 0.01, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)
"""1/Å, of the bins of |q|; the first one holds q = 0 alone."""


class Waves(NamedTuple):
    """Amplitudes of one structure.

    Attributes:
        lengths: (n_waves,), |q|, 1/Å.
        powers: "in phase", "antiphase" → (n_waves,), |ε(q)|², eV²; of both layers together, and of
            the upper one with the opposite sign.
    """

    lengths: NDArray[np.float64]
    powers: dict[str, NDArray[np.float64]]


def measure_site_errors(
    predictor: ElectronPredictor, structure: LabelledStructure
) -> NDArray[np.float64]:
    """Return the errors of the site energies of a structure with H and S, (n_atoms,), eV."""
    labelled, overlap = block_matrices(structure)
    predicted = predictor.hamiltonian(structure.atoms)
    (source, target), shift, (label, s, found) = align_matrices([labelled, overlap, predicted])
    difference = found - label
    difference = difference - np.sum(difference * s) / np.sum(s * s) * s
    onsite = (source == target) & ~shift.any(axis=1)
    exists = labelled.basis.mask(labelled.numbers)[target[onsite]]
    diagonals = np.diagonal(difference[onsite], axis1=1, axis2=2)
    errors = np.empty(len(structure.atoms))
    errors[target[onsite]] = np.sum(diagonals * exists, axis=1) / exists.sum(axis=1)
    return errors


def list_waves(cell: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Return the wave vectors of a slab cell up to a length, one of ±q, (n, 3), 1/Å.

    Args:
        cell: (3, 3), rows, Å; only the first two repeat.
        longest: 1/Å.
    """
    reciprocal = 2.0 * np.pi * np.linalg.inv(cell).T[:2]
    reach = int(np.ceil(longest * np.linalg.norm(cell[:2], axis=1).max() / (2.0 * np.pi)))
    numbers = np.array(
        [
            (m, n)
            for m in range(reach + 1)
            for n in range(-reach, reach + 1)
            if m > 0 or n >= 0  # the other half is −q
        ]
    )
    waves = numbers @ reciprocal
    return np.asarray(waves[np.linalg.norm(waves, axis=1) <= longest])


def transform(
    errors: NDArray[np.float64],
    positions: NDArray[np.float64],
    layers: NDArray[np.int64],
    cell: NDArray[np.float64],
    longest: float = EDGES[-1],
) -> Waves:
    """Return |ε(q)|² of the errors of one structure.

    Args:
        errors: (n_atoms,), eV.
        positions: (n_atoms, 3), Å.
        layers: (n_atoms,), from 0; every second layer has the opposite sign in "antiphase".
        cell: (3, 3), rows, Å.
        longest: 1/Å, of the waves.
    """
    waves = list_waves(cell, longest)
    phases = np.exp(-1j * positions @ waves.T)
    signs = 1.0 - 2.0 * (layers % 2)
    powers = {
        name: np.abs(values @ phases) ** 2 / len(errors)
        for name, values in (("in phase", errors), ("antiphase", signs * errors))
    }
    lengths = np.linalg.norm(waves, axis=1)
    powers["in phase"][lengths < EDGES[1]] = np.nan  # the energy zero
    return Waves(lengths, powers)


def bin_waves(found: Sequence[Waves]) -> dict[str, list[list[float]]]:
    """Join structures: per kind and bin of |q| the mean |q|, RMS amplitude (eV) and number."""
    lengths = np.concatenate([waves.lengths for waves in found])
    table: dict[str, list[list[float]]] = {}
    for kind in ("in phase", "antiphase"):
        powers = np.concatenate([waves.powers[kind] for waves in found])
        rows = []
        for low, high in pairwise(EDGES):
            chosen = (lengths >= low) & (lengths < high) & np.isfinite(powers)
            if chosen.any():
                rms = float(np.sqrt(powers[chosen].mean()))
                rows.append([float(lengths[chosen].mean()), rms, int(chosen.sum())])
        table[kind] = rows
    return table


def read_structures(
    predictor: ElectronPredictor, data: str, split: str, subsets: Iterable[str]
) -> list[LabelledStructure]:
    """Return the structures of some named test subsets, with overlaps."""
    dataset, path = HamiltonianDataset(find_file("data", data)), find_file("split", split)
    read_split(path, dataset.names)
    named = read_named_subsets(path).test
    names = [name for subset in subsets for name in named.get(subset, [])]
    return [complete_overlaps(dataset[name], predictor.overlap_table) for name in names]


def measure(
    predictor: ElectronPredictor, structures: Sequence[LabelledStructure]
) -> dict[str, Any]:
    """Return the binned amplitudes and the RMS of the site errors of one network."""
    errors = [measure_site_errors(predictor, structure) for structure in structures]
    waves = [
        transform(one, s.atoms.positions, s.atoms.arrays["layer"], s.atoms.cell.array)
        for one, s in zip(errors, structures, strict=True)
    ]
    rms = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    return {"rms": rms, "n_structures": len(structures), "waves": bin_waves(waves)}


def write_markdown(results: Mapping[str, Any]) -> str:
    """Return the tables."""
    lines = [
        "# Errors of site energies by wave vector",
        "",
        "`python benchmarks/site_energies.py`; what the columns are is told there. Errors without",
        "correlation between atoms have the same amplitude everywhere.",
        "",
    ]
    for name, found in results.items():
        lines += [
            f"## {name}",
            f"{found['n_structures']} structures of tests, RMS of all site energies "
            f"{1e3 * found['rms']:.2f} meV.",
            "",
            "| \\|q\\| (1/Å) | layers in phase: RMS amplitude (meV) | in antiphase | waves |",
            "|---|---|---|---|",
        ]
        both = {kind: {row[2]: row for row in rows} for kind, rows in found["waves"].items()}
        for length, rms, number in found["waves"]["antiphase"]:
            common = both["in phase"].get(number)
            shown = "–" if length < EDGES[1] or common is None else f"{1e3 * common[1]:.2f}"
            lines.append(f"| {length:.2f} | {shown} | {1e3 * rms:.2f} | {number} |")
        lines.append("")
    return "\n".join(lines)


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Draw the amplitudes of all networks."""
    with house_style():
        figure = new_figure(COLUMN, 0.75 * COLUMN)
        axes = figure.add_subplot()
        for found in results.values():
            for kind, colour in (("in phase", BLUE), ("antiphase", RED)):
                rows = np.array(found["waves"][kind])
                axes.plot(rows[:, 0], 1e3 * rows[:, 1], "o-", color=colour)
            axes.axhline(1e3 * found["rms"], color=GREY, linewidth=0.6, zorder=0)
        axes.plot([], [], "o-", color=BLUE, label="layers in phase")
        axes.plot([], [], "o-", color=RED, label="in antiphase")
        axes.plot([], [], color=GREY, linewidth=0.6, label="no correlation")
        axes.set_xlabel("|q| (1/Å)")
        axes.set_ylabel("error of site energies, RMS amplitude (meV)")
        axes.set_ylim(bottom=0.0)
        axes.legend()
        save_figure(figure, folder, "site_energies")


def main() -> None:
    """Read the command line, measure and write the files."""
    parser = argparse.ArgumentParser(description="Errors of site energies by wave vector.")
    parser.add_argument(
        "checkpoints", nargs="*", type=Path, help="electron networks; the shipped ones by default"
    )
    parser.add_argument("--data", default=DATA, help="data set")
    parser.add_argument("--split", default=SPLIT, help="JSON file with named test subsets")
    parser.add_argument("--subsets", nargs="+", default=SUBSETS, help="of the split")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    files = options.checkpoints or sorted(CHECKPOINTS.glob("hedgenet_electron*.ckpt"))
    results = {}
    try:
        for file in files:
            predictor: Any = load_model(file, kind="electron")
            structures = read_structures(predictor, options.data, options.split, options.subsets)
            results[file.stem] = measure(predictor, structures)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    options.output.mkdir(parents=True, exist_ok=True)
    text = write_markdown(results)
    (options.output / "site_energies.md").write_text(text, encoding="utf-8")
    (options.output / "site_energies.json").write_text(
        json.dumps(results, indent=1) + "\n", encoding="utf-8"
    )
    draw(results, options.output)
    print(text)


if __name__ == "__main__":
    main()
