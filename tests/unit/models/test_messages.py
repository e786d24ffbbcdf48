"""The cached product of neighbours, harmonics and radial weights equals its definition.

So do both derivatives.
"""

from __future__ import annotations

import pytest
import torch

from mlepi.models import messages
from mlepi.models.compilation import plain_operations
from mlepi.models.message_paths import message_paths, path_blocks
from mlepi.models.message_pieces import build_piece_functions
from mlepi.models.messages import sum_messages


def draw(paths, n_senders=5, n_atoms=6, n_neighbours=4, channels=3, width=2, dtype=torch.float64):
    torch.manual_seed(7)
    l_max_in = max(path[0] for path in paths)
    size = path_blocks(paths)[-1].coupling.stop
    shapes = [
        (n_senders, (l_max_in + 1) ** 2, channels),
        (n_atoms, n_neighbours, width),
        (len(paths) * channels, width),
        (n_atoms, n_neighbours, size),
    ]
    factors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return factors, torch.randint(n_senders, (n_atoms, n_neighbours))


def sum_messages_plainly(blocks, nodes, radial, weight, couplings, source):
    """The definition of ``sum_messages``, term by term."""
    senders = nodes[source]
    weights = (radial @ weight.T).unflatten(2, (len(blocks), nodes.shape[2]))
    rows = {}
    for position, block in enumerate(blocks):
        weighted = (weights[:, :, position].unsqueeze(2) * senders[:, :, block.senders]).unbind(2)
        coupling = couplings[:, :, block.coupling, None].unflatten(
            2, (block.size_in, block.size_out)
        )
        for m3, row in enumerate(
            range(block.messages.start, block.messages.stop, block.messages.step)
        ):
            rows[row] = sum(
                coupling[:, :, m1, m3] * component for m1, component in enumerate(weighted)
            ).sum(1)
    return torch.stack([rows[row] for row in sorted(rows)], dim=1)


def all_derivatives(function, factors, source):
    """Value, first derivatives, and the derivatives of a loss of both.

    What training on energies and forces needs.
    """
    value = function(*factors, source)
    weights = torch.linspace(-1.0, 1.0, value.numel(), dtype=value.dtype).view_as(value)
    first = torch.autograd.grad((weights * value.sin()).sum(), factors, create_graph=True)
    loss = sum(part.square().sum() for part in first) + value.square().sum()
    return [value, *first, *torch.autograd.grad(loss, factors)]


@pytest.mark.parametrize("l_max_in", [0, 1, 2])
def test_definition_term_by_term(l_max_in):
    paths = tuple(message_paths(l_max_in, 2))
    (nodes, radial, weight, couplings), source = draw(paths)
    found = sum_messages_plainly(path_blocks(paths), nodes, radial, weight, couplings, source)
    weights = (radial @ weight.T).unflatten(2, (len(paths), 3))
    for position, ((l1, _, l3), block) in enumerate(zip(paths, path_blocks(paths), strict=True)):
        coupling = couplings[:, :, block.coupling].unflatten(2, (2 * l1 + 1, 2 * l3 + 1))
        senders = nodes[source][:, :, l1 * l1 : (l1 + 1) ** 2]
        expected = torch.einsum("ijmo,ijc,ijmc->ioc", coupling, weights[:, :, position], senders)
        torch.testing.assert_close(found[:, block.messages], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("slots", [5, 8, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_pieces_equal_the_definition_with_both_derivatives(monkeypatch, slots, dtype, tolerance):
    monkeypatch.setattr(messages, "CACHED_SLOTS", slots)  # one, two and all atoms at a time
    paths = tuple(message_paths(1, 3))
    factors, source = draw(paths, dtype=dtype)
    found = all_derivatives(
        lambda *x: sum_messages(build_piece_functions(paths), *x), factors, source
    )
    expected = all_derivatives(
        lambda *x: sum_messages_plainly(path_blocks(paths), *x), factors, source
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.detach().abs().max()))


def test_second_derivatives_by_finite_differences():
    paths = tuple(message_paths(1, 1))
    factors, source = draw(paths, n_senders=3, n_atoms=2, n_neighbours=2, channels=2)

    def function(*x):
        return sum_messages(build_piece_functions(paths), *x, source)

    assert torch.autograd.gradcheck(function, factors)
    assert torch.autograd.gradgradcheck(function, factors)


def test_third_derivative_is_refused():
    paths = tuple(message_paths(1, 1))
    factors, source = draw(paths)
    first = torch.autograd.grad(
        sum_messages(build_piece_functions(paths), *factors, source).square().sum(),
        factors[0],
        create_graph=True,
    )
    (second,) = torch.autograd.grad(first[0].square().sum(), factors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


def test_plain_operations_have_a_forward_mode():
    paths = tuple(message_paths(1, 2))
    factors, source = draw(paths)
    factors = [factor.detach() for factor in factors]
    functions = build_piece_functions(paths)

    def value(nodes, couplings):
        return sum_messages(functions, nodes, factors[1], factors[2], couplings, source)

    point = (factors[0], factors[3])
    moves = tuple(torch.randn_like(x) for x in point)
    with plain_operations():
        found, slope = torch.func.jvp(value, point, moves)
    torch.testing.assert_close(found, value(*point), rtol=1e-12, atol=1e-12)
    ends = [
        value(*(x + sign * 1e-3 * move for x, move in zip(point, moves, strict=True)))
        for sign in (1, -1)
    ]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / 2e-3, rtol=1e-8, atol=1e-8)
