"""Errors of the shipped networks on trilayer graphene, by themselves and from pairs of layers.

``python benchmarks/trilayer.py [CHECKPOINT …]``: the DFT label ``trilayer2_0``, undisplaced, in no
training. H as ``mlepi eval`` measures it, gauge-free, by kind of block, beside the label as it is
and with the potentials between layers that its k-mesh lacks; forces and energies as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi import load_model
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.block_pairs import align_matrices
from mlepi.graphs.own_labels import complete_labels
from mlepi.predictors import LayerPairs, LayerPairsCalculator
from mlepi.structures import HamiltonianDataset, get_layers, read_forces_dataset
from mlepi.structures.layer_potentials import read_layer_potentials

ROOT = Path(__file__).resolve().parents[1]
DATA, CHECKPOINTS = ROOT / "data" / "blg_openmx", ROOT / "data" / "checkpoints"
LABEL = "trilayer2_0"
APART = (3.6, 3.8, 3.95)
"""Å, of a layer and its copy."""


def find_shift(change: NDArray[np.float64], overlap: NDArray[np.float64]) -> float:
    """Return μ that minimises Σ|ΔH − μS|: the median of ΔH/S, weighed by |S|."""
    used = np.abs(overlap) > 1e-9
    ratio, weight = change[used] / overlap[used], np.abs(overlap[used])
    order = np.argsort(ratio)
    summed = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(summed, 0.5 * summed[-1])])


def list_hamiltonian_rows(checkpoints: Iterable[Path]) -> Iterator[str]:
    """Yield a row per network, way and label."""
    stored = HamiltonianDataset(DATA / "hamiltonians.h5")[LABEL]
    layer = get_layers(stored.atoms)
    potentials = read_layer_potentials(DATA / "layer_potentials.json")
    for path in checkpoints:
        model = load_model(path, kind="electron")
        labels = {"as it is": complete_labels(stored, model)}
        labels["with potentials"] = complete_labels(stored, model, potentials)
        ways = {"by itself": model}
        ways |= {f"pairs, {d} Å": LayerPairs(model=model, apart=d) for d in APART}
        for way, predictor in ways.items():
            found = predictor.hamiltonian(stored.atoms)
            for name, label in labels.items():
                (j, i), shift, (h, s, predicted) = align_matrices([*block_matrices(label), found])
                change = predicted - h
                error = 1e3 * np.abs(change - find_shift(change.ravel(), s.ravel()) * s)
                on_site = (i == j) & (shift == 0).all(axis=1)
                inside = (layer[i] == layer[j]) & ~on_site
                parts = (error, error[on_site], error[inside], error[~on_site & ~inside])
                means = " | ".join(f"{part.mean():.3g}" for part in parts)
                yield f"| {path.stem} | {way} | {name} | {means} |"


def list_force_rows() -> Iterator[str]:
    """Yield a row per network and way."""
    structures = read_forces_dataset(DATA / "forces.extxyz")
    label = next(each for each in structures if each.name == LABEL)
    assert label.forces is not None
    assert label.energy is not None
    for path in sorted(CHECKPOINTS.glob("hedgenet_phonon*.ckpt")):
        model = load_model(path, kind="phonon")
        ways = {"by itself": model.calculator()}
        ways |= {f"pairs, {d} Å": LayerPairsCalculator(model=model, apart=d) for d in APART}
        for way, calculator in ways.items():
            atoms = label.atoms.copy()
            atoms.calc = calculator
            forces = 1e3 * np.abs(atoms.get_forces() - label.forces).mean()
            energy = 1e3 * abs(atoms.get_potential_energy() - label.energy) / len(atoms)
            yield f"| {path.stem} | {way} | {forces:.2f} | {energy:.2f} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Errors of networks on trilayer graphene.")
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="*",
        default=sorted(CHECKPOINTS.glob("hedgenet_electron*.ckpt")),
        help="of electron networks; the shipped ones by default",
    )
    chosen = parser.parse_args()
    print("| network | H | label | all (meV) | on-site | within a layer | between layers |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(list_hamiltonian_rows(chosen.checkpoints)))
    print("\n| network | forces and energy | forces, MAE (meV/Å) | energy (meV/atom) |")
    print("|---|---|---|---|")
    print("\n".join(list_force_rows()))


if __name__ == "__main__":
    main()
