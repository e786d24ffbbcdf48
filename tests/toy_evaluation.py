"""Checkpoints of tiny networks, and labels that differ from their predictions in a known way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from tiny_networks import (
    BASIS,
    CUTOFFS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)

from mlepi.checkpoint import load_model, save_checkpoint, stamp
from mlepi.graphs.block_matrix import BlockMatrix, compute_bands
from mlepi.graphs.block_pairs import align_matrices
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import NamedSubsets, write_split

VERSIONS = {"mlepi": "0", "python": "3"}
NAMES = ("a", "b", "c")


def write_checkpoint(path, kind, data, table=True, **metadata):
    """Write the tiny network of a kind; its metadata name the data."""
    extra = (
        {"basis": BASIS, "overlap_table": gaussian_overlap_table() if table else None}
        if kind == "electron"
        else {}
    )
    told = {"config": {"data": data}, "seed": 1, "commit": "abc-modified", "versions": VERSIONS}
    described = stamp(kind, build_config(kind), CUTOFFS, metadata={**told, **metadata}, **extra)
    save_checkpoint(path, described, build_network(kind).state_dict())


def bilayers(names=NAMES, scale=0.02, carbon=True):
    """Yield names and distorted bilayers, of carbon alone or of carbon and nitrogen."""
    for number, name in enumerate(names):
        atoms = corrugated_bilayer()
        if carbon:
            atoms.numbers[:] = 6
        noise = np.random.default_rng(number).normal(scale=scale, size=atoms.positions.shape)
        atoms.positions += noise
        yield name, atoms


def label(predictor, name, atoms, change) -> LabelledStructure:
    """Return labels that are what a network predicts, changed.

    Args:
        change: of the blocks of H and S on all pairs: (H, S) → what is added to H, symmetrised.
    """
    matrices = [predictor.hamiltonian(atoms), predictor.overlap(atoms)]
    index, shift, (h, s) = align_matrices(matrices)
    blocks = h + change(h, s)
    h, s = (BlockMatrix(atoms.numbers, BASIS, index, shift, x).symmetrised() for x in (blocks, s))
    fermi = float(np.median(compute_bands(h, s, [[0, 0, 0]])))
    return LabelledStructure(
        name, atoms, BASIS, index, shift, h.blocks, s.blocks, fermi_energy=fermi
    )


def write_labels(folder: Path, labelled, split, named=None):
    """Write a data set of Hamiltonians and its split into a folder."""
    write_hamiltonian_dataset(folder / "h.h5", labelled, {})
    write_split(folder / "split.json", split, {}, NamedSubsets(test=named or {}))


def without_overlaps(structure: LabelledStructure) -> LabelledStructure:
    """Return a structure with its Hamiltonian alone."""
    return replace(structure, overlap_blocks=None)


def raised_electron(folder: Path, shift: float) -> Path:
    """Write e.ckpt and labels in h.h5 that are its own matrices with all energies raised."""
    data = {
        "path": str(folder / "h.h5"),
        "split": str(folder / "split.json"),
        "energy_zero": "as_computed",
    }
    write_checkpoint(folder / "e.ckpt", "electron", data)
    predictor = load_model(folder / "e.ckpt")
    labelled = [label(predictor, name, atoms, lambda h, s: shift * s) for name, atoms in bilayers()]
    write_labels(folder, labelled, {"train": ["a"], "val": ["b"], "test": ["c"]})
    return folder
