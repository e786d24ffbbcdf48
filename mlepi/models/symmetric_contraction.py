"""Symmetric contraction: equivariant polynomials of an atom's features, the many-body part of MACE.

For every output l and degree ν ≤ correlation there is a basis of symmetric coupling tensors T
(generalised Clebsch–Gordan coefficients); the contraction is B_o = Σ_ν Σ_k w_k Σ T^k_{o i1…iν}
A_{i1}…A_{iν}, channel by channel with weights per element (Batatia et al. 2022, arXiv:2206.07697,
Eqs. 10–11). The basis here is minimal: only linearly independent *symmetric* tensors, so there are
fewer weights than in codes that keep every coupling path.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.channel_linear import apply_by_element, degree_slice
from mlepi.models.native.polynomials import NativePolynomials
from mlepi.models.parity_terms import ParityTerms, parity_terms
from mlepi.models.polynomials import contract
from mlepi.models.wigner import wigner_3j

INDEPENDENCE_TOLERANCE = 1e-6
"""A coupling tensor of unit norm whose part outside the span of the earlier ones is smaller than
this is dropped."""


@cache
def symmetric_couplings(l_max: int, l_out: int, degree: int) -> Tensor:
    """Return a basis of the symmetric equivariant maps to l_out.

    They start from ``degree`` copies of l = 0…l_max.

    All irreps have natural parity (−1)^l. Tensors come from coupling (l1 l2) l3 in ascending order
    with 3j symbols, are symmetrised, and made orthogonal in that order. ‖T‖² = (2·l_out +
    1)/degree!, so that a polynomial of independent unit normal variables has about unit variance.

    Args:
        l_max: largest l of the input.
        l_out: l of the output.
        degree: number of factors, 1, 2 or 3.

    Returns:
        (n_paths, 2·l_out+1, I, …, I) with ``degree`` axes of I = (l_max+1)², float64.
    """
    size = (l_max + 1) ** 2
    basis: list[Tensor] = []
    for degrees in itertools.combinations_with_replacement(range(l_max + 1), degree):
        if (sum(degrees) + l_out) % 2 == 1:
            continue
        block: list[Tensor] = []  # tensors of different sets of l are orthogonal already
        for coupling in _coupling_trees(degrees, l_out):
            tensor = coupling.new_zeros(2 * l_out + 1, *[size] * degree)
            tensor[(slice(None), *(degree_slice(l) for l in degrees))] = coupling
            tensor = _symmetrise(tensor)
            norm = float(tensor.norm())
            if norm < INDEPENDENCE_TOLERANCE:
                continue
            tensor = tensor / norm
            for _ in range(2):  # twice, for orthogonality to rounding
                for other in block:
                    tensor = tensor - (tensor * other).sum() * other
            if float(tensor.norm()) > INDEPENDENCE_TOLERANCE:
                block.append(tensor / tensor.norm())
        basis += block
    factor = math.sqrt((2 * l_out + 1) / math.factorial(degree))
    shape = (2 * l_out + 1, *[size] * degree)
    return torch.stack(basis) * factor if basis else torch.zeros(0, *shape, dtype=torch.float64)


def _coupling_trees(degrees: tuple[int, ...], l_out: int) -> list[Tensor]:
    """Return tensors that couple l1, l2, … to l_out through every intermediate l.

    (2·l_out+1, 2l1+1, …).
    """
    if len(degrees) == 1:
        return [torch.eye(2 * l_out + 1, dtype=torch.float64)] if degrees[0] == l_out else []
    *first, last = degrees
    trees = []
    total = sum(first)
    for l in range(total + 1):
        if not abs(l - last) <= l_out <= l + last:
            continue
        for tree in _coupling_trees(tuple(first), l):
            trees.append(torch.einsum("m...,mno->o...n", tree, wigner_3j(l, last, l_out)))
    return trees


def _symmetrise(tensor: Tensor) -> Tensor:
    degree = tensor.dim() - 1
    permutations = list(itertools.permutations(range(1, degree + 1)))
    return torch.stack([tensor.permute(0, *permutation) for permutation in permutations]).sum(
        0
    ) / len(permutations)


class SymmetricContraction(nn.Module):
    """Polynomials of node features up to a correlation order, channel by channel.

    Every element has weights of its own.

    Evaluated by ``polynomials.contract`` with tensors t = Σ_k w_k T^k, assembled once per call for
    each element and channel.

    Args:
        l_max_in: largest l of the input.
        l_max_out: largest l of the output.
        correlation: highest degree, 1, 2 or 3.
        num_features: channels.
        num_elements: elements with weights of their own.
    """

    def __init__(
        self,
        *,
        l_max_in: int,
        l_max_out: int,
        correlation: int,
        num_features: int,
        num_elements: int,
    ) -> None:
        super().__init__()
        if correlation not in (1, 2, 3):
            raise ConfigError(
                message("MACE.correlation", f"{correlation}", "1, 2 or 3", "Edit the config.")
            )
        self.num_inputs = (l_max_in + 1) ** 2
        self.num_outputs = (l_max_out + 1) ** 2
        self.l_max_in, self.l_max_out, self.correlation = l_max_in, l_max_out, correlation
        self.num_features, self.num_elements = num_features, num_elements
        self.weights = nn.ParameterDict()
        self.native: NativePolynomials | None = None
        self.tables: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self.blocks = [
            (l, degree) for l in range(l_max_out + 1) for degree in range(1, correlation + 1)
        ]
        for l, degree in self.blocks:
            n_paths = symmetric_couplings(l_max_in, l, degree).shape[0]
            self.weights[f"l{l}_degree{degree}"] = nn.Parameter(
                torch.randn(num_elements, n_paths, num_features)
            )

    def coupling_table(self, like: Tensor) -> Tensor:
        """Return T of all l and degrees in the order of the weights, exact in every dtype.

        (n_paths, n_coefficients).

        Coefficients are those of ∂B_o/∂A_i and of the remainders, in the order of ``parity_terms``.
        """
        key = (like.dtype, like.device)
        if key not in self.tables:
            with torch.inference_mode(
                False
            ):  # a table cached while predicting must serve training as well
                place = self.terms(like).place.cpu()
                parts = [
                    self._dense_couplings(l, degree).flatten(1)[:, place]
                    for l, degree in self.blocks
                ]
                self.tables[key] = torch.cat(parts).to(dtype=like.dtype, device=like.device)
        return self.tables[key]

    def terms(self, like: Tensor) -> ParityTerms:
        """Return the terms of the polynomials, on a tensor's device."""
        return parity_terms(self.l_max_in, self.l_max_out, self.correlation, like.device)

    def _dense_couplings(self, l: int, degree: int) -> Tensor:
        """Return the contribution of one l and degree to derivatives and remainders.

        (n_paths, n_out·(I + 1), 1 + I + I²).
        """
        size = self.num_inputs
        tensor = symmetric_couplings(self.l_max_in, l, degree)
        n_paths = tensor.shape[0]
        first = [0, 1, 1 + size, 1 + size + size * size]  # of the monomials of degree 0, 1, 2
        derivatives = tensor.new_zeros(n_paths, self.num_outputs, size, first[-1])
        rests = tensor.new_zeros(n_paths, self.num_outputs, first[-1])
        pairs = 2.0 - torch.eye(size, dtype=tensor.dtype)  # A_j A_k, j < k, stands for two terms
        last = tensor * pairs if degree == 3 else tensor
        derivatives[:, degree_slice(l), :, first[degree - 1] : first[degree]] = (
            degree * last.reshape(*tensor.shape[:3], -1)
        )
        if degree < self.correlation:
            last = tensor * pairs if degree == 2 else tensor
            rests[:, degree_slice(l), first[degree] : first[degree + 1]] = (
                self.correlation - degree
            ) * last.flatten(2)
        return torch.cat([derivatives.flatten(1, 2), rests], dim=1)

    def coefficients(self, element: int) -> Tensor:
        """Assemble the polynomials of one element: (channels, n_coefficients)."""
        weights = torch.cat([weight[element] for weight in self.weights.values()])
        return weights.T @ self.coupling_table(weights)

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """Contract: (n_atoms, (l_max_in+1)², channels) → (n_atoms, (l_max_out+1)², channels).

        Args:
            features: A.
            species: (n_atoms,) int.
        """
        return apply_by_element(self._contract, features, species, self.num_elements)

    def compile_kernels(self) -> None:
        """Evaluate in C++ on processors."""
        weight = next(iter(self.weights.values()))
        self.native = NativePolynomials(
            self.terms(weight), self.num_inputs, self.num_outputs, self.correlation
        )

    def _contract(self, features: Tensor, element: int) -> Tensor:
        coefficients = self.coefficients(element)
        if self.native is not None and self.native.serves(features):
            return self.native(features, coefficients)
        return contract(
            features.permute(2, 1, 0), coefficients, self.terms(features), self.correlation
        ).permute(2, 1, 0)
