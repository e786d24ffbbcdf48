"""Polynomials with symmetric coefficients, channel by channel, and their derivatives up to the second, without waste.

B_o = Σ_i A_i (t_{oi} + Σ_j t_{oij} A_j + Σ_{j≤k} t_{oi,jk} A_j A_k). Because the coefficients are symmetric in i, j, k, the terms
in brackets, weighted by their degree 1, 2, 3, are the derivative ∂B_o/∂A_i as well: value and first derivative cost one set
of matrix products, the second derivative another. Everything is channels first and atoms last, in pieces that fit the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import as_branches, wanted_derivatives

CACHED_NUMBERS = 1 << 18
"""Largest number of pair products held at once on a CPU."""
CACHED_ATOMS = 128
"""Largest number of atoms treated at once on a CPU; matrix products over fewer would be slower."""


def contract(features: Tensor, *coefficients: Tensor) -> Tensor:
    """Evaluate the polynomials; differentiable twice.

    Args:
        features: A, (channels, I, n_atoms).
        coefficients: of degree 1, 2 … at most 3: (channels, n_out·I, 1), (channels, n_out·I, I), (channels, n_out·I, pairs), the
            last for pairs j ≤ k ordered by j, then k, and counted twice where j < k. They must come from symmetric tensors.

    Returns:
        B, (channels, n_out, n_atoms).
    """
    result: Tensor = _Contraction.apply(*as_branches(features, *coefficients))
    return result


def monomials(features: Tensor, degree: int, tangent: Tensor | None = None) -> Tensor:
    """Return the monomials of a degree, 0, 1 or 2, or their change along a tangent: (channels, 1 or I or pairs, n_atoms)."""
    if degree == 0:
        return torch.ones_like(features[:, :1]) if tangent is None else torch.zeros_like(features[:, :1])
    if degree == 1:
        return features if tangent is None else tangent
    channels, size, n_atoms = features.shape
    pairs = features.new_empty(channels, size * (size + 1) // 2, n_atoms)
    start = 0
    for i in range(size):
        part = pairs[:, start : start + size - i]
        if tangent is None:
            torch.mul(features[:, i : i + 1], features[:, i:], out=part)
        else:
            torch.mul(features[:, i : i + 1], tangent[:, i:], out=part).addcmul_(tangent[:, i : i + 1], features[:, i:])
        start += size - i
    return pairs


class _Contraction(Function):
    """``contract``, keeping the Jacobian ∂B_o/∂A_i for the backward pass."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *coefficients: Tensor) -> Tensor:
        channels, size, n_atoms = features.shape
        n_out = coefficients[0].shape[1] // size
        result = features.new_empty(channels, n_out, n_atoms)
        jacobian = features.new_empty(channels, n_out * size, n_atoms)
        for channel, atom in _pieces(features):
            a = features[channel, :, atom].contiguous()
            inner = coefficients[0][channel].expand(-1, -1, a.shape[2])
            slope = inner
            for degree in range(2, len(coefficients) + 1):
                term = coefficients[degree - 1][channel] @ monomials(a, degree - 1)
                slope = torch.add(slope, term, alpha=degree)
                inner = inner + term
            jacobian[channel, :, atom] = slope
            result[channel, :, atom] = (inner.unflatten(1, (n_out, size)) * a.unsqueeze(1)).sum(2)
        ctx.save_for_backward(features, jacobian, *coefficients)
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        features, jacobian, *coefficients = ctx.saved_tensors
        wanted = wanted_derivatives(ctx)
        gradients: tuple[Tensor | None, ...] = _ContractionGradients.apply(
            *as_branches(cotangent), features, jacobian, wanted, *coefficients
        )
        return gradients


class _ContractionGradients(Function):
    """First derivatives of Σ_o b_o B_o with respect to the features and the coefficients."""

    @staticmethod
    def forward(
        ctx: Any, cotangent: Tensor, features: Tensor, jacobian: Tensor, wanted: tuple[bool, ...], *coefficients: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, features, jacobian, *coefficients)
        size = features.shape[1]
        of_features = None
        if wanted[0]:
            of_features = (jacobian.unflatten(1, (-1, size)) * cotangent.unsqueeze(2)).sum(1)
        of_coefficients: list[Tensor] = []
        if any(wanted[1:]):
            of_coefficients = [torch.zeros_like(coefficient) for coefficient in coefficients]
            for channel, atom in _pieces(features):
                a = features[channel, :, atom].contiguous()
                outer = (cotangent[channel, :, None, atom] * a.unsqueeze(1)).flatten(1, 2)
                for degree, total in enumerate(of_coefficients):
                    total[channel] += outer @ monomials(a, degree).transpose(1, 2)
        missing: list[Tensor | None] = [None] * len(coefficients)
        return of_features, *(of_coefficients or missing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂A, a'⟩ + Σ ⟨∂t, t'⟩ = Σ_o b_o dB_o, dB the change of B along the tangents a', t'."""
        cotangent, features, jacobian, *coefficients = ctx.saved_tensors
        size = features.shape[1]
        n_out = cotangent.shape[1]
        tangent = torch.zeros_like(features) if tangents[0] is None else tangents[0]
        moved = [torch.zeros_like(t) if dt is None else dt for t, dt in zip(coefficients, tangents[1:], strict=True)]
        moves = any(dt is not None for dt in tangents[1:])
        of_cotangent, of_features = torch.empty_like(cotangent), torch.empty_like(features)
        of_coefficients = [torch.zeros_like(coefficient) for coefficient in coefficients]
        for channel, atom in _pieces(features):
            a, da, b = (x[channel, :, atom].contiguous() for x in (features, tangent, cotangent))
            of_b = (jacobian[channel, :, atom].unflatten(1, (n_out, size)) * da.unsqueeze(1)).sum(2)
            outer = (b.unsqueeze(2) * a.unsqueeze(1)).flatten(1, 2)
            outer_moved = (b.unsqueeze(2) * da.unsqueeze(1)).flatten(1, 2)
            slope = torch.zeros_like(outer)
            for k, coefficient in enumerate(coefficients):
                plain = monomials(a, k)
                of_coefficients[k][channel] += (k + 1) * (outer_moved @ plain.transpose(1, 2))
                if k > 0:
                    slope.baddbmm_(coefficient[channel], monomials(a, k, da), alpha=k + 1)
                if moves:
                    term = moved[k][channel] @ plain
                    of_b += (term.unflatten(1, (n_out, size)) * a.unsqueeze(1)).sum(2)
                    slope.add_(term, alpha=k + 1)
            of_cotangent[channel, :, atom] = of_b
            of_features[channel, :, atom] = (slope.unflatten(1, (n_out, size)) * b.unsqueeze(2)).sum(1)
        return of_cotangent, of_features, None, None, *of_coefficients


def _pieces(features: Tensor) -> list[tuple[slice, slice]]:
    """Split channels and atoms so that the pair products of a piece fit the cache of a CPU; elsewhere, take everything."""
    channels, size, n_atoms = features.shape
    if features.device.type != "cpu":
        return [(slice(0, channels), slice(0, n_atoms))]
    step = max(1, CACHED_NUMBERS // max(1, size * (size + 1) // 2 * min(n_atoms, CACHED_ATOMS)))
    return [
        (slice(first, min(first + step, channels)), slice(start, min(start + CACHED_ATOMS, n_atoms)))
        for first in range(0, channels, step)
        for start in range(0, n_atoms, CACHED_ATOMS)
    ]
