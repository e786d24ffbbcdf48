"""What a run folder of ``train.py`` tells of a training and of the structures it has seen."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from materials import find_material
from omegaconf import OmegaConf

from mlepi.errors import DataError, message
from mlepi.pipeline.stages.structure.relaxation import measure_spacings
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.splits import read_split

FIRST_LINE = "| run folder "
"""What the first line of every run of a training holds."""


def require_run(run: Path) -> None:
    """Raise ``DataError`` when a folder lacks what a training leaves behind."""
    needed = [
        run / "checkpoints" / "best.ckpt",
        run / "checkpoints" / "last.ckpt",
        run / "config.yaml",
        run / "train.log",
    ]
    missing = [
        path.name for path in [*needed, run / ".hydra" / "overrides.yaml"] if not path.is_file()
    ]
    if missing:
        raise DataError(
            message(
                str(run),
                f"no {', '.join(missing)}",
                "the run folder of a training",
                "Check the path.",
            )
        )


def portable(value: Any) -> Any:
    """Replace absolute paths in nested plain data by their last part."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def read_config(run: Path) -> dict[str, Any]:
    """Return the config of a run as plain data."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    found: dict[str, Any] = config
    return found


def read_command(run: Path) -> str:
    """Return the command line of a run, without where its files went."""
    overrides: Any = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    kept = [text for text in overrides if not text.startswith(("hydra.", "ckpt_path=", "name="))]
    return " ".join(["python train.py", *(str(portable(text)) for text in kept)])


def measure_wall_time(log: str) -> datetime.timedelta:
    """Return how long the runs of a training took together, without the pauses between them.

    Args:
        log: text of ``train.log``, to which every resumed run appends.
    """
    wall, begin, end = datetime.timedelta(0), None, None
    for time, text in re.findall(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(.*)$", log, re.MULTILINE):
        now = datetime.datetime.fromisoformat(time)
        if begin is None or FIRST_LINE in text:
            wall += end - begin if begin and end else datetime.timedelta(0)
            begin = now
        end = now
    return wall + (end - begin if begin and end else datetime.timedelta(0))


def read_history(run: Path) -> dict[str, Any]:
    """Return "epochs" trained, "best_epoch" and "wall_time" (hours and minutes) of a run."""
    epochs = {
        name: int(
            torch.load(run / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)[
                "epoch"
            ]
        )
        + 1
        for name in ("best", "last")
    }
    wall = measure_wall_time((run / "train.log").read_text(encoding="utf-8"))
    minutes = round(wall.total_seconds() / 60)
    return {
        "epochs": epochs["last"],
        "best_epoch": epochs["best"],
        "wall_time": f"{minutes // 60} h {minutes % 60:02d} min",
    }


def describe_structures(path: Path, split: Path) -> dict[str, Any]:
    """Measure what the training subset covers.

    "kinds", "n_layers", "n_atoms", "spacing" (without monolayers), "lattice_constant" (of a
    hexagonal cell of the same area), "out_of_plane"; Å.
    """
    labelled = list(HamiltonianDataset(path)) if path.suffix == ".h5" else read_forces_dataset(path)
    subsets = read_split(split, [structure.name for structure in labelled])
    chosen = [structure for structure in labelled if structure.name in set(subsets["train"])]
    elements = {symbol for one in chosen for symbol in one.atoms.get_chemical_symbols()}
    per_layer = find_material(elements).atoms_per_layer
    layers, spacings, lattices, heights = set(), [], [], []
    for structure in chosen:
        atoms = structure.atoms
        layer = atoms.arrays["layer"]
        n_layers = int(layer.max()) + 1
        layers.add(n_layers)
        spacings += measure_spacings(atoms)[:1].tolist()
        # of any supercell: the side of the rhombus that one primitive cell of every layer covers
        n_cells = len(atoms) / (per_layer * n_layers)
        area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])) / n_cells
        lattices.append(float(np.sqrt(area * 2.0 / np.sqrt(3.0))))
        z = atoms.positions[:, 2]
        heights.append(
            max(
                float(np.abs(z[layer == number] - z[layer == number].mean()).max())
                for number in range(n_layers)
            )
        )
    kinds = [str(structure.provenance.get("kind", "structures")) for structure in chosen]
    return {
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "n_structures": {subset: len(names) for subset, names in subsets.items()},
        "elements": sorted(elements),
        "n_layers": sorted(layers),
        "n_atoms": sorted({len(structure.atoms) for structure in chosen}),
        "spacing": [min(spacings), max(spacings)],
        "lattice_constant": [min(lattices), max(lattices)],
        "out_of_plane": max(heights),
    }
