"""Linear maps, gate and norms.

The same in both layouts, equivariant, and as normalised as they promise.
"""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn_oracle import double_precision, natural_irreps, to_e3nn, unnatural_irreps

from mlepi.errors import ConfigError
from mlepi.models.equivariant_layers import (
    SIGMOID_FACTOR,
    SILU_FACTOR,
    DegreeLinear,
    EquivariantNorm,
    count_gates,
    gate,
)
from mlepi.models.so2 import (
    flat_size,
    join_degrees,
    rotate_to_edges,
    rotate_to_global,
    split_degrees,
    to_degrees,
    to_orders,
)
from mlepi.models.wigner import edge_frames, edge_rotations, wigner_matrices

CHANNELS = (4, 3, 0, 2)
N = 9


def random_parts(channels=CHANNELS, n=N):
    return split_degrees(torch.randn(n, flat_size(channels), dtype=torch.float64) + 0.3, channels)


def random_rotations(n=N):
    return wigner_matrices(edge_frames(torch.randn(n, 3, dtype=torch.float64)), 3)


def one_rotation():
    return [matrix.expand(N, -1, -1) for matrix in random_rotations(1)]


def assert_parts(actual, expected, atol=1e-12):
    for first, second in zip(actual, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=atol)


@pytest.mark.parametrize("num_types", [1, 3])
@pytest.mark.parametrize(
    "outputs", [(5, 2, 1, 2), (5, 2, 1, 2, 1), (3, 2)], ids=["equal", "higher", "lower"]
)
def test_linear_is_the_same_in_both_layouts(num_types, outputs):
    linear = DegreeLinear(inputs=CHANNELS, outputs=outputs, num_types=num_types, bias=True).double()
    torch.nn.init.normal_(linear.bias)
    parts, types = random_parts(), torch.arange(N) % num_types
    orders = linear.edges(to_orders(parts), types)
    assert_parts(
        to_degrees(orders, outputs)[: len(CHANNELS)], linear.nodes(parts, types)[: len(CHANNELS)]
    )
    assert len(orders) == min(
        len(CHANNELS), len(outputs)
    )  # orders that no input reaches are left out
    assert not any(part.any() for part in linear.nodes(parts, types)[len(CHANNELS) :])


def test_linear_by_hand():
    linear = DegreeLinear(inputs=CHANNELS, outputs=(2, 2), num_types=2, bias=True).double()
    torch.nn.init.normal_(linear.bias)
    parts, types = random_parts(), torch.arange(N) % 2
    result = linear.nodes(parts, types)
    for n in range(N):
        scalars = parts[0][n] @ linear.weights[0][types[n]] / math.sqrt(4) + linear.bias[types[n]]
        torch.testing.assert_close(result[0][n], scalars)
        torch.testing.assert_close(
            result[1][n], parts[1][n] @ linear.weights[1][types[n]] / math.sqrt(3)
        )


def test_linear_without_types_is_refused():
    with pytest.raises(
        ConfigError, match="DegreeLinear: got no types; expected one of 2 types per row"
    ):
        DegreeLinear(inputs=(1,), outputs=(1,), num_types=2).nodes([torch.zeros(3, 1, 1)])


def test_factors_restore_the_second_moment():
    z = torch.linspace(-12.0, 12.0, 200001, dtype=torch.float64)
    weight = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    for function, factor in (
        (torch.nn.functional.silu, SILU_FACTOR),
        (torch.sigmoid, SIGMOID_FACTOR),
    ):
        assert float(torch.trapezoid((factor * function(z)) ** 2 * weight, z)) == pytest.approx(
            1.0, abs=5e-3
        )


