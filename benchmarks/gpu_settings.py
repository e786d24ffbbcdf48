"""How large the parts of the GPU run are, and where they write what they find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_results import Row, write_atomically
from speed_settings import MODELS, read_sizes

WORKS = {
    "forward": {"phonon": "energy_forces", "electron": "hamiltonian"},
    "step": {"phonon": "phonon_train_step", "electron": "electron_train_step"},
}
"""Part → kind → work of ``workers.ours``."""

TOY_SIZES = {
    "phonon": {"num_features": 4, "l_max": 2, "l_max_hidden": 1, "radial_widths": [8]},
    "electron": {
        "channels": [4, 3, 2],
        "pseudo_channels": [0, 2],
        "l_max": 2,
        "num_radial": 8,
        "radial_hidden": [8],
        "num_layers": 1,
    },
}


@dataclass(frozen=True)
class Scale:
    """How large the parts are.

    Attributes:
        sizes: kind → widths of the networks, as in conf/size.
        atoms: part → sizes of the structures.
        models: part → networks, YAMLs of conf/model.
        twist: m of the large cell (m, 1).
        seconds: how long one row is measured, three runs at least.
        scan: overrides of the demo.
        n_samples: of the scan.
        n_compared: samples that the processor repeats.
    """

    sizes: Mapping[str, Any]
    atoms: Mapping[str, tuple[int, ...]]
    models: Mapping[str, tuple[str, ...]]
    twist: int
    seconds: float
    scan: tuple[str, ...]
    n_samples: int
    n_compared: int


HEDGENETS = tuple(models[1] for models in MODELS.values())
BACKBONES = tuple(models[0] for models in MODELS.values())


def choose_scale(toy: bool) -> Scale:
    """Return the published size, or one for seconds on a processor."""
    if toy:
        return Scale(
            sizes=TOY_SIZES,
            atoms=dict.fromkeys(WORKS, (16,)),
            models=dict.fromkeys(WORKS, HEDGENETS),
            twist=1,
            seconds=0.0,
            scan=("phonon=toy", "electron=toy", "supercell=[2,2,1]"),
            n_samples=4,
            n_compared=2,
        )
    return Scale(
        sizes=read_sizes()["published"],
        atoms={"forward": (64, 1024), "step": (64, 256)},
        models={"forward": (*HEDGENETS, *BACKBONES), "step": HEDGENETS},
        twist=30,
        seconds=1.0,
        scan=("electron=data/checkpoints/hedgenet_electron.ckpt",),  # one network
        n_samples=200,
        n_compared=8,
    )


class Notes:
    """What a part has found so far, in a file.

    Args:
        path: JSON file, written at every addition.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: Row = {}

    def add(self, **facts: Any) -> None:
        """Add facts and write all."""
        self.facts |= facts
        write_atomically(self.path, json.dumps(self.facts, indent=1) + "\n")
