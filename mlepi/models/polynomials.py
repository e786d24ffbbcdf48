"""Equivariant polynomials, channel by channel, and their derivatives up to the second.

B_o = Σ_i A_i (t_{oi} + Σ_j t_{oij} A_j + Σ_{j≤k} t_{oi,jk} A_j A_k). Because the coefficients are
symmetric in i, j, k, the terms in brackets, weighted by their degree 1, 2, 3, are the derivative
∂B_o/∂A_i as well. Most coefficients are zero by parity; the others are one small matrix per group
of ``parity_terms`` and channel. Everything is channels first and atoms last, as many atoms at a
time as fit the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import are_operations_plain, as_branches, wanted_derivatives
from mlepi.models.parity_terms import ParityGroup, ParityTerms

CACHED_NUMBERS = 1 << 20
"""Largest number of monomials held at once on a CPU."""


def contract(
    features: Tensor, coefficients: Tensor, terms: ParityTerms, correlation: int
) -> Tensor:
    """Evaluate the polynomials; differentiable twice.

    Args:
        features: A, (channels, I, n_atoms).
        coefficients: (channels, n_coefficients), of derivatives and remainders of the same
            polynomials, see ``parity_terms``.
        terms: of the polynomials.
        correlation: highest degree of the polynomials.

    Returns:
        B, (channels, n_out, n_atoms).
    """
    if are_operations_plain():
        return _contract_plainly(features, coefficients, terms, correlation)
    result: Tensor = _Contraction.apply(*as_branches(features, coefficients), terms, correlation)
    return result


def _contract_plainly(
    features: Tensor, coefficients: Tensor, terms: ParityTerms, correlation: int
) -> Tensor:
    """Evaluate the polynomials with torch's own operations, all atoms at once."""
    a = features.transpose(0, 1).index_select(0, terms.components)
    values = []
    for group in terms.groups:
        parts = [torch.ones_like(a[:1])] if group.constant else []
        parts += [
            a[group.linear],
            *(
                (a[first].unsqueeze(1) * a[second].unsqueeze(0)).flatten(0, 1)
                for first, second, _ in group.products
            ),
        ]
        values.append(torch.cat(parts).transpose(0, 1))
    slope, rest = _apply(coefficients, values, terms, features.shape[1])
    return (rest + (slope * features.unsqueeze(1)).sum(2)) / correlation


def monomials(features: Tensor, group: ParityGroup, tangent: Tensor | None = None) -> Tensor:
    """Return the monomials of a group, or their change along a tangent.

    (channels, n_monomials, n_atoms).

    Args:
        features: sorted components, (I, channels, n_atoms).
        group: whose monomials are wanted.
        tangent: like ``features``.
    """
    values = features.new_empty(group.shape[1], *features.shape[1:])
    start = int(group.constant)
    if group.constant:
        values[0] = 1.0 if tangent is None else 0.0
    linear = (features if tangent is None else tangent)[group.linear]
    values[start : start + linear.shape[0]] = linear
    for first, second, place in group.products:
        part = values[place]
        a, b = features[first], features[second]
        if a.shape[0] > 1:
            a, part = a.unsqueeze(1), part.view(a.shape[0], *b.shape)
        if tangent is None:
            torch.mul(a, b, out=part)
        else:
            torch.mul(a, tangent[second], out=part).addcmul_(tangent[first].view(a.shape), b)
    return values.transpose(0, 1)


