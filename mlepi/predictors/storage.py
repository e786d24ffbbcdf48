"""How a file holds the weights of a network: as they were trained, or in half precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mlepi.errors import CheckpointError, message

AS_TRAINED = "as trained"
HALF = "float16"
STORAGES = (AS_TRAINED, HALF)


def round_weights(
    network: nn.Module, weights: Mapping[str, torch.Tensor], storage: str
) -> dict[str, torch.Tensor]:
    """Round the learned weights of a network to what a file is to hold.

    Buffers stay as they are: baselines and reference energies are far larger than what is learned,
    and take little room.

    Args:
        network: says which weights are learned.
        weights: name → tensor, its state.
        storage: "as trained", or "float16": 11 bits, a relative error of 2⁻¹¹ at most for numbers
            from 6e-5 to 65504, an absolute one of 3e-8 below.

    Returns:
        Name → tensor.

    Raises:
        CheckpointError: an unknown storage, or a weight that is too large for it.
    """
    if storage not in STORAGES:
        raise CheckpointError(
            message("storage", repr(storage), f"one of {list(STORAGES)}", "Choose one of them.")
        )
    if storage == AS_TRAINED:
        return dict(weights)
    learned = {name for name, _ in network.named_parameters()}
    stored = {name: v.half() if name in learned else v for name, v in weights.items()}
    for name, value in stored.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                message(
                    f"weight {name}",
                    f"{float(weights[name].abs().max()):.3g}",
                    "at most 65504, for storage in float16",
                    "Store it as trained.",
                )
            )
    return stored
