"""Make reference energies and forces with mace-torch.

Random small networks, their weights, and what they predict.

mace-torch pins an older e3nn than this project, so run the script in an environment of its own,
with numpy, torch and mace-torch 0.3.16 only, and hand it the file to write:

    python -m venv mace-env && mace-env/bin/pip install torch==2.13.0 mace-torch==0.3.16
    mace-env/bin/python tests/references/make_mace_reference.py tests/references/mace_reference.npz

Everything is float64 and seeded. Arrays are named CASE/weights/NAME (mace-torch's state dict, which
includes its coupling tensors), CASE/energy (n_structures,) eV, CASE/forces/I (n_atoms, 3) eV/Å, and
structures/I/{numbers,positions,cell}; the facts of every case are JSON in CASE/config, versions in
"provenance".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = (
    "1"  # the pinned e3nn opens its own tables with an old torch.load
)

import ase
import e3nn
import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import __version__, data, modules
from mace.tools import AtomicNumberTable, torch_geometric

COMMON = {
    "r_max": 4.0,
    "num_bessel": 5,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "num_interactions": 2,
    "num_elements": 2,
    "hidden_irreps": "6x0e+6x1o",
    "MLP_irreps": "4x0e",
    "atomic_energies": [-155.25, -270.5],
    "avg_num_neighbors": 1.5,
    "atomic_numbers": [6, 7],
    "correlation": 3,
    "radial_MLP": [7, 5],
    "atomic_inter_scale": 1.7,
    "atomic_inter_shift": -0.3,
}
CASES = {
    "residual": {"interaction_cls_first": "RealAgnosticResidualInteractionBlock"},
    "message": {
        "interaction_cls_first": "RealAgnosticInteractionBlock",
        "max_ell": 3,
        "correlation": 2,
        "num_interactions": 3,
    },
}


def build_structures() -> list[Atoms]:
    """Return a sheared periodic bilayer, a crystal smaller than the cutoff, and a molecule."""
    rng = np.random.default_rng(2206)
    bilayer = Atoms("CNCN", cell=[[2.5, 0.1, 0.0], [-1.2, 2.2, 0.05], [0.1, 0.0, 14.0]], pbc=True)
    bilayer.set_scaled_positions(
        [[0, 0, 0.3], [1 / 3, 2 / 3, 0.3], [1 / 3, 2 / 3, 0.53], [2 / 3, 1 / 3, 0.53]]
    )
    crystal = Atoms("C2N", cell=[3.1, 3.3, 3.6], pbc=True)
    crystal.set_scaled_positions([[0, 0, 0], [0.5, 0.5, 0.1], [0.1, 0.5, 0.6]])
    molecule = Atoms("C3N2", positions=rng.normal(size=(5, 3)) * 1.5, cell=[20, 20, 20], pbc=True)
    for atoms in (bilayer, crystal, molecule):
        atoms.positions += 0.05 * rng.normal(size=(len(atoms), 3))
    return [bilayer, crystal, molecule]


def build_network(config: dict) -> torch.nn.Module:
    """Build a ScaleShiftMACE with random weights."""
    arguments = dict(config)
    for key in ("hidden_irreps", "MLP_irreps"):
        arguments[key] = o3.Irreps(arguments[key])
    arguments["atomic_energies"] = np.array(arguments["atomic_energies"])
    arguments["interaction_cls_first"] = modules.interaction_classes[
        arguments["interaction_cls_first"]
    ]
    arguments["interaction_cls"] = modules.interaction_classes[
        "RealAgnosticResidualInteractionBlock"
    ]
    return modules.ScaleShiftMACE(**arguments, gate=torch.nn.functional.silu)


def main(path: Path) -> None:
    """Write the reference file."""
    torch.set_default_dtype(torch.float64)
    arrays: dict[str, np.ndarray] = {}
    structures = build_structures()
    for i, atoms in enumerate(structures):
        arrays |= {
            f"structures/{i}/numbers": atoms.numbers,
            f"structures/{i}/positions": atoms.positions,
            f"structures/{i}/cell": atoms.cell.array,
        }
    for case, changes in CASES.items():
        config = {**COMMON, **changes}
        torch.manual_seed(2206)
        network = build_network(config)
        for name, value in network.state_dict().items():
            if (
                value.numel()
                and torch.is_floating_point(value)
                and not name.endswith("output_mask")
            ):
                arrays[f"{case}/weights/{name}"] = value.numpy()
        table = AtomicNumberTable(config["atomic_numbers"])
        energies = []
        for i, atoms in enumerate(structures):
            entry = data.AtomicData.from_config(
                data.config_from_atoms(atoms), z_table=table, cutoff=config["r_max"]
            )
            batch = next(iter(torch_geometric.dataloader.DataLoader([entry], batch_size=1)))
            result = network(batch.to_dict())
            energies.append(float(result["energy"].detach()))
            arrays[f"{case}/forces/{i}"] = result["forces"].detach().numpy()
        arrays[f"{case}/energy"] = np.array(energies)
        arrays[f"{case}/config"] = np.array(json.dumps(config))
        print(
            case,
            energies,
            [float(np.abs(arrays[f"{case}/forces/{i}"]).max()) for i in range(len(structures))],
        )
    versions = {
        "mace-torch": __version__,
        "e3nn": e3nn.__version__,
        "torch": torch.__version__,
        "ase": ase.__version__,
    }
    arrays["provenance"] = np.array(
        json.dumps({"made by": "tests/references/make_mace_reference.py", **versions})
    )
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
