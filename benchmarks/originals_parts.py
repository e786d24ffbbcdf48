"""The trainings of the originals of ``originals.py``, those of DeePTB apart."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from omegaconf import DictConfig
from originals_trainings import (
    BLOCKS,
    FORCES,
    LOG,
    ROOT,
    Plan,
    TrainingError,
    curve_callback,
    follow_training,
    read_side,
)
from workers.client import worker_environment
from workers.curves import read_curve

from mlepi.errors import message
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.splits import read_split

CUTOFF = 5.0
"""Å, what mace-torch takes unless told otherwise."""
LABELS = ("REF_energy", "REF_forces")
"""Where mace-torch looks for energies (eV) and forces (eV/Å) unless told otherwise."""
PREDICTED_FORCES = "MACE_forces"


def train_mace(plan: Plan, peers: Path) -> dict[str, Any]:
    """Train mace-torch by its own command, and return its side.

    Args:
        plan: of all trainings.
        peers: interpreter of the environment of mace-torch.
    """
    if not peers.exists():
        got, fix = f"no interpreter {peers}", "`make bench` makes it; or name it by --peers."
        raise TrainingError(message("--peers", got, "the environment of mace-torch", fix))
    config = plan.compose(FORCES)
    folder = plan.training_folder("mace_torch", int(config.optimizer.max_epochs))
    write_subsets(config, folder)
    model, predicted = folder / "original_stagetwo.model", folder / "predicted.xyz"
    if not model.is_file():  # else it is finished
        line = [str(peers), "-m", "workers.mace_training", str(folder)]
        options = mace_options(config, plan.seed, folder)
        follow_training("mace-torch", [*line, *options], folder, FORCES.unit)
    line = [str(peers), "-m", "mace.cli.eval_configs", f"--configs={folder / 'test.xyz'}"]
    line += [f"--model={model}", f"--output={predicted}", "--default_dtype=float32"]
    environment = worker_environment(1) | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    with (folder / LOG).open("a", encoding="utf-8") as log:
        subprocess.run(  # noqa: S603 - a program of the peers
            [*line, "--batch_size=2"], cwd=ROOT, env=environment, check=True, stdout=log, stderr=log
        )
    parameters = read_parameters((folder / LOG).read_text(encoding="utf-8", errors="replace"))
    side = {"name": "mace-torch", "parameters": parameters, "test_error": force_error(predicted)}
    return side | {"curve": read_curve(folder)}


def mace_options(config: DictConfig, seed: int, folder: Path) -> list[str]:
    """Return the options of ``mace_run_train``: size and training of ours, its own for the rest.

    Its manual recommends AMSGrad, averaged weights and a second stage, which takes the last quarter
    of the epochs unless told otherwise.

    Args:
        config: of our training.
        seed: of the training.
        folder: with the subsets.
    """
    size = config.size.phonon
    files = ["--name=original", f"--work_dir={folder}", f"--train_file={folder / 'train.xyz'}"]
    files += [f"--valid_file={folder / 'val.xyz'}", "--restart_latest", "--plot=False"]
    network = ["--model=MACE", f"--r_max={CUTOFF}", f"--num_channels={size.num_features}"]
    network += [f"--max_L={size.l_max_hidden}", f"--max_ell={size.l_max}", "--num_interactions=2"]
    network += [f"--radial_MLP={list(size.radial_widths)}", "--E0s=average"]
    training = [f"--max_num_epochs={config.optimizer.max_epochs}", f"--seed={seed}"]
    training += [f"--batch_size={config.data.batch_size}", "--default_dtype=float32"]
    training += [f"--valid_batch_size={config.data.eval_batch_size}", "--device=cpu"]
    training += ["--amsgrad", "--ema", "--ema_decay=0.99", "--swa"]
    return [*files, *network, *training]


def write_subsets(config: DictConfig, folder: Path) -> None:
    """Write the structures of our split as mace-torch reads them: train.xyz, val.xyz, test.xyz."""
    folder.mkdir(parents=True, exist_ok=True)
    structures = {each.name: each for each in read_forces_dataset(ROOT / config.data.path)}
    for subset, names in read_split(ROOT / config.data.split, structures).items():
        images = []
        for structure in (structures[name] for name in names):
            bare = structure.atoms
            atoms = Atoms(bare.numbers, positions=bare.positions, cell=bare.cell, pbc=bare.pbc)
            atoms.info |= {"name": structure.name, LABELS[0]: float(structure.energy or 0.0)}
            atoms.arrays[LABELS[1]] = np.asarray(structure.forces)
            images.append(atoms)
        ase.io.write(folder / f"{subset}.xyz", images, format="extxyz")


def force_error(file: Path) -> float:
    """Return the MAE of the force components of all structures of a file, meV/Å."""
    images = ase.io.read(file, ":", format="extxyz")
    found = [atoms.arrays[PREDICTED_FORCES] - atoms.arrays[LABELS[1]] for atoms in images]
    return float(1e3 * np.abs(np.concatenate(found)).mean())


def read_parameters(log: str) -> int:
    """Return the number of parameters, with which the worker of mace-torch ends."""
    found = re.search(r"^parameters of the network: (\d+)$", log, flags=re.MULTILINE)
    if found is None:
        got, fix = "no number of parameters", "The training was not finished; start it again."
        raise TrainingError(message("output of mace-torch", got, "one", fix))
    return int(found.group(1))


def train_path(plan: Plan) -> dict[str, Any]:
    """Train DeepH-E3 path by path as published, and return its side.

    Args:
        plan: of all trainings.
    """
    folder = plan.training_folder("path_by_path", int(plan.compose(BLOCKS).optimizer.max_epochs))
    published = ["task=electron_published", "callbacks=no_ema"]
    line = [sys.executable, "-m", "workers.path_training", str(folder)]
    line += [*plan.arguments(BLOCKS), *published, *curve_callback(BLOCKS, plan.seconds)]
    follow_training("path by path", line, folder, BLOCKS.unit)
    return read_side(folder, BLOCKS)
