"""Who is wrong about the potential between layers: the network, or the k-mesh of its labels.

``python benchmarks/layer_potentials.py [CHECKPOINT] [--split SPLIT] [--subsets …] [--name …]``.

The labels' H is self-consistent on a k-mesh that is coarse for a semimetal, and lacks a potential
between the layers that ``data/blg_openmx/layer_potentials.json`` has computed from H and S of the
label alone (``mlepi.graphs.layer_charges``); no network was asked. Here a network is compared with
the labels as they are and with the potentials added. Per structure: what the mesh lacks, and what
the network differs by, of the difference between the mean site energies of both layers; levels
within 2 eV of E_F at Γ, K and a general k-point of its cell, RMS and RMS less the median.

A network that was trained on labels as they are tells whether the potentials are right; one that
was trained with them, what became of it. Prints a table and writes ``NAME.md`` and ``NAME.json``
(``layer_potentials``) into the output folder. Nothing is random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import MlepiError
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.layer_charges import add_layer_potentials, site_energies
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.graphs.own_labels import trained_data
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.predictors import ElectronPredictor
from mlepi.project_files import write_json, write_whole
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.layer_potentials import read_layer_potentials
from mlepi.structures.splits import read_named_subsets, read_split
from mlepi.training.level_errors import select_errors

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "blg_openmx"
CHECKPOINT = ROOT / "data" / "checkpoints" / "hedgenet_electron.ckpt"
SPLIT = DATA / "splits" / "shapes_81_09_10.json"
SUBSETS = ("test", "thermal4", "sample6", "twist21")
KPOINTS = ((0.0, 0.0, 0.0), (1 / 3, 1 / 3, 0.0), (0.137, 0.271, 0.0))
WINDOW = (-2.0, 2.0)
"""eV from the Fermi energy of the label."""
FEW = 5
"""Subsets of more structures are summarized without their worst one too."""


def main(checkpoint: Path, split: Path, subsets: list[str], output: Path, stem: str) -> None:
    """Compare a network with the labels of named subsets, without and with the potentials."""
    model = load_model(checkpoint)
    if not isinstance(model, ElectronPredictor):
        sys.exit(f"{checkpoint}: a {model.kind} network; give an electron network")
    potentials = read_layer_potentials(DATA / "layer_potentials.json")
    dataset = HamiltonianDataset(DATA / "hamiltonians.h5")
    names = {**read_split(split, dataset.names), **read_named_subsets(split).test}
    rows = []
    for subset in subsets:
        for name in names[subset]:
            if name in potentials and name in dataset.names:
                found = compare(model, dataset, name, potentials[name])
                rows.append({"subset": subset, "name": name, **found})
                print(_write_row(rows[-1]), flush=True)
    added = trained_data(model).get("layer_potentials")
    trained = "labels with the potentials" if added else "labels as they are"
    text = write_markdown(f"{checkpoint.name}, trained on {trained}", rows)
    output.mkdir(parents=True, exist_ok=True)
    found = {"checkpoint": checkpoint.name, "trained_on": trained, "rows": rows}
    write_json(output / f"{stem}.json", found)
    write_whole(output / f"{stem}.md", text)
    print(text)


def compare(
    model: ElectronPredictor, dataset: HamiltonianDataset, name: str, missing: NDArray[np.float64]
) -> dict[str, Any]:
    """Return what is measured of one structure; energies in meV.

    Args:
        model: electron network.
        dataset: of labels.
        name: of the structure.
        missing: (n_layers,) eV, potentials that the label lacks.
    """
    structure = dataset[name]
    atoms, layers = structure.atoms, structure.atoms.arrays["layer"]
    overlap = model.overlap(atoms)
    label, _ = block_matrices(complete_overlaps(structure, model.require_table()))
    predicted = model.hamiltonian(atoms)
    steps = [site_step(each, layers) for each in (label, predicted)]
    errors = {"label": [], "dense": []}
    for key, reference in (
        ("label", label),
        ("dense", add_layer_potentials(label, overlap, layers, missing)),
    ):
        for kpoint in np.array(KPOINTS):
            metric = overlap.dense(kpoint)
            levels = [
                solve_bands(matrix.dense(kpoint), metric)[None] for matrix in (predicted, reference)
            ]
            errors[key].append(select_errors(*levels, float(structure.fermi_energy or 0.0), WINDOW))
    found: dict[str, Any] = {
        "mesh": 1e3 * float(missing[0] - missing[-1]),
        "network": 1e3 * (steps[1] - steps[0]),
        "n_levels": int(sum(map(len, errors["label"]))),
    }
    for key, parts in errors.items():
        x = 1e3 * np.concatenate(parts)
        found[key] = _rms(x)
        found[f"{key}_aligned"] = _rms(x - np.median(x)) if len(x) else 0.0
    return found


def site_step(matrix: BlockMatrix, layers: NDArray[np.int64]) -> float:
    """Return the mean site energy of the first layer less that of the last, eV."""
    sites = site_energies(matrix)
    return float(sites[layers == 0].mean() - sites[layers == layers.max()].mean())


def write_markdown(checkpoint: str, rows: Iterable[dict[str, Any]]) -> str:
    """Return the page of results."""
    rows = list(rows)
    lines = [
        "# The potential between layers",
        "",
        f"`python benchmarks/layer_potentials.py`, {checkpoint}. Mean site energy of one layer",
        "less that of the other (meV): what the k-mesh of the label lacks, computed from the label",
        "alone, and what the network differs from the label by. Levels within 2 eV of E_F, RMS /",
        "RMS less the median (meV), against the label as it is and with the potential added.",
        "",
        "| subset | structure | mesh lacks | network differs | levels, label | levels, dense |",
        "|---|---|---|---|---|---|",
        *map(_write_row, rows),
        "",
    ]
    for subset in dict.fromkeys(row["subset"] for row in rows):
        some = [row for row in rows if row["subset"] == subset]
        lines.append(f"- {subset}, {len(some)} structures: {_summarize(some)}")
        if len(some) > FEW:
            worst = max(some, key=lambda row: row["n_levels"] * row["dense"] ** 2)
            rest = [row for row in some if row is not worst]
            lines.append(f"  - without its worst, {worst['name']}: {_summarize(rest)}")
    return "\n".join([*lines, ""])


def _summarize(rows: list[dict[str, Any]]) -> str:
    """Return the root mean squares of some structures in words."""
    mesh, network = (np.array([row[key] for row in rows]) for key in ("mesh", "network"))
    counts = np.array([row["n_levels"] for row in rows])

    def pool(key: str) -> float:
        squares = np.array([row[key] for row in rows]) ** 2
        return float(np.sqrt((squares * counts).sum() / max(1, counts.sum())))

    return (
        f"network less label {_rms(network):.1f} meV RMS, "
        f"network less label on the dense mesh {_rms(network - mesh):.1f}; levels "
        f"{pool('label'):.2f} / {pool('label_aligned'):.2f} against the labels, "
        f"{pool('dense'):.2f} / {pool('dense_aligned'):.2f} on the dense mesh"
    )


def _write_row(row: dict[str, Any]) -> str:
    told = [f"{row[key]:.1f} / {row[f'{key}_aligned']:.1f}" for key in ("label", "dense")]
    return (
        f"| {row['subset']} | {row['name']} | {row['mesh']:+.1f} | {row['network']:+.1f} | "
        f"{told[0]} | {told[1]} |"
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--subsets", nargs="+", default=list(SUBSETS))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--name", default="layer_potentials", help="of the files")
    options = parser.parse_args()
    try:
        main(options.checkpoint, options.split, options.subsets, options.output, options.name)
    except MlepiError as error:
        sys.exit(str(error))
