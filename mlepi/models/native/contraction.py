"""The symmetric contraction in C++: ``polynomials.contract`` and its first derivatives."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.kernels.library import address, load_library
from mlepi.models.parity_terms import ParityTerms

if TYPE_CHECKING:
    from mlepi.models.symmetric_contraction import SymmetricContraction

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class Polynomials(ctypes.Structure):
    """Polynomials of one element, as in ``polynomials.cpp``."""

    _fields_ = (
        *((name, _NUMBER) for name in ("channels", "n_inputs", "n_outputs", "n_groups")),
        *((name, _NUMBER) for name in ("correlation", "n_coefficients")),
        *((name, _POINTER) for name in ("sizes", "rows", "monomials", "coefficients")),
    )


class NativeContraction:
    """One symmetric contraction, for features in the order channels last.

    Args:
        contraction: whose weights are taken, again where they have changed.
        dtype: of the features.

    Raises:
        OSError: the kernels cannot be built.
    """

    def __init__(self, contraction: SymmetricContraction, dtype: torch.dtype) -> None:
        self.contraction = contraction
        self.library = load_library(dtype)
        self.lanes = int(self.library.lanes())
        self.spare = -contraction.num_features % self.lanes
        weight = next(iter(contraction.weights.values()))
        terms = contraction.terms(weight)
        sizes, rows, monomials = list_terms(terms, contraction.num_inputs)
        self.held = [torch.tensor(values) for values in (sizes, rows, monomials)]
        self.polynomials: list[Polynomials] = []
        self.coefficients: list[Tensor] = []
        self.versions: list[tuple[int, int]] = []

    def __call__(self, features: Tensor, species: Tensor) -> Tensor:
        """Contract, differentiable once by the features: see ``SymmetricContraction.forward``."""
        self._follow_weights()
        spare = self.spare
        padded = torch.nn.functional.pad(features, (0, spare)) if spare else features
        order, counts = None, [features.shape[0]]
        if len(self.polynomials) > 1:
            order = torch.argsort(species, stable=True)
            counts = torch.bincount(species, minlength=len(self.polynomials)).tolist()
        found: Tensor = _Contraction.apply(padded, order, counts, self)
        return found[..., : features.shape[2]] if spare else found

    def run(
        self, features: Tensor, order: Tensor | None, counts: list[int], given: Tensor | None
    ) -> Tensor:
        """Return B, or derivatives by the features for cotangents of B.

        Args:
            features: A, (n_atoms, I, channels), channels a multiple of the lanes.
            order: (n_atoms,) int, atoms by element; None: in their own order.
            counts: atoms of each element.
            given: cotangents, (n_atoms, n_out, channels).
        """
        n_rows = self.contraction.num_outputs if given is None else features.shape[1]
        result = features.new_empty(features.shape[0], n_rows, features.shape[2])
        first = 0
        for polynomials, count in zip(self.polynomials, counts, strict=True):
            atoms = None if order is None else order[first : first + count]
            self.library.contract(
                ctypes.byref(polynomials),
                address(atoms),
                _NUMBER(count),
                address(features),
                address(given),
                address(result),
                _NUMBER(min(torch.get_num_threads(), max(1, count))),
            )
            first += count
        return result

    def _follow_weights(self) -> None:
        """Assemble the coefficients, unless those of the same weights are there."""
        contraction = self.contraction
        versions = [(weight.data_ptr(), weight._version) for weight in contraction.weights.values()]
        if versions == self.versions:
            return
        sizes, rows, monomials = self.held
        self.polynomials, self.coefficients = [], []
        with torch.no_grad():
            for element in range(contraction.num_elements):
                table = torch.nn.functional.pad(
                    contraction.coefficients(element), (0, 0, 0, self.spare)
                )
                channels, n = table.shape
                by_lanes = table.view(-1, self.lanes, n).transpose(1, 2).contiguous()
                self.coefficients.append(by_lanes)
                self.polynomials.append(
                    Polynomials(
                        channels,
                        contraction.num_inputs,
                        contraction.num_outputs,
                        sizes.shape[0],
                        contraction.correlation,
                        n,
                        *(address(held) for held in (sizes, rows, monomials, by_lanes)),
                    )
                )
        self.versions = versions


def list_terms(
    terms: ParityTerms, n_inputs: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[tuple[int, int]]]:
    """Spell out the terms of the polynomials in the order of their coefficients.

    Returns:
        Numbers of rows and monomials of every group; output and input of each row, −1 of
        remainders; and components of each monomial, −1 for none.
    """
    components = terms.components.tolist()
    places = terms.order.argsort().tolist()
    n_derivatives = len(places) * n_inputs // (n_inputs + 1)
    sizes, rows, monomials = [], [], []
    for group in terms.groups:
        sizes.append(group.shape)
        for place in places[group.rows]:
            if place < n_derivatives:
                rows.append((place // n_inputs, place % n_inputs))
            else:
                rows.append((place - n_derivatives, -1))
        monomials += [(-1, -1)] * group.constant
        monomials += [(j, -1) for j in components[group.linear]]
        for first, second, _ in group.products:
            monomials += [(j, k) for j in components[first] for k in components[second]]
    return sizes, rows, monomials


class _Contraction(Function):
    """The polynomials and their derivatives by the features."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        order: Tensor | None,
        counts: list[int],
        contraction: NativeContraction,
    ) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features)
        ctx.rest = (order, counts, contraction)
        return contraction.run(features, order, counts, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        (features,) = ctx.saved_tensors
        order, counts, contraction = ctx.rest
        return contraction.run(features, order, counts, cotangent.contiguous()), None, None, None
