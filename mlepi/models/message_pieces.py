"""The inner functions of the sum over neighbours and its derivatives, each for a few atoms.

What they compute stands in ``messages``: A_{i,m3,p,c} = Σ_{j,m1} T^p_{ij,m1,m3} R_{ij,p,c}
h_{j,m1,c} with R = z·Wᵀ. Those called ``piece_…`` take z and W, those called ``weighted_…`` R.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mlepi.models.message_paths import Path, PathBlock, path_blocks


@dataclass(frozen=True)
class PieceFunctions:
    """The three inner functions of ``sum_messages``, each for a few atoms.

    Compiled ones can take their place.

    Attributes:
        value: see ``piece_value``; from R, ``weighted_value``.
        gradients: see ``piece_gradients``; from R, ``weighted_gradients``.
        second: see ``piece_second``; from R, ``weighted_second``.
    """

    value: Callable[..., Any]
    gradients: Callable[..., Any]
    second: Callable[..., Any]


def build_piece_functions(paths: tuple[Path, ...]) -> PieceFunctions:
    """Return the plain inner functions for some paths, as from ``message_paths``."""
    blocks = path_blocks(paths)
    weighted = (weighted_value, weighted_gradients, weighted_second)
    return take_factors(PieceFunctions(*(partial(f, blocks) for f in weighted)), len(paths))


def take_factors(weighted: PieceFunctions, n_paths: int) -> PieceFunctions:
    """Return inner functions that take the factors z and W of R from those that take R."""
    return PieceFunctions(
        partial(piece_value, weighted.value, n_paths),
        partial(piece_gradients, weighted.gradients, n_paths),
        partial(piece_second, weighted.second, n_paths),
    )


def piece_value(
    weighted: Callable[..., Any],
    n_paths: int,
    senders: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
) -> Tensor:
    """Return A of some atoms.

    Args:
        weighted: the same from R, ``weighted_value`` of the paths.
        n_paths: number of paths.
        senders: h of the neighbours, (n_atoms, n_neighbours, (l_max_in+1)², channels).
        radial: z, as in ``sum_messages``, and likewise ``weight`` and ``couplings``.
        weight: W.
        couplings: T.
    """
    found: Tensor = weighted(senders, _weights(radial, weight, n_paths), couplings)
    return found


def weighted_value(
    blocks: Sequence[PathBlock], senders: Tensor, weights: Tensor, couplings: Tensor
) -> Tensor:
    """Return A of some atoms from their radial weights R, (n_atoms, n_neighbours, n_paths, c)."""
    messages = []
    for position, block in enumerate(blocks):
        weighted = (weights[:, :, position].unsqueeze(2) * senders[:, :, block.senders]).flatten(
            1, 2
        )
        messages.append(coupling_matrices(couplings, block).transpose(1, 2) @ weighted)
    return _join_messages(blocks, messages)


def piece_gradients(
    weighted: Callable[..., Any],
    n_paths: int,
    cotangent: Tensor,
    senders: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, A⟩ of some atoms.

    With respect to the senders' h, z, R (slots, paths·channels) and T.

    Args:
        weighted: the same from R, ``weighted_gradients`` of the paths.
        n_paths: number of paths.
        cotangent: B, like A.
        senders: as in ``piece_value``, and likewise ``radial``, ``weight`` and ``couplings``.
        radial: z.
        weight: W.
        couplings: T.
    """
    of_senders, flat, of_couplings = weighted(
        cotangent, senders, _weights(radial, weight, n_paths), couplings
    )
    return of_senders, (flat @ weight).view(radial.shape), flat, of_couplings


