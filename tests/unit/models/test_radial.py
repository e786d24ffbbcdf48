"""Radial functions against their defining integrals and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mlepi.errors import ConfigError
from mlepi.models.radial import (
    SILU_SECOND_MOMENT_FACTOR,
    BesselBasis,
    GaussianBasis,
    RadialMLP,
    polynomial_cutoff,
    smooth_step_envelope,
)


def test_bessel_functions_are_orthonormal_and_vanish_at_the_cutoff():
    basis = BesselBasis(5.0, 4)
    r = torch.linspace(1e-6, 5.0, 20001, dtype=torch.float64)
    values = basis(r)
    overlap = torch.trapezoid(
        values[:, :, None] * values[:, None, :] * r[:, None, None] ** 2, r, dim=0
    )
    torch.testing.assert_close(overlap, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert values[-1].abs().max() < 1e-12


def test_bessel_cutoff_of_each_edge():
    lengths = torch.tensor([1.0, 2.0], dtype=torch.float64)
    both = BesselBasis(6.0, 3)(lengths, torch.tensor([4.0, 6.0], dtype=torch.float64))
    torch.testing.assert_close(both[:1], BesselBasis(4.0, 3)(lengths[:1]))
    torch.testing.assert_close(both[1:], BesselBasis(6.0, 3)(lengths[1:]))


@pytest.mark.parametrize("p", [2, 5, 6])
def test_cutoff_polynomial_is_smooth(p):
    x = torch.tensor([0.0, 3.0, 3.0 + 1e-9, 5.0], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(x, 3.0, p)
    torch.testing.assert_close(
        value.detach(), torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    )
    inside = torch.tensor([3.0 - 1e-4], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(polynomial_cutoff(inside, 3.0, p), inside, create_graph=True)
    (second,) = torch.autograd.grad(first, inside)
    assert abs(first.item()) < 1e-6
    assert abs(second.item()) < 1e-2
    decreasing = polynomial_cutoff(torch.linspace(0, 3, 50), 3.0, p).diff()
    assert (decreasing <= 1e-6).all()


def test_cutoff_polynomial_with_a_cutoff_per_edge():
    lengths, cutoffs = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.5, 3.0, 4.0])
    expected = torch.stack(
        [polynomial_cutoff(r, float(c)) for r, c in zip(lengths, cutoffs, strict=True)]
    )
    torch.testing.assert_close(polynomial_cutoff(lengths, cutoffs), expected)


def test_gaussians_peak_at_their_centres_and_cover_the_range():
    basis = GaussianBasis(6.0, 13)
    centres = torch.linspace(0, 6, 13, dtype=torch.float64)
    values = basis(centres)
    torch.testing.assert_close(values.diagonal(), torch.ones(13, dtype=torch.float64))
    assert values[3, 4].item() == pytest.approx(math.exp(-0.5))


def test_radial_network_in_e3nn_form_follows_its_definition():
    network = RadialMLP([3, 5, 4, 2]).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    weights = [layer.weight for layer in network.layers]
    expected = x
    for i, weight in enumerate(weights):
        expected = expected @ weight.T / math.sqrt(weight.shape[1])
        if i < 2:
            expected = torch.nn.functional.silu(expected) * SILU_SECOND_MOMENT_FACTOR
    torch.testing.assert_close(network(x), expected)
    assert torch.all(network(torch.zeros(2, 3, dtype=torch.float64)) == 0)


def test_silu_factor_is_that_of_e3nn_and_close_to_the_integral():
    from e3nn.math import normalize2mom

    assert normalize2mom(torch.nn.functional.silu).cst == SILU_SECOND_MOMENT_FACTOR
    moment = quad(
        lambda z: (z / (1 + np.exp(-z))) ** 2 * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -30, 30
    )[0]
    assert pytest.approx(moment**-0.5, rel=3e-3) == SILU_SECOND_MOMENT_FACTOR


def test_plain_radial_network_is_torch_linear():
    network = RadialMLP([3, 5, 2], normalisation="plain")
    first, second = network.layers
    x = torch.randn(4, 3)
    torch.testing.assert_close(network(x), second(torch.nn.functional.silu(first(x))))
    assert first.bias is not None


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: BesselBasis(0.0, 4), r"BesselBasis\.cutoff: got 0\.0; expected a positive length"),
        (lambda: BesselBasis(4.0, 0), r"BesselBasis\.num_basis: got 0; expected at least 1"),
        (lambda: GaussianBasis(4.0, 1), r"GaussianBasis\.num_basis: got 1; expected at least 2"),
        (lambda: RadialMLP([3]), r"RadialMLP\.widths: got \[3\]"),
        (lambda: RadialMLP([3, 2], normalisation="norm"), r"RadialMLP\.normalisation: got 'norm'"),
    ],
)
def test_bad_settings_are_refused(build, text):
    with pytest.raises(ConfigError, match=text):
        build()


def test_smooth_step_falls_from_one_to_zero_with_two_derivatives():
    lengths = torch.tensor([1.0, 2.0, 2.5, 3.0, 3.5], dtype=torch.float64, requires_grad=True)
    envelope = smooth_step_envelope(lengths, torch.full((5,), 3.0, dtype=torch.float64), 1.0)
    torch.testing.assert_close(
        envelope.detach(),
        torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0], dtype=torch.float64),
        rtol=0,
        atol=1e-15,
    )
    (slope,) = torch.autograd.grad(envelope.sum(), lengths, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), lengths)
    assert float(slope.detach()[2]) == pytest.approx(-1.875)
    assert not slope.detach()[[0, 1, 3, 4]].any()
    assert not curvature[[0, 1, 3, 4]].any()
    assert torch.equal(smooth_step_envelope(lengths, lengths, None), torch.ones_like(lengths))
