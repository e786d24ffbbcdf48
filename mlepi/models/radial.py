"""Functions of the edge length: radial bases, the smooth cutoff, and the network on top of them.

Everything here is invariant and acts on edges one by one; lengths and cutoffs are in Å.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message

SILU_SECOND_MOMENT_FACTOR = 1.6791767923989418
"""1/√⟨SiLU(z)²⟩ for z ~ N(0, 1), in the value that e3nn's ``normalize2mom`` estimates (the integral
gives 1.67653)."""


def polynomial_cutoff(length: Tensor, cutoff: float | Tensor, p: int = 6) -> Tensor:
    """Return the envelope that falls from 1 at zero length to 0 at the cutoff.

    p − 1 derivatives are smooth there.

    f(x) = 1 − (p+1)(p+2)/2 xᵖ + p(p+2) xᵖ⁺¹ − p(p+1)/2 xᵖ⁺², x = length/cutoff; zero for x ≥ 1. The
    first two derivatives vanish at x = 1.

    Args:
        length: (n_edges,), Å.
        cutoff: one for all edges or (n_edges,), Å.
        p: power of the leading term.

    Returns:
        (n_edges,) dimensionless factors in [0, 1].

    References:
        Gasteiger et al. 2020, arXiv:2003.03123, Eq. 8.
    """
    x = length / cutoff
    powers = x**p
    envelope = 1.0 - powers * (
        (p + 1.0) * (p + 2.0) / 2.0 - x * (p * (p + 2.0) - x * (p * (p + 1.0) / 2.0))
    )
    return torch.where(x < 1.0, envelope, torch.zeros_like(envelope))


def smooth_step_envelope(lengths: Tensor, cutoffs: Tensor, width: float | None) -> Tensor:
    """Return a factor that is 1 up to ``cutoff − width`` and falls smoothly to 0 at the cutoff.

    Its first two derivatives vanish at both ends.

    Args:
        lengths: (n_edges,), Å.
        cutoffs: (n_edges,), Å.
        width: Å; None gives 1 everywhere (the published hard edge list).
    """
    if width is None:
        return torch.ones_like(lengths)
    x = ((cutoffs - lengths) / width).clamp(0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero that vanish at the cutoff.

    √(2/c)·sin(nπr/c)/r, n = 1…num_basis.

    Args:
        cutoff: c, Å.
        num_basis: number of functions.

    References:
        Gasteiger et al. 2020, arXiv:2003.03123, Eq. 7.
    """

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        check_basis("BesselBasis", cutoff, num_basis)
        self.cutoff = float(cutoff)
        self.num_basis = int(num_basis)

    def forward(self, length: Tensor, cutoff: Tensor | None = None) -> Tensor:
        """Expand edge lengths.

        Args:
            length: (n_edges,), Å, positive.
            cutoff: (n_edges,), Å, where edges differ in their cutoff; the basis' own if absent.

        Returns:
            (n_edges, num_basis), Å^(−3/2).
        """
        c = torch.full_like(length, self.cutoff) if cutoff is None else cutoff
        orders = math.pi * torch.arange(
            1, self.num_basis + 1, dtype=length.dtype, device=length.device
        )
        return ((2.0 / c).sqrt() / length).unsqueeze(-1) * torch.sin(
            (length / c).unsqueeze(-1) * orders
        )


class GaussianBasis(nn.Module):
    """Gaussians on a regular grid of centres over [0, cutoff], as wide as their spacing.

    Exp(−(r − μ)²/2Δ²).

    Args:
        cutoff: last centre, Å.
        num_basis: number of centres.
    """

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        check_basis("GaussianBasis", cutoff, num_basis)
        if num_basis < 2:
            raise ConfigError(
                message(
                    "GaussianBasis.num_basis", f"{num_basis}", "at least 2 centres", "Raise it."
                )
            )
        self.cutoff = float(cutoff)
        self.num_basis = int(num_basis)
        self.spacing = self.cutoff / (num_basis - 1)

    def forward(self, length: Tensor) -> Tensor:
        """Expand edge lengths: (n_edges,) Å → (n_edges, num_basis), dimensionless."""
        centres = torch.arange(self.num_basis, dtype=length.dtype, device=length.device)
        offset = length.unsqueeze(-1) / self.spacing - centres
        return torch.exp(-0.5 * offset * offset)


class RadialMLP(nn.Module):
    """Fully connected network with SiLU between the layers.

    It makes path or channel weights from radial features.

    Args:
        widths: sizes of input, hidden layers and output.
        normalisation: "e3nn" draws weights from N(0, 1), divides by √fan-in in the forward pass,
            rescales SiLU to unit second moment and has no bias, so that zero input gives zero
            output (MACE: the envelope in the input makes the output vanish at the cutoff); "plain"
            is torch's ``Linear`` with bias and SiLU as it is (DeepH-E3).
    """

    def __init__(
        self, widths: Sequence[int], normalisation: Literal["e3nn", "plain"] = "e3nn"
    ) -> None:
        super().__init__()
        if normalisation not in ("e3nn", "plain"):
            raise ConfigError(
                message(
                    "RadialMLP.normalisation",
                    repr(normalisation),
                    "'e3nn' or 'plain'",
                    "Edit the config.",
                )
            )
        if len(widths) < 2 or min(widths) < 1:
            raise ConfigError(
                message(
                    "RadialMLP.widths",
                    f"{list(widths)}",
                    "at least two positive sizes",
                    "Edit the config.",
                )
            )
        self.widths = tuple(int(width) for width in widths)
        self.normalisation = normalisation
        self.layers = nn.ModuleList(
            [
                nn.Linear(a, b, bias=normalisation == "plain")
                for a, b in zip(self.widths[:-1], self.widths[1:], strict=True)
            ]
        )
        if normalisation == "e3nn":
            for layer in cast("Sequence[nn.Linear]", self.layers):
                nn.init.normal_(layer.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the network: (…, widths[0]) → (…, widths[-1])."""
        return self._linear(len(self.layers) - 1, self.hidden(features))

    def hidden(self, features: Tensor) -> Tensor:
        """Apply all layers but the last: (…, widths[0]) → (…, widths[-2])."""
        for position in range(len(self.layers) - 1):
            features = nn.functional.silu(self._linear(position, features))
        return features

    def last_weight(self) -> Tensor:
        """Return W, (widths[-1], widths[-2]).

        The network is ``hidden(features)`` · Wᵀ, without bias.
        """
        return self._scaled_weight(len(self.layers) - 1)

    def _linear(self, position: int, features: Tensor) -> Tensor:
        layer = cast("nn.Linear", self.layers[position])
        return nn.functional.linear(features, self._scaled_weight(position), layer.bias)

    def _scaled_weight(self, position: int) -> Tensor:
        weight = cast("nn.Linear", self.layers[position]).weight
        if self.normalisation == "plain":
            return weight
        # SiLU's factor of the layer before is folded into the weights: fewer passes over edge-sized
        # tensors
        return weight * (
            (SILU_SECOND_MOMENT_FACTOR if position > 0 else 1.0) / math.sqrt(self.widths[position])
        )


def check_basis(name: str, cutoff: float, num_basis: int) -> None:
    """Raise ``ConfigError`` for a radial basis that has no range or no functions."""
    if not cutoff > 0.0:
        raise ConfigError(
            message(f"{name}.cutoff", f"{cutoff}", "a positive length in Å", "Set graph.cutoffs.")
        )
    if num_basis < 1:
        raise ConfigError(message(f"{name}.num_basis", f"{num_basis}", "at least 1", "Raise it."))
