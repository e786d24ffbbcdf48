"""DeePTB's part of ``originals.py``: our structures in its format, its options, its training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import chemical_symbols
from omegaconf import DictConfig
from originals_trainings import (
    BLOCKS,
    ROOT,
    Plan,
    TrainingError,
    follow_training,
)
from workers.curves import read_curve

from mlepi.errors import message
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.project_files import write_json
from mlepi.structures.basis import SHELL_LETTERS
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import read_split

RECIPE = {
    "optimizer": {"type": "Adam", "lr": 0.005},
    "lr_scheduler": {"type": "rop", "factor": 0.8, "patience": 50, "min_lr": 1e-6},
    "loss_options": {
        "train": {"method": "hamil_abs", "onsite_shift": True},
        "validation": {"method": "hamil_abs", "onsite_shift": True},
    },
}
"""What its manual gives, with its loss that ignores the zero of energy."""
EMBEDDING = {
    "n_radial_basis": 18,
    "env_embed_multiplicity": 10,
    "latent_dim": 64,
    "latent_channels": [32],
    "tp_radial_emb": True,
    "tp_radial_channels": [32],
}
"""What its manual gives besides widths, layers and cutoff."""
SUMMARY = "summary.json"
"""File of what DeePTB's options need of the training subset."""
NEVER = 10**9
"""Steps between two things that are to happen at the ends of epochs alone."""


def train_deeptb(plan: Plan, python: Path, method: str) -> dict[str, Any]:
    """Train DeePTB by its own command, and return its side.

    Args:
        plan: of all trainings.
        python: interpreter of its environment.
        method: "lem" or "slem".
    """
    if not python.exists():
        got, fix = f"no interpreter {python}", "docs/reproduction.md says how it is made."
        raise TrainingError(message("--deeptb", got, "the environment of DeePTB", fix))
    config = plan.compose(BLOCKS)
    folder = plan.training_folder(f"deeptb_{method}", int(config.optimizer.max_epochs))
    data = plan.folder.resolve() / ("deeptb_data_quick" if plan.quick else "deeptb_data")
    if not (data / SUMMARY).is_file():
        write_folders(config, data)
    folder.mkdir(parents=True, exist_ok=True)
    options = deeptb_options(config, plan.seed, data, method)
    write_json(folder / "input.json", options)
    if not (folder / "test.json").is_file():  # else it is finished
        limit = "none" if plan.seconds is None else str(plan.seconds)
        line = [str(python), "-m", "workers.deeptb_training", str(folder), limit]
        follow_training(f"DeePTB {method}", line, folder, BLOCKS.unit)
    tested = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    return {"name": f"DeePTB, {method.upper()}", "curve": read_curve(folder), **tested}


def deeptb_options(config: DictConfig, seed: int, data: Path, method: str) -> dict[str, Any]:
    """Return the options of ``dptb train``: size and training of ours, its manual for the rest.

    Args:
        config: of our training.
        seed: of the training.
        data: folder of the subsets.
        method: "lem" or "slem".
    """
    basis = HamiltonianDataset(ROOT / config.data.path).basis
    size = config.size.electron
    irreps = "+".join(f"{count}x{l}{'eo'[l % 2]}" for l, count in enumerate(size.channels))
    symbols = {chemical_symbols[number]: number for number in basis.elements}
    embedding = {
        "method": method,
        "r_max": {symbol: 2.0 * basis.radii[number] for symbol, number in symbols.items()},
        "irreps_hidden": irreps,
        "n_layers": int(size.num_layers),
        **json.loads((data / SUMMARY).read_text(encoding="utf-8")),
        **EMBEDDING,
    }
    labels: dict[str, Any] = {"type": "DefaultDataset", "prefix": "set"}
    labels |= {"get_Hamiltonian": True, "get_overlap": True}
    return {
        "common_options": {
            "basis": {symbol: name_shells(basis.shells[z]) for symbol, z in symbols.items()},
            "device": "cpu",
            "dtype": "float32",
            "overlap": False,
            "seed": seed,
        },
        "model_options": {"embedding": embedding, "prediction": {"method": "e3tb"}},
        "train_options": {
            "num_epoch": int(config.optimizer.max_epochs),
            "batch_size": int(config.data.batch_size),
            "save_freq": NEVER,
            "validation_freq": NEVER,
            "display_freq": NEVER,
            "valid_fast": False,
            **RECIPE,
        },
        "data_options": {
            "train": {**labels, "root": str(data / "train")},
            "validation": {**labels, "root": str(data / "val")},
        },
    }


def name_shells(shells: Sequence[int]) -> str:
    """Write shells as DeePTB does: (0, 0, 1, 1) is "2s2p"."""
    degrees = sorted(set(shells))
    return "".join(f"{list(shells).count(l)}{SHELL_LETTERS[l]}" for l in degrees)


def write_folders(config: DictConfig, folder: Path) -> None:
    """Write the structures of our split in DeePTB's format, one folder each.

    Args:
        config: of our training.
        folder: gets the folders train, val and test, and at the end what is counted in train.
    """
    dataset = HamiltonianDataset(ROOT / config.data.path)
    table = read_overlap_table(ROOT / config.data.overlap_table)
    n_atoms = n_edges = 0
    for subset, names in read_split(ROOT / config.data.split, dataset.names).items():
        print(f"writing {subset} for DeePTB: {len(names)} structures", flush=True)
        for number, name in enumerate(names):
            structure = complete_overlaps(dataset[name], table)
            write_structure(structure, folder / subset / f"set.{number}")
            if subset == "train" and structure.edge_index is not None:
                n_atoms += len(structure.atoms)
                n_edges += structure.edge_index.shape[1] - len(structure.atoms)
        write_json(folder / subset / "info.json", {"nframes": 1, "pos_type": "cart", "pbc": True})
    write_json(folder / SUMMARY, {"avg_num_neighbors": n_edges / n_atoms})


def write_structure(structure: LabelledStructure, folder: Path) -> None:
    """Write one structure with H (eV) and S: blocks ⟨i, 0|·|j, R⟩ are named i_j_Rx_Ry_Rz.

    One direction of every pair.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atoms, basis = structure.atoms, structure.basis
    assert basis is not None
    assert structure.edge_index is not None
    assert structure.edge_cell_shift is not None
    for name, values in (
        ("positions", atoms.positions),
        ("cell", atoms.cell.array),
        ("atomic_numbers", atoms.numbers),
    ):
        np.savetxt(folder / f"{name}.dat", values, fmt="%.10g" if values.ndim > 1 else "%d")
    sizes = {number: sum(2 * l + 1 for l in shells) for number, shells in basis.shells.items()}
    source, target = structure.edge_index
    files: Mapping[str, Any] = {
        "hamiltonians": structure.hamiltonian_blocks,
        "overlaps": structure.overlap_blocks,
    }
    for name, blocks in files.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            frame = file.create_group("0")
            for i, j, shift, block in zip(
                target, source, structure.edge_cell_shift, blocks, strict=True
            ):
                if (i, j, *shift) > (j, i, *-shift):
                    continue
                rows, columns = sizes[int(atoms.numbers[i])], sizes[int(atoms.numbers[j])]
                key = "_".join(str(int(each)) for each in (i, j, *shift))
                frame[key] = block[:rows, :columns]