def weighted_gradients(
    blocks: Sequence[PathBlock],
    cotangent: Tensor,
    senders: Tensor,
    weights: Tensor,
    couplings: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, A⟩ with respect to the senders' h, R and T, from R.

    That of R has the shape (slots, paths·channels).
    """
    of_senders: dict[int, Tensor] = {}
    of_weights, of_couplings = [], []
    for position, block in enumerate(blocks):
        part, w, b = (
            senders[:, :, block.senders],
            weights[:, :, position].unsqueeze(2),
            cotangent[:, block.messages],
        )
        spread = (coupling_matrices(couplings, block) @ b).view(part.shape)
        of_weights.append(_dot(spread, part))
        of_senders[block.size_in] = _add_product(of_senders.get(block.size_in), spread, w)
        outer = (w * part).flatten(1, 2) @ b.transpose(1, 2)
        of_couplings.append(outer.view(*couplings.shape[:2], -1))
    flat = torch.cat(of_weights, dim=2).flatten(0, 1)
    of_all_senders = torch.cat([of_senders[size] for size in sorted(of_senders)], dim=2)
    return of_all_senders, flat, torch.cat(of_couplings, dim=2)


def piece_second(
    weighted: Callable[..., Any],
    n_paths: int,
    cotangent: Tensor,
    senders: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
    senders_moved: Tensor,
    radial_moved: Tensor,
    weight_moved: Tensor | None,
    couplings_moved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, dA⟩, dA the change of A along tangents of h, z, W and T.

    With R' = z'·Wᵀ + z·W'ᵀ, dA is A with one of h, R, T replaced by its tangent, summed. W' is zero
    where it is None.

    Returns:
        Derivatives with respect to B, the senders' h, z, T, and to R and R' (slots,
        paths·channels).
    """
    weights = _weights(radial, weight, n_paths)
    weights_moved = _weights(radial_moved, weight, n_paths)
    if weight_moved is not None:
        weights_moved = weights_moved + _weights(radial, weight_moved, n_paths)
    of_cotangent, of_senders, of_couplings, flat, flat_moved = weighted(
        cotangent,
        senders,
        weights,
        couplings,
        senders_moved,
        weights_moved,
        couplings_moved,
    )
    of_radial = flat @ weight
    if weight_moved is not None:
        of_radial = of_radial.addmm(flat_moved, weight_moved)
    of_radial = of_radial.view(radial.shape)
    return of_cotangent, of_senders, of_radial, of_couplings, flat, flat_moved


def weighted_second(
    blocks: Sequence[PathBlock],
    cotangent: Tensor,
    senders: Tensor,
    weights: Tensor,
    couplings: Tensor,
    senders_moved: Tensor,
    weights_moved: Tensor,
    couplings_moved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, dA⟩ as ``piece_second``, from R and R'.

    Returns:
        Derivatives with respect to B, the senders' h, T, and to R and R' (slots, paths·channels).
    """
    of_senders: dict[int, Tensor] = {}
    of_cotangent, of_weights, of_weights_moved, of_couplings = [], [], [], []
    for position, block in enumerate(blocks):
        part, part_moved = senders[:, :, block.senders], senders_moved[:, :, block.senders]
        w, w_moved = (
            weights[:, :, position].unsqueeze(2),
            weights_moved[:, :, position].unsqueeze(2),
        )
        b = cotangent[:, block.messages]
        coupling, coupling_moved = (
            coupling_matrices(couplings, block),
            coupling_matrices(couplings_moved, block),
        )
        weighted = (w * part).flatten(1, 2)
        weighted_moved = torch.addcmul(w * part_moved, w_moved, part).flatten(1, 2)
        change = coupling.transpose(1, 2) @ weighted_moved
        of_cotangent.append(torch.baddbmm(change, coupling_moved.transpose(1, 2), weighted))
        of_couplings.append((weighted_moved @ b.transpose(1, 2)).view(*couplings.shape[:2], -1))
        spread, spread_moved = (
            (coupling @ b).view(part.shape),
            (coupling_moved @ b).view(part.shape),
        )
        total = _add_product(of_senders.get(block.size_in), spread, w_moved)
        of_senders[block.size_in] = _add_product(total, spread_moved, w)
        of_weights_moved.append(_dot(spread, part))
        of_weights.append(_dot(spread, part_moved, _dot(spread_moved, part)))
    flat, flat_moved = (
        torch.cat(of_weights, dim=2).flatten(0, 1),
        torch.cat(of_weights_moved, dim=2).flatten(0, 1),
    )
    of_all_senders = torch.cat([of_senders[size] for size in sorted(of_senders)], dim=2)
    joined = _join_messages(blocks, of_cotangent)
    return joined, of_all_senders, torch.cat(of_couplings, dim=2), flat, flat_moved


def _weights(radial: Tensor, weight: Tensor, n_paths: int) -> Tensor:
    """Return R, (n_atoms, n_neighbours, n_paths, channels)."""
    return (radial.flatten(0, 1) @ weight.T).view(*radial.shape[:2], n_paths, -1)


def _dot(a: Tensor, b: Tensor, total: Tensor | None = None) -> Tensor:
    """Return Σ a·b over the components m1, the third of four axes, plus a total.

    (n_atoms, n_neighbours, channels).
    """
    for component in range(a.shape[2]):
        total = _add_product(total, a[:, :, component], b[:, :, component])
    return cast(Tensor, total)


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a * b if total is None else total.addcmul_(a, b)


def _join_messages(blocks: Sequence[PathBlock], parts: Sequence[Tensor]) -> Tensor:
    """Join (n_atoms, 2·l3+1, channels) of every path in the order of ``path_blocks``."""
    joined = []
    for size in sorted({block.size_out for block in blocks}):
        of_size = [
            part for part, block in zip(parts, blocks, strict=True) if block.size_out == size
        ]
        joined.append(torch.stack(of_size, dim=2).flatten(1, 2))
    return torch.cat(joined, dim=1)


def coupling_matrices(couplings: Tensor, block: PathBlock) -> Tensor:
    """Return one path's T as matrices, (n_atoms, n_neighbours·(2·l1+1), 2·l3+1)."""
    return couplings[:, :, block.coupling].reshape(couplings.shape[0], -1, block.size_out)