def test_gate_is_that_of_e3nn():
    channels, pseudo_channels = (4, 3, 2), (0, 2)
    assert count_gates(channels, pseudo_channels) == 7
    natural, pseudo = random_parts((4 + 7, 3, 2)), random_parts(pseudo_channels)
    scale = torch.ones(N, sum(channels) + sum(pseudo_channels), dtype=torch.float64)
    results, unnatural = gate(
        to_orders(natural), to_orders(pseudo), scale, channels, pseudo_channels
    )
    with double_precision():
        gated = natural_irreps(channels)[1:] + unnatural_irreps(pseudo_channels[1:2] and (0, 2))[1:]
        oracle = e3nn_nn.Gate("4x0e", [torch.nn.functional.silu], "7x0e", [torch.sigmoid], gated)
    assert str(oracle.irreps_in) == "11x0e+3x1o+2x1e+2x2e"
    expected = oracle(
        torch.cat([to_e3nn(natural[:2]), to_e3nn(pseudo[1:]), to_e3nn(natural[2:])], dim=1)
    )
    ours = torch.cat(
        [to_e3nn(to_degrees(results, channels)), to_e3nn(to_degrees(unnatural, pseudo_channels))],
        dim=1,
    )
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_gate_scales_every_channel():
    channels, pseudo_channels = (2, 1), (0, 1)
    natural, pseudo = to_orders(random_parts((2 + 2, 1))), to_orders(random_parts(pseudo_channels))
    ones = torch.ones(N, 4, dtype=torch.float64)
    factor = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64)
    plain, scaled = (
        gate(natural, pseudo, scale, channels, pseudo_channels) for scale in (ones, ones * factor)
    )
    torch.testing.assert_close(scaled[0][0], plain[0][0] * factor[:3])
    torch.testing.assert_close(scaled[0][1], plain[0][1] * 5.0)
    torch.testing.assert_close(scaled[1][1], plain[1][1] * 7.0)


def build_norm(kind, channels=CHANNELS):
    norm = EquivariantNorm(channels, kind).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize("kind", ["local", "structure", "none"])
def test_norm_commutes_with_rotations_and_is_the_same_in_both_layouts(kind):
    norm, parts, batch = build_norm(kind), random_parts(), torch.arange(N) // 5
    result = split_degrees(norm.nodes(join_degrees(parts), batch), CHANNELS)
    rotation = one_rotation()
    turned = norm.nodes(join_degrees(rotate_to_global(parts, rotation)), batch)
    assert_parts(split_degrees(turned, CHANNELS), rotate_to_global(result, rotation))
    frames = edge_rotations(torch.randn(N, 3, dtype=torch.float64), 3)
    chunks = [slice(0, 2), slice(2, 3), slice(3, N)]
    cut = [[frame[rows] for frame in frames] for rows in chunks]
    orders = [
        to_orders(rotate_to_edges([part[rows] for part in parts], d))
        for rows, d in zip(chunks, cut, strict=True)
    ]
    orders = norm.edges(orders, cut, [batch[rows] for rows in chunks])
    turned_back = [
        rotate_to_global(to_degrees(x, CHANNELS), d) for x, d in zip(orders, cut, strict=True)
    ]
    assert_parts([torch.cat(part) for part in zip(*turned_back, strict=True)], result)


def test_local_norm_gives_unit_size_to_every_row():
    norm = EquivariantNorm(CHANNELS, "local").double()
    parts = [100.0 * part for part in random_parts()]
    result = split_degrees(norm.nodes(join_degrees(parts)), CHANNELS)
    torch.testing.assert_close(
        result[0].mean(2), torch.zeros(N, 1, dtype=torch.float64), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        (result[0] ** 2).mean(2), torch.ones(N, 1, dtype=torch.float64), rtol=0, atol=1e-3
    )
    power = torch.stack([(result[l] ** 2).mean(dim=(1, 2)) for l in (1, 3)]).mean(0)
    torch.testing.assert_close(power, torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-3)


def test_structure_norm_by_hand_and_per_structure():
    norm, parts, batch = build_norm("structure"), random_parts(), torch.tensor([0] * 4 + [1] * 5)
    result = split_degrees(norm.nodes(join_degrees(parts), batch), CHANNELS)
    for rows in (slice(0, 4), slice(4, 9)):
        scalars = parts[0][rows] - parts[0][rows].mean()
        scalars = scalars / (scalars.pow(2).mean() + 1e-5).sqrt() * norm.weights[0] + norm.bias
        vectors = (parts[1][rows] - parts[1][rows].mean(dim=(0, 2), keepdim=True)) * norm.weights[1]
        torch.testing.assert_close(result[0][rows], scalars, rtol=0, atol=1e-12)
        torch.testing.assert_close(result[1][rows], vectors, rtol=0, atol=1e-12)


def test_norm_of_scalars_alone():
    parts = random_parts((5,))
    for kind in ("local", "structure"):
        norm = build_norm(kind, (5,))
        result = norm.nodes(join_degrees(parts), torch.zeros(N, dtype=torch.long))
        torch.testing.assert_close(
            norm.edges([to_orders(parts)], [[parts[0]]], [torch.zeros(N, dtype=torch.long)])[0][0],
            result,
        )


def test_unknown_norm_is_refused():
    with pytest.raises(
        ConfigError, match=r"model\.norm: got 'layer'; expected .*'local', 'structure'"
    ):
        EquivariantNorm(CHANNELS, "layer")
