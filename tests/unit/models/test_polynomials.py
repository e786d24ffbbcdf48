"""Polynomials in pieces equal their definition, with both derivatives.

For every degree and any cache size.
"""

from __future__ import annotations

import pytest
import torch

from mlepi.models import polynomials
from mlepi.models.compilation import plain_operations
from mlepi.models.parity_terms import parity_terms
from mlepi.models.polynomials import contract, monomials
from mlepi.models.symmetric_contraction import SymmetricContraction, symmetric_couplings


def definition(module, names, features, species, *weights):
    """Σ over l, degree and coupling tensors, as einsum writes it."""
    total = []
    for l in range(module.l_max_out + 1):
        part = 0.0
        for degree in range(1, module.correlation + 1):
            axes = "ijl"[:degree]
            equation = f"ko{axes},nkc,{','.join(f'n{axis}c' for axis in axes)}->noc"
            weight = weights[names.index(f"l{l}_degree{degree}")][species]
            couplings = symmetric_couplings(module.l_max_in, l, degree).to(features)
            part = part + torch.einsum(equation, couplings, weight, *[features] * degree)
        total.append(part)
    return torch.cat(total, dim=1)


def all_derivatives(function, arguments):
    """Value, derivative in the features, and the derivatives of a loss of both."""
    value = function(*arguments)
    (first,) = torch.autograd.grad(value.sin().sum(), arguments[0], create_graph=True)
    return [
        value,
        first,
        *torch.autograd.grad(first.square().sum() + value.square().sum(), arguments),
    ]


@pytest.mark.parametrize("numbers", [50, 300, 1 << 18])
@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_contraction_equals_its_definition_with_both_derivatives(
    monkeypatch, numbers, correlation, dtype, tolerance
):
    monkeypatch.setattr(polynomials, "CACHED_NUMBERS", numbers)
    torch.manual_seed(3)
    module = SymmetricContraction(
        l_max_in=2, l_max_out=1, correlation=correlation, num_features=3, num_elements=2
    ).to(dtype)
    species = torch.tensor([1, 0, 0, 1, 1])
    names = list(module.weights)
    arguments = [torch.randn(5, 9, 3, dtype=dtype, requires_grad=True), *module.weights.values()]

    def fast(features, *weights):
        parameters = {
            f"weights.{name}": weight for name, weight in zip(names, weights, strict=True)
        }
        return torch.func.functional_call(module, parameters, (features, species))

    found = all_derivatives(fast, arguments)
    expected = all_derivatives(
        lambda x, *weights: definition(module, names, x, species, *weights), arguments
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.detach().abs().max()))


def test_second_derivatives_by_finite_differences():
    module = SymmetricContraction(
        l_max_in=1, l_max_out=0, correlation=3, num_features=1, num_elements=1
    ).double()
    features = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    coefficients, terms = module.coefficients(0).detach(), module.terms(features)
    assert torch.autograd.gradcheck(lambda a: contract(a, coefficients, terms, 3), (features,))
    assert torch.autograd.gradgradcheck(lambda a: contract(a, coefficients, terms, 3), (features,))


def test_monomials_and_their_change():
    terms = parity_terms(2, 1, 3, torch.device("cpu"))
    a, b = torch.randn(2, 9, 3, 2, dtype=torch.float64)
    found = torch.cat([monomials(a[terms.components], group) for group in terms.groups], dim=1)
    change = torch.cat(
        [monomials(a[terms.components], group, b[terms.components]) for group in terms.groups],
        dim=1,
    )
    expected, expected_change = torch.func.jvp(lambda x: monomials_plainly(x, terms), (a,), (b,))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(change, expected_change)


def monomials_plainly(a, terms):
    """1, A_j and A_j A_k of the first row of every group, as their places tell."""
    size = a.shape[0]
    every = torch.cat([torch.ones_like(a[:1]), a, (a.unsqueeze(1) * a).flatten(0, 1)])
    firsts = [
        terms.place[group.coefficients][: group.shape[1]] % (1 + size + size * size)
        for group in terms.groups
    ]
    return every[torch.cat(firsts)].transpose(0, 1)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_plain_operations_have_a_forward_mode(correlation):
    """Value and slope along a direction, the latter from the gradient of each output."""
    torch.manual_seed(6)
    module = SymmetricContraction(
        l_max_in=2, l_max_out=1, correlation=correlation, num_features=2, num_elements=1
    ).double()
    features, move = torch.randn(2, 3, 9, 2, dtype=torch.float64)
    species = torch.zeros(3, dtype=torch.long)
    with torch.no_grad(), plain_operations():
        found, slope = torch.func.jvp(lambda x: module(x, species), (features,), (move,))
    features.requires_grad_()
    value = module(features, species)
    torch.testing.assert_close(found, value.detach(), rtol=1e-12, atol=1e-12)
    for index in range(value.numel()):
        (gradient,) = torch.autograd.grad(value.flatten()[index], features, retain_graph=True)
        assert float(slope.flatten()[index]) == pytest.approx(float((gradient * move).sum()))
