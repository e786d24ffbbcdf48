"""A foundation model of mace-torch as a checkpoint: ``mlepi mace foundation.npz --out FILE.ckpt``.

The ``.npz`` comes from ``scripts/export_mace.py``, which runs in the Python of mace-torch.
"""

from __future__ import annotations

import argparse
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlepi.errors import DataError, message

if TYPE_CHECKING:
    import torch

SCRIPT = Path(__file__).parent / "scripts" / "export_mace.py"

INTERACTIONS = {
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticInteractionBlock": "message",
}
"""First interaction of mace-torch → the self-connection of our first layer."""


def main(arguments: Sequence[str]) -> int:
    """Convert what the command line names.

    Raises:
        DataError: the file is no export, its model is of another kind, or the output exists.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi mace",
        description="Make a checkpoint of a foundation model of mace-torch (docs/own_material.md).",
    )
    parser.add_argument("source", nargs="?", type=Path, metavar="FILE.npz", help="of the script")
    parser.add_argument("--out", type=Path, metavar="FILE.ckpt", help="checkpoint to write")
    parser.add_argument(
        "--script", action="store_true", help="print the path of the script that makes FILE.npz"
    )
    given = parser.parse_args(arguments)
    if given.script:
        print(SCRIPT)
        return 0
    if given.source is None or given.out is None:
        parser.error("name FILE.npz and --out FILE.ckpt")
    if given.out.exists():
        fix = "Remove it or choose another name."
        raise DataError(message("--out", f"existing file {given.out}", "a new file", fix))
    config, weights = read_export(given.source)
    print(f"{given.out}: {write_foundation(given.source.name, config, weights, given.out)}")
    return 0


def read_export(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read what the script wrote.

    Raises:
        DataError: it is no such file.
    """
    import torch

    try:
        with np.load(path, allow_pickle=False) as file:
            config = json.loads(str(file["config"]))
            weights = {
                name.removeprefix("weights/"): torch.as_tensor(file[name])
                for name in file.files
                if name.startswith("weights/")
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        fix = f'Make it in the Python of mace-torch: python "{SCRIPT}" FOUNDATION.model FILE.npz'
        raise DataError(
            message(str(path), f"{error}", "weights and sizes of a mace-torch model", fix)
        ) from error
    return config, weights


def write_foundation(
    name: str, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], out: Path
) -> str:
    """Write the checkpoint of a homogeneous MACE with the weights of mace-torch.

    Args:
        name: of the model, for messages and metadata.
        config: its sizes.
        weights: its state dict.
        out: file.

    Returns:
        A line that describes it.

    Raises:
        DataError: the model has parts that ours lacks.
        CheckpointError: weights and sizes contradict each other.
    """
    from hydra.utils import instantiate

    from mlepi.checkpoint import save_checkpoint, stamp
    from mlepi.models.mace_import import load_mace_weights

    check_kind(name, config)
    model = describe_network(config)
    network = instantiate(model, _convert_="all").double()
    load_mace_weights(network, weights)
    model |= {
        "atomic_energies": list(network.atomic_energies),
        "energy_scale": network.energy_scale,
    }
    cutoffs = dict.fromkeys(("intra", "inter"), float(config["r_max"]))
    metadata = {"foundation": name, "config": dict(config)}
    save_checkpoint(out, stamp("phonon", model, cutoffs, metadata=metadata), network.state_dict())
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"{n_parameters} parameters, {len(config['atomic_numbers'])} elements"


def check_kind(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a model with parts that our MACE does not have.

    Raises:
        DataError: it has some; the message names them.
    """
    frequencies = np.array(config["radial_weights"]) * float(config["r_max"]) / math.pi
    others = {f"class {config['class']}": config["class"] != "ScaleShiftMACE"}
    others |= {f"{len(config['heads'])} heads": len(config["heads"]) != 1}
    first, *rest = config["interactions"]
    unknown = {first} - set(INTERACTIONS) | set(rest) - {next(iter(INTERACTIONS))}
    others |= {f"interactions {sorted(unknown)}": bool(unknown)}
    others |= {f"radial basis {config['radial_basis']}": config["radial_basis"] != "BesselBasis"}
    others |= {
        "trained frequencies of its radial basis": not np.allclose(
            frequencies, np.arange(1, len(frequencies) + 1), atol=1e-4
        )
    }
    others |= {"a transform of distances": config["distance_transform"]}
    others |= {"a pair repulsion (ZBL)": config["pair_repulsion"]}
    found = [text for text, present in others.items() if present]
    if found:
        raise DataError(
            message(
                name,
                f"a model with {', '.join(found)}",
                "ScaleShiftMACE of one head with (Residual) RealAgnostic interactions and a plain "
                "Bessel basis, as MACE-MP-0 (small, medium, large) and MACE-OFF23",
                "Use such a model, or phonon._target_=mace.calculators.MACECalculator in an "
                "environment that has both.",
            )
        )


def describe_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of our network of the same sizes."""
    irreps = [word.strip() for word in config["hidden_irreps"].split("+")]
    relations = ["intra", "inter"]
    return {
        "_target_": "mlepi.models.PhononNetwork",
        "atomic_energies": [0.0] * len(config["atomic_numbers"]),
        "energy_scale": 1.0,
        "readout_width": config["readout_width"],
        "dispersion": "none",
        "dispersion_cutoff": 14.0,
        "network": {
            "_target_": "mlepi.models.HeteroNetwork",
            "elements": list(config["atomic_numbers"]),
            "relations": {"all": relations},
            "fusion": "late",
            "partition": {"kind": "layers"},
            "shared_radial": False,
            "backbone": {
                "_target_": "mlepi.models.MACE",
                "_partial_": True,
                "elements": list(config["atomic_numbers"]),
                "cutoffs": dict.fromkeys(relations, config["r_max"]),
                "mean_neighbours": dict.fromkeys(relations, 0.5 * config["avg_num_neighbors"]),
                "num_layers": len(config["interactions"]),
                "num_features": int(irreps[0].split("x")[0]),
                "l_max": config["l_max"],
                "l_max_hidden": len(irreps) - 1,
                "l_max_out": 0,
                "correlation": config["correlation"],
                "num_bessel": len(config["radial_weights"]),
                "cutoff_power": config["cutoff_power"],
                "radial_widths": list(config["radial_widths"]),
                "first_self_connection": INTERACTIONS[config["interactions"][0]],
                "relation_feature": False,
            },
        },
    }
