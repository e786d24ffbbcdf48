"""Sums over neighbours with weights from a table equal those with weights from factors."""

from __future__ import annotations

import pytest
import torch

from mlepi.models import tabulated_messages
from mlepi.models.message_paths import message_paths, path_blocks
from mlepi.models.message_pieces import build_piece_functions, weighted_gradients
from mlepi.models.messages import sum_messages
from mlepi.models.radial_table import TablePlaces
from mlepi.models.tabulated_messages import (
    build_weighted_functions,
    compile_weighted_functions,
    gradients_in_place,
    sum_tabulated,
)

N_SENDERS, N_ATOMS, N_NEIGHBOURS, CHANNELS, N_ROWS = 5, 6, 4, 3, 11


def draw(paths, dtype=torch.float64):
    torch.manual_seed(7)
    l_max_in = max(path[0] for path in paths)
    shapes = [
        (N_SENDERS, (l_max_in + 1) ** 2, CHANNELS),
        (N_ATOMS, N_NEIGHBOURS, 6),
        (N_ATOMS, N_NEIGHBOURS, path_blocks(paths)[-1].coupling.stop),
    ]
    factors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    table = torch.randn(N_ROWS, len(paths) * CHANNELS, dtype=dtype)
    source = torch.randint(N_SENDERS, (N_ATOMS, N_NEIGHBOURS))
    return factors, table, source, torch.randint(N_ROWS, (N_ATOMS, N_NEIGHBOURS, 6))


def sum_plainly(paths, nodes, weights, couplings, table, source, rows):
    """The same by ``sum_messages``: the weights, spread over all rows, in place of z."""
    spread = torch.zeros(N_ATOMS, N_NEIGHBOURS, N_ROWS, dtype=nodes.dtype)
    spread = spread.scatter_add(2, rows, weights)
    return sum_messages(build_piece_functions(paths), nodes, spread, table.T, couplings, source)


def all_derivatives(function, factors):
    value = function(*factors)
    signs = torch.linspace(-1.0, 1.0, value.numel(), dtype=value.dtype).view_as(value)
    first = torch.autograd.grad((signs * value.sin()).sum(), factors, create_graph=True)
    loss = sum(part.square().sum() for part in first) + value.square().sum()
    return [value, *first, *torch.autograd.grad(loss, factors)]


@pytest.mark.parametrize("l_max_in", [0, 1, 2])
@pytest.mark.parametrize("n_bytes", [1, 8 * CHANNELS * 8, 1 << 18])  # one, two and all atoms
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_sums_and_both_derivatives(monkeypatch, l_max_in, n_bytes, dtype, tolerance):
    monkeypatch.setattr(tabulated_messages, "CACHED_BYTES", n_bytes)
    paths = tuple(message_paths(l_max_in, 2))
    factors, table, source, rows = draw(paths, dtype)
    functions = build_weighted_functions(paths)
    found = all_derivatives(
        lambda h, b, t: sum_tabulated(functions, h, TablePlaces(rows, b), table, t, source), factors
    )
    expected = all_derivatives(
        lambda h, b, t: sum_plainly(paths, h, b, t, table, source, rows), factors
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.detach().abs().max()))


def test_derivatives_in_place_have_the_bits_of_the_others():
    paths = tuple(message_paths(1, 3))
    (nodes, _, couplings), _, source, _ = draw(paths, torch.float32)
    blocks, senders = path_blocks(paths), nodes.detach()[source]
    weights = torch.randn(N_ATOMS, N_NEIGHBOURS, len(paths), CHANNELS)
    cotangent = torch.randn(N_ATOMS, sum(2 * l3 + 1 for _, _, l3 in paths), CHANNELS)
    given = (blocks, cotangent, senders)
    expected = weighted_gradients(*given, weights.clone(), couplings.detach())
    found = gradients_in_place(*given, weights.clone(), couplings.detach())
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_compiled_functions_are_the_plain_ones():
    paths = tuple(message_paths(0, 1))
    factors, table, source, rows = draw(paths)
    plain, compiled = (
        all_derivatives(
            lambda h, b, t, f=functions: sum_tabulated(
                f, h, TablePlaces(rows, b), table, t, source
            ),
            factors,
        )
        for functions in (
            build_weighted_functions(paths),
            compile_weighted_functions(paths, "eager"),
        )
    )
    for a, b in zip(compiled, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
