"""Compute what a denser k-mesh changes in the labels' H: the potentials between their layers.

``python data/blg_openmx/make_layer_potentials.py [NAME …]`` writes ``layer_potentials.json``: per
structure of ``hamiltonians.h5``, and layer, the potential energy that H lacks of self-consistency
on a mesh with three times the divisions (``mlepi.graphs.layer_charges``). H is that of the label;
nothing is fitted. A run that was stopped goes on where it was. ``--check`` compares the method with
three structures that OpenMX has computed on twice the mesh (``dense_site_energies.json``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from make import HERE
from make_mesh_correction import FACTOR, TEMPERATURE, VALENCE

from mlepi.errors import MlepiError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.layer_charges import (
    count_layer_charges,
    plane_interaction,
    screened_potentials,
    site_energies,
)
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.eigenstates.bloch import count_valence_electrons
from mlepi.physics.overlaps import read_overlap_table
from mlepi.project_files import write_json
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure

RESULTS = HERE / "layer_potentials.json"
CHECKED = HERE / "dense_site_energies.json"
ABOUT = (
    "potential energies of the layers (eV, from layer 0 on, mean 0) that H of a label lacks of "
    f"self-consistency on {FACTOR} times its k-mesh, and electrons by layer on both meshes"
)


def main(only: list[str]) -> None:
    """Compute what is not there yet, one structure after the other."""
    dataset = HamiltonianDataset(HERE / "hamiltonians.h5")
    table = read_overlap_table(HERE / "overlap_C6.0-s2p2.h5")
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    done: dict[str, Any] = stored.get("structures", {})
    names = only or list(dataset.names)
    start = time.monotonic()
    for n, name in enumerate(names):
        if name in done:
            continue
        found = examine(complete_overlaps(dataset[name], table))
        done[name] = found
        write_json(RESULTS, {"about": ABOUT, "structures": dict(sorted(done.items()))})
        values = ", ".join(f"{1e3 * value:+.1f}" for value in found["potentials"])
        print(f"{n + 1}/{len(names)} {name}: {values} meV, {time.monotonic() - start:.0f} s")
        sys.stdout.flush()


def check() -> None:
    """Print what twice the mesh changes, as predicted and by OpenMX; a row per structure."""
    dataset = HamiltonianDataset(HERE / "hamiltonians.h5")
    table = read_overlap_table(HERE / "overlap_C6.0-s2p2.h5")
    for name, dense in json.loads(CHECKED.read_text())["structures"].items():
        labels = complete_overlaps(dataset[name], table)
        found = examine(labels, factor=2)["potentials"]
        layers = labels.atoms.arrays["layer"]
        change = 1e3 * (np.array(dense["site_energies"]) - site_energies(block_matrices(labels)[0]))
        steps = change[layers == 0].mean() - change[layers == 1].mean()
        inside = [change[layers == n].std() for n in (0, 1)]
        print(
            f"| `{name}` | {1e3 * (found[0] - found[1]):+.1f} meV | {steps:+.1f} meV | "
            f"{inside[0]:.1f}, {inside[1]:.1f} meV |",
            flush=True,
        )


def examine(labels: LabelledStructure, factor: int = FACTOR) -> dict[str, Any]:
    """Return potentials and charges of the layers of one structure, as plain data.

    Args:
        labels: with overlaps.
        factor: of the divisions of the dense mesh over those of the label.
    """
    hamiltonian, overlap = block_matrices(labels)
    layers, mesh = labels.atoms.arrays["layer"], list(labels.provenance["kgrid"])
    n_electrons = count_valence_electrons(labels.atoms.numbers, VALENCE)
    dense = [factor * n if n > 1 or k < 2 else 1 for k, n in enumerate(mesh)]
    charges = [
        count_layer_charges(hamiltonian, overlap, layers, each, n_electrons, TEMPERATURE)
        for each in (mesh, dense)
    ]
    potentials = screened_potentials(plane_interaction(labels.atoms, layers), *charges)
    return {
        "potentials": [round(float(value), 6) for value in potentials],
        "electrons": [np.round(each.electrons, 6).tolist() for each in charges],
        "mesh": mesh,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help="of structures; default: all")
    parser.add_argument("--check", action="store_true", help="with dense_site_energies.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        check() if options.check else main(options.names)
    except MlepiError as error:
        sys.exit(str(error))
