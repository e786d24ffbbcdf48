"""Write weights and sizes of a mace-torch model to a plain file, in the Python of mace-torch.

mace-torch pins an e3nn that this package cannot use, and its models are pickles that only
mace-torch opens. This file therefore imports nothing of mlepi; run it there, by its path:

    mace-env/bin/python "$(mlepi mace --script)" FOUNDATION.model foundation.npz
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import torch


def describe(model: Any) -> dict[str, Any]:
    """Return the sizes of a model of mace-torch as plain data.

    Args:
        model: as unpickled.
    """
    radial = model.radial_embedding
    last = model.readouts[-1]
    first = model.interactions[0]
    layers = [name for name, _ in first.conv_tp_weights.named_children() if "layer" in name]
    widths = [int(getattr(first.conv_tp_weights, name).weight.shape[1]) for name in layers[:-1]]
    contraction = model.products[0].symmetric_contractions.contractions[0]
    return {
        "class": type(model).__name__,
        "heads": [str(head) for head in getattr(model, "heads", ["default"])],
        "interactions": [type(interaction).__name__ for interaction in model.interactions],
        "radial_basis": type(radial.bessel_fn).__name__,
        "radial_weights": getattr(radial.bessel_fn, "bessel_weights", torch.zeros(0)).tolist(),
        "distance_transform": hasattr(radial, "distance_transform"),
        "pair_repulsion": hasattr(model, "pair_repulsion_fn"),
        "r_max": float(model.r_max),
        "cutoff_power": int(radial.cutoff_fn.p),
        "l_max": int(model.spherical_harmonics.irreps_out.lmax),
        "hidden_irreps": str(model.products[0].linear.irreps_out),
        "readout_width": int(last.linear_1.irreps_out.dim),
        "radial_widths": widths,
        "correlation": len(contraction.weights) + 1,
        "avg_num_neighbors": float(first.avg_num_neighbors),
        "atomic_numbers": [int(z) for z in model.atomic_numbers],
    }


def main(source: str, destination: str) -> None:
    """Read a model and write what it holds.

    Args:
        source: ``.model`` file of mace-torch.
        destination: ``.npz`` file.
    """
    # the e3nn of mace-torch opens its own tables with an old torch.load
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    model = torch.load(source, map_location="cpu", weights_only=False).double()
    arrays = {
        f"weights/{name}": value.numpy()
        for name, value in model.state_dict().items()
        if value.numel() and torch.is_floating_point(value) and not name.endswith("output_mask")
    }
    np.savez_compressed(destination, config=np.array(json.dumps(describe(model))), **arrays)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python export_mace.py FOUNDATION.model foundation.npz")
    main(sys.argv[1], sys.argv[2])
