"""Terms of equivariant polynomials, grouped by their parity under the three reflections.

A real harmonic at most changes its sign when x, y or z is reversed. The polynomial B_o(A) can
therefore have the term A_i A_j A_k only if the signs of o, i, j and k multiply to one for every
reflection, which is one term in eight. With the derivatives ∂B_o/∂A_i and the monomials 1, A_j, A_j
A_k sorted by their signs, all coefficients of the former are one small matrix per group. B follows
from its derivatives by Euler's theorem: ν B_o = Σ_i A_i ∂B_o/∂A_i + Σ_d (ν − d) B_o^d, where the
remainder, of degrees d below the highest ν, is a polynomial of the same monomials: further rows of
these matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class ParityGroup:
    """Terms of one parity: a matrix of coefficients from monomials to derivatives and remainders.

    Attributes:
        rows: rows of this group among those of all groups.
        coefficients: the matrix among the coefficients of all groups, row by row.
        shape: (number of rows, number of monomials).
        constant: whether the first monomial is 1.
        linear: sorted components that are monomials by themselves; they come next.
        products: two blocks of sorted components and the place of their products among the
            monomials, the second index fastest.
    """

    rows: slice
    coefficients: slice
    shape: tuple[int, int]
    constant: bool
    linear: slice
    products: tuple[tuple[slice, slice, slice], ...]


@dataclass(frozen=True)
class ParityTerms:
    """All terms of the polynomials from l = 0…l_max to l = 0…l_max_out.

    Attributes:
        groups: by parity.
        components: (I,) int, components l² + l + m of the input sorted by parity.
        order: (n_out·I + n_out,) int, row in the groups' order of every ∂B_o/∂A_i, by o, then i,
            and of every remainder.
        place: (n_coefficients,) int, place of each coefficient in an (n_out·I + n_out, 1 + I + I²)
            array, whose last axis are the monomials 1, A_j, A_j A_k.
    """

    groups: tuple[ParityGroup, ...]
    components: Tensor
    order: Tensor
    place: Tensor


def reflection_parities(l_max: int) -> list[int]:
    """Return for every real harmonic l² + l + m three bits.

    Whether it changes sign when z, y, x is reversed.
    """
    return [
        (l + m) % 2
        + 2 * (m < 0)
        + 4 * ((m + (m < 0)) % 2)  # ∝ sin(|m|φ) for m < 0, cos(mφ) otherwise
        for l in range(l_max + 1)
        for m in range(-l, l + 1)
    ]


@cache
def parity_terms(l_max: int, l_max_out: int, correlation: int, device: torch.device) -> ParityTerms:
    """Group the terms.

    Args:
        l_max: largest l of the input.
        l_max_out: largest l of the polynomials.
        correlation: largest degree of the polynomials.
        device: of all tensors.
    """
    parities, parities_out = reflection_parities(l_max), reflection_parities(l_max_out)
    size = len(parities)
    components = sorted(range(size), key=lambda i: parities[i])
    of_parity = {
        parity: slice(sum(p < parity for p in parities), sum(p <= parity for p in parities))
        for parity in range(8)
    }
    groups: list[ParityGroup] = []
    rows: list[int] = []
    places: list[int] = []
    for parity in range(8):
        of_group = [
            o * size + i
            for o, out in enumerate(parities_out)
            for i in components
            if out ^ parities[i] == parity
        ]
        of_group += [
            len(parities_out) * size + o for o, out in enumerate(parities_out) if out == parity
        ]
        constant = parity == 0
        linear = of_parity[parity] if correlation > 1 else slice(0, 0)
        monomials = [0] * constant + [1 + j for j in components[linear]]
        products = []
        for first, second in _blocks(of_parity, parity) if correlation > 2 else ():
            start = len(monomials)
            monomials += [
                1 + size + j * size + k for j in components[first] for k in components[second]
            ]
            products.append((first, second, slice(start, len(monomials))))
        rows += of_group
        places += [
            row * (1 + size + size * size) + monomial for row in of_group for monomial in monomials
        ]
        groups.append(
            ParityGroup(
                rows=slice(len(rows) - len(of_group), len(rows)),
                coefficients=slice(len(places) - len(of_group) * len(monomials), len(places)),
                shape=(len(of_group), len(monomials)),
                constant=constant,
                linear=linear,
                products=tuple(products),
            )
        )
    with torch.inference_mode(False):  # made while predicting, they must serve training as well
        return ParityTerms(
            groups=tuple(groups),
            components=torch.tensor(components, device=device),
            order=torch.tensor(rows, device=device).argsort(),
            place=torch.tensor(places, device=device),
        )


def _blocks(of_parity: dict[int, slice], parity: int) -> tuple[tuple[slice, slice], ...]:
    """List the blocks of sorted components whose products have a parity, every pair once."""
    if parity == 0:
        return tuple(
            (slice(i, i + 1), slice(i, block.stop))
            for block in of_parity.values()
            for i in range(block.start, block.stop)
        )
    blocks = [
        (of_parity[first], of_parity[first ^ parity])
        for first in range(8)
        if first < first ^ parity
    ]
    return tuple((a, b) for a, b in blocks if a.stop > a.start and b.stop > b.start)
