"""Equivariant linear maps on channel-last node features, shared by all elements or one per element.

Node features are natural-parity irreps with the same number of channels for every l, (n_atoms,
(l_max+1)², channels): components l² … (l+1)²−1 belong to l, in the order m = −l…l. Weights are
drawn from N(0, 1) and divided by √fan-in in the forward pass (e3nn's normalisation), so that
weights of the peers can be copied without rescaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def degree_slice(l: int) -> slice:
    """Return the components of angular momentum l."""
    return slice(l * l, (l + 1) * (l + 1))


def apply_by_element(
    function: Callable[[Tensor, int], Tensor], features: Tensor, species: Tensor, num_elements: int
) -> Tensor:
    """Apply a function that depends on the element to the atoms of each element.

    Args:
        function: maps (n, …) features of atoms of one element, and the element's position, to (n,
            …).
        features: (n_atoms, …).
        species: (n_atoms,) int in [0, num_elements).
        num_elements: number of elements the model knows.

    Returns:
        (n_atoms, …), in the order of the atoms.
    """
    if num_elements == 1 or features.shape[0] == 0:
        return function(features, 0)
    order = torch.argsort(species, stable=True)
    counts = torch.bincount(species, minlength=num_elements).tolist()
    parts = features.index_select(0, order).split(counts)
    results = [function(part, element) for element, part in enumerate(parts) if part.shape[0] > 0]
    return torch.cat(results).index_select(0, torch.argsort(order))


class ChannelLinear(nn.Module):
    """Mix channels with one matrix per l.

    Args:
        l_max: largest l of the features.
        num_inputs: channels of the input.
        num_outputs: channels of the output.
    """

    def __init__(self, l_max: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.weight = nn.Parameter(torch.randn(l_max + 1, num_inputs, num_outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the map: (n_atoms, (l_max+1)², num_inputs) → (n_atoms, (l_max+1)², num_outputs)."""
        return mix_channels(features, self.weight, self.l_max)


class ElementLinear(nn.Module):
    """Mix channels with one matrix per element and l: MACE's self-connection.

    Args:
        l_max_in: largest l of the input.
        l_max_out: largest l of the output; input degrees above it are dropped, missing ones are
            zero.
        num_channels: channels of input and output.
        num_elements: number of elements.
    """

    def __init__(self, l_max_in: int, l_max_out: int, num_channels: int, num_elements: int) -> None:
        super().__init__()
        self.l_max = min(l_max_in, l_max_out)
        self.missing = (l_max_out + 1) ** 2 - (self.l_max + 1) ** 2
        self.num_elements = num_elements
        self.weight = nn.Parameter(
            torch.randn(num_elements, self.l_max + 1, num_channels, num_channels)
        )

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """Apply the map.

        (n_atoms, (l_max_in+1)², channels) → (n_atoms, (l_max_out+1)², channels).
        """
        scale = 1.0 / math.sqrt(self.num_elements)
        mixed = apply_by_element(
            lambda part, element: mix_channels(part, self.weight[element] * scale, self.l_max),
            features,
            species,
            self.num_elements,
        )
        return nn.functional.pad(mixed, (0, 0, 0, self.missing)) if self.missing else mixed


def mix_channels(features: Tensor, weight: Tensor, l_max: int) -> Tensor:
    """Multiply the components of every l ≤ l_max by weight[l] / √num_inputs.

    Args:
        features: (n_atoms, ≥ (l_max+1)², num_inputs).
        weight: (l_max+1, num_inputs, num_outputs).
        l_max: largest l that is used.
    """
    scaled = weight / math.sqrt(weight.shape[1])
    parts = [features[:, degree_slice(l)] @ scaled[l] for l in range(l_max + 1)]
    return torch.cat(parts, dim=1) if l_max > 0 else parts[0]