class _Contraction(Function):
    """``contract``, keeping the Jacobian ∂B_o/∂A_i for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, coefficients: Tensor, terms: ParityTerms, correlation: int
    ) -> Tensor:
        size = features.shape[1]
        results, slopes = [], []
        for atoms in _pieces(features, terms):
            a = features[:, :, atoms].contiguous()
            slope, rest = _apply(coefficients, _all_monomials(a, terms), terms, size)
            results.append((rest + (slope * a.unsqueeze(1)).sum(2)) / correlation)
            slopes.append(slope)
        result, jacobian = _join(results), _join(slopes)
        ctx.save_for_backward(features, jacobian, coefficients)
        ctx.terms, ctx.correlation = terms, correlation
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        features, jacobian, coefficients = ctx.saved_tensors
        wanted = wanted_derivatives(ctx)
        gradients = _ContractionGradients.apply(
            *as_branches(cotangent),
            features,
            jacobian,
            coefficients,
            ctx.terms,
            ctx.correlation,
            wanted,
        )
        return (*gradients, None, None)


class _ContractionGradients(Function):
    """First derivatives of Σ_o b_o B_o with respect to the features and the coefficients."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        features: Tensor,
        jacobian: Tensor,
        coefficients: Tensor,
        terms: ParityTerms,
        correlation: int,
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, features, jacobian, coefficients)
        ctx.terms, ctx.correlation = terms, correlation
        of_features, of_coefficients = None, None
        if wanted[0]:
            of_features = _sum_outputs(jacobian, cotangent)
        if wanted[1]:
            of_coefficients = torch.zeros_like(coefficients)
            for atoms in _pieces(features, terms):
                a, b = features[:, :, atoms].contiguous(), cotangent[:, :, atoms] / correlation
                outer = torch.cat([(b.unsqueeze(2) * a.unsqueeze(1)).flatten(1, 2), b], dim=1)
                of_coefficients += _sum_terms(outer, _all_monomials(a, terms), terms)
        return of_features, of_coefficients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂A, a'⟩ + ⟨∂t, t'⟩ = Σ_o b_o dB_o.

        dB is the change of B along the tangents a', t'.
        """
        cotangent, features, jacobian, coefficients = ctx.saved_tensors
        terms: ParityTerms = ctx.terms
        size = features.shape[1]
        tangent, moved = tangents
        of_cotangent, of_features = torch.zeros_like(cotangent), torch.zeros_like(features)
        of_coefficients = torch.zeros_like(coefficients)
        for atoms in _pieces(features, terms):
            a, b = features[..., atoms].contiguous(), cotangent[..., atoms].contiguous()
            if tangent is not None:
                da = tangent[..., atoms].contiguous()
                outer = torch.cat(
                    [(b.unsqueeze(2) * da.unsqueeze(1)).flatten(1, 2), torch.zeros_like(b)], dim=1
                )
                of_coefficients += _sum_terms(outer, _all_monomials(a, terms), terms)
                of_cotangent[..., atoms] += (jacobian[..., atoms] * da.unsqueeze(1)).sum(2)
                slope, _ = _apply(coefficients, _all_monomials(a, terms, da), terms, size)
                of_features[..., atoms] += _sum_outputs(slope, b)
            if moved is not None:
                slope, rest = _apply(moved, _all_monomials(a, terms), terms, size)
                of_cotangent[..., atoms] += rest.add_((slope * a.unsqueeze(1)).sum(2)).div_(
                    ctx.correlation
                )
                of_features[..., atoms] += _sum_outputs(slope, b)
        return of_cotangent, of_features, None, of_coefficients, None, None, None


def _all_monomials(
    features: Tensor, terms: ParityTerms, tangent: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield the monomials of every group, or their change, of features (channels, I, n_atoms).

    One at a time fits the cache.
    """
    a = features.transpose(0, 1).index_select(0, terms.components)
    da = None if tangent is None else tangent.transpose(0, 1).index_select(0, terms.components)
    for group in terms.groups:
        yield monomials(a, group, da)


def _apply(
    coefficients: Tensor, values: Iterable[Tensor], terms: ParityTerms, size: int
) -> tuple[Tensor, Tensor]:
    """Return ∂B_o/∂A_i and the remainders from all monomials.

    (channels, n_out, I, n_atoms) and (channels, n_out, n_atoms).
    """
    rows = [
        torch.bmm(
            coefficients[:, group.coefficients].view(coefficients.shape[0], *group.shape), part
        )
        for group, part in zip(terms.groups, values, strict=True)
    ]
    ordered = torch.cat(rows, dim=1).index_select(1, terms.order)
    n_out = ordered.shape[1] // (size + 1)
    return ordered[:, : n_out * size].unflatten(1, (n_out, size)), ordered[:, n_out * size :]


def _sum_terms(rows: Tensor, values: Iterable[Tensor], terms: ParityTerms) -> Tensor:
    """Return Σ over atoms of row × monomial for every coefficient, (channels, n_coefficients)."""
    sorted_rows = rows.index_select(1, terms.order.argsort())
    parts = [
        (sorted_rows[:, group.rows] @ part.transpose(1, 2)).flatten(1)
        for group, part in zip(terms.groups, values, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _sum_outputs(slope: Tensor, cotangent: Tensor) -> Tensor:
    """Return Σ_o b_o ∂B_o/∂A_i, (channels, I, n_atoms)."""
    total = slope[:, 0] * cotangent[:, :1]
    for o in range(1, slope.shape[1]):
        total.addcmul_(slope[:, o], cotangent[:, o : o + 1])
    return total


def _join(parts: list[Tensor]) -> Tensor:
    """Join pieces of atoms, without a copy where there is one."""
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _pieces(features: Tensor, terms: ParityTerms) -> list[slice]:
    """Split the atoms so that the monomials of a piece fit the cache of a CPU.

    Elsewhere, take all.
    """
    channels, _, n_atoms = features.shape
    if features.device.type != "cpu":
        return [slice(0, n_atoms)]
    per_atom = channels * max(group.shape[1] for group in terms.groups)
    n_pieces = max(1, -(-n_atoms * per_atom // CACHED_NUMBERS))
    step = -(-n_atoms // n_pieces)
    return [slice(start, min(start + step, n_atoms)) for start in range(0, n_atoms, step or 1)]
