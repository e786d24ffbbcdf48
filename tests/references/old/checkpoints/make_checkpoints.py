"""Write tiny checkpoints of format 1, and numbers that their networks gave when they were written.

Only the code of commit cbfa22c writes that format. In a checkout of it, copy this file to its root,
then ``PYTHONPATH=.:tests python make_checkpoints.py FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from tiny_networks import BASIS, CUTOFFS, RELATIONS, build_config, corrugated_bilayer

from mlepi.checkpoint import load_model, save_checkpoint, stamp
from mlepi.checkpoint_formats import FORMAT
from mlepi.structures.basis import OrbitalBasis

HOMOGENEOUS = {"all": ["intra", "inter"]}
S_ORBITALS = OrbitalBasis({6: (0,), 7: (0, 0)}, BASIS.radii, BASIS.names)
SMALL = {"embedding_channels": 2, "num_radial": 3, "radial_hidden": [2], "norm": "none"}
CHECKPOINTS = {
    "mace": ("phonon", HOMOGENEOUS, {"num_features": 2}),
    "hedgenet_phonon": (
        "phonon",
        RELATIONS,
        {"num_features": 2, "first_self_connection": "message"},
    ),
    "deeph_e3": (
        "electron",
        HOMOGENEOUS,
        {**SMALL, "channels": [2, 1, 1], "pseudo_channels": [0, 1], "self_loops": True},
    ),
    "hedgenet_electron": (
        "electron",
        RELATIONS,
        {**SMALL, "channels": [1, 1], "pseudo_channels": [], "radial_hidden": []},
    ),
}
"""Name → kind, relations, changes of the backbone."""


def write(folder: Path, name: str) -> dict:
    """Write one checkpoint and return what its network predicts."""
    kind, relations, changes = CHECKPOINTS[name]
    config, basis = build_config(kind), None
    config["network"]["relations"] = relations
    config["network"]["backbone"].update(changes)
    if kind == "electron":
        basis = S_ORBITALS if len(changes["channels"]) == 2 else BASIS
        config["basis"], config["baseline_knots"] = basis.to_dict(), 4
    torch.manual_seed(11)
    network = instantiate(config, _convert_="all")
    with torch.no_grad():
        for value in [
            *network.parameters(),
            *(b for b in network.buffers() if b.is_floating_point() and b.abs().max() == 0),
        ]:
            value.add_(0.3 * torch.randn_like(value))
    described = stamp(kind, config, CUTOFFS, basis=basis, metadata={"data": "random weights"})
    save_checkpoint(folder / f"{name}.ckpt", described, network.state_dict())
    predictor, atoms = load_model(folder / f"{name}.ckpt"), corrugated_bilayer()
    if kind == "phonon":
        energies, forces = predictor.energy_and_forces([atoms], dtype="float64")
        return {"energy": float(energies[0]), "forces": np.asarray(forces[0]).tolist()}
    blocks = predictor.hamiltonian(atoms, dtype="float64").blocks
    pattern = np.cos(np.arange(blocks.size)).reshape(blocks.shape)
    return {
        "n_blocks": len(blocks),
        "norm": float(np.linalg.norm(blocks)),
        "checksum": float((pattern * blocks).sum()),
        "first_blocks": blocks[:2].tolist(),
    }


def main(folder: Path) -> None:
    """Write all checkpoints and ``predictions.json``."""
    if FORMAT != 1:
        raise SystemExit("this script needs the code that writes format 1")
    atoms = corrugated_bilayer()
    content = {
        "structure": {
            "numbers": atoms.numbers.tolist(),
            "cell": atoms.cell.array.tolist(),
            "positions": atoms.positions.tolist(),
            "layer": atoms.arrays["layer"].tolist(),
        },
        "predictions": {name: write(folder, name) for name in CHECKPOINTS},
    }
    (folder / "predictions.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
