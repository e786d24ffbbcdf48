"""Symmetric contractions in C++ for trainings: ``polynomials.contract`` and two derivatives."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.kernels.library import address, find_library
from mlepi.models.compilation import are_operations_plain, as_branches, wanted_derivatives
from mlepi.models.native.contraction import Polynomials, list_terms
from mlepi.models.parity_terms import ParityTerms

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Derivatives(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("features", "given", "tangent")),
        *((name, _POINTER) for name in ("of_coefficients", "of_features", "of_given")),
    )


class NativePolynomials:
    """The polynomials of one contraction, of features with channels last. Copies keep no address.

    Args:
        terms: of the polynomials.
        n_inputs: components of the features.
        n_outputs: components of the results.
        correlation: highest degree.
    """

    def __init__(self, terms: ParityTerms, n_inputs: int, n_outputs: int, correlation: int) -> None:
        sizes, rows, monomials = list_terms(terms, n_inputs)
        self.tables = [torch.tensor(values) for values in (sizes, rows, monomials)]
        self.n_inputs, self.n_outputs, self.correlation = n_inputs, n_outputs, correlation

    def serves(self, features: Tensor) -> bool:
        """Tell whether C++ can be used for these features, (n_atoms, I, channels)."""
        if features.numel() == 0 or are_operations_plain():
            return False
        return find_library(features, features.shape[2]) is not None

    def __call__(self, features: Tensor, coefficients: Tensor) -> Tensor:
        """Evaluate the polynomials, differentiable twice.

        Args:
            features: A, (n_atoms, I, channels), which ``serves`` accepts.
            coefficients: (channels, n_coefficients), as in ``polynomials.contract``.

        Returns:
            B, (n_atoms, n_out, channels).
        """
        result: Tensor = _Values.apply(*as_branches(features, coefficients), self)
        return result

    def evaluate(
        self, features: Tensor, coefficients: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return B, or for b, (n_atoms, n_out, channels), the derivatives of Σ b·B by A."""
        n_atoms, _, channels = features.shape
        n_rows = self.n_outputs if given is None else self.n_inputs
        result = features.new_empty(n_atoms, n_rows, channels)
        library, plan, _held = self._describe(coefficients)
        held = features.contiguous(), None if given is None else given.contiguous()
        library.contract(
            ctypes.byref(plan),
            address(None),
            _NUMBER(n_atoms),
            *(address(x) for x in held),
            address(result),
            _NUMBER(min(torch.get_num_threads(), n_atoms)),
        )
        return result

    def differentiate(
        self, features: Tensor, coefficients: Tensor, given: Tensor, tangent: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the derivatives of Σ b·B by the coefficients, or those of its change along A'.

        Args:
            features: A.
            coefficients: of the polynomials.
            given: b, (n_atoms, n_out, channels).
            tangent: A', like A; None for none.

        Returns:
            Derivatives by the coefficients; with a tangent those of Σ b·dB by coefficients,
            features and b.
        """
        library, plan, (by_lanes, lanes) = self._describe(coefficients)
        of_coefficients = torch.zeros_like(by_lanes)
        held = [x.contiguous() for x in (features, given)]
        moved = None if tangent is None else tangent.contiguous()
        results: tuple[Tensor, Tensor] | tuple[None, None] = None, None
        if moved is not None:
            results = torch.empty_like(held[0]), torch.empty_like(held[1])
        arrays = _Derivatives(
            *(address(x) for x in held),
            address(moved),
            address(of_coefficients),
            *(address(x) for x in results),
        )
        n_threads = min(torch.get_num_threads(), coefficients.shape[0] // lanes)
        library.differentiate_contraction(
            ctypes.byref(plan),
            _NUMBER(features.shape[0]),
            ctypes.byref(arrays),
            _NUMBER(n_threads),
        )
        return (of_coefficients.transpose(1, 2).reshape(coefficients.shape), *results)

    def _describe(
        self, coefficients: Tensor
    ) -> tuple[ctypes.CDLL, Polynomials, tuple[Tensor, int]]:
        """Return the kernels, the polynomials for them, and the coefficients in their order."""
        channels, n_coefficients = coefficients.shape
        library = find_library(coefficients, channels)
        if library is None:
            raise LookupError("kernels that do not serve these features")
        lanes = int(library.lanes())
        by_lanes = coefficients.view(-1, lanes, n_coefficients).transpose(1, 2).contiguous()
        sizes, rows, monomials = self.tables
        plan = Polynomials(
            channels,
            self.n_inputs,
            self.n_outputs,
            sizes.shape[0],
            self.correlation,
            n_coefficients,
            *(address(x) for x in (sizes, rows, monomials, by_lanes)),
        )
        return library, plan, (by_lanes, lanes)


class _Values(Function):
    """The polynomials."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, coefficients: Tensor, polynomials: NativePolynomials
    ) -> Tensor:
        ctx.save_for_backward(features, coefficients)
        ctx.polynomials = polynomials
        return polynomials.evaluate(features, coefficients)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _Gradients.apply(
            *as_branches(cotangent), *ctx.saved_tensors, ctx.polynomials, wanted_derivatives(ctx)
        )
        return (*gradients, None)


class _Gradients(Function):
    """First derivatives of Σ b·B by features and coefficients."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        features: Tensor,
        coefficients: Tensor,
        polynomials: NativePolynomials,
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, features, coefficients)
        ctx.polynomials = polynomials
        of_features = of_coefficients = None
        if wanted[0]:
            of_features = polynomials.evaluate(features, coefficients, cotangent)
        if wanted[1]:
            of_coefficients = polynomials.differentiate(features, coefficients, cotangent)[0]
        return of_features, of_coefficients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂A, A'⟩ + ⟨∂t, t'⟩ = Σ b·dB, dB the change of B along A' and t'."""
        cotangent, features, coefficients = ctx.saved_tensors
        polynomials: NativePolynomials = ctx.polynomials
        tangent, moved = tangents
        of_cotangent = of_features = of_coefficients = None
        if tangent is not None:
            of_coefficients, of_features, of_cotangent = polynomials.differentiate(
                features, coefficients, cotangent, tangent
            )
        if moved is not None:  # B is linear in t
            change = polynomials.evaluate(features, moved)
            slope = polynomials.evaluate(features, moved, cotangent)
            of_cotangent = change if of_cotangent is None else of_cotangent + change
            of_features = slope if of_features is None else of_features + slope
        return of_cotangent, of_features, of_coefficients, None, None
