"""Sums over neighbours and two derivatives in C++ are those of torch, which does the rest."""

import copy
import pickle
import shutil

import pytest
import torch

from mlepi.kernels import library
from mlepi.models.compilation import plain_operations
from mlepi.models.message_paths import message_paths, path_blocks
from mlepi.models.message_pieces import PieceFunctions, build_piece_functions, take_factors
from mlepi.models.messages import sum_messages
from mlepi.models.native.pieces import NativePieces
from mlepi.models.tabulated_messages import build_weighted_functions

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler"),
    pytest.mark.usefixtures("built_kernels"),
]
SHAPES = {"small": (1, 2, 16), "published": (1, 3, 32), "wide": (2, 3, 16), "high": (3, 3, 8)}


def forbidden(*tensors):
    raise AssertionError("torch was called")


FORBIDDEN = PieceFunctions(forbidden, forbidden, forbidden)


def draw(l_in, l_max, channels, dtype=torch.float64):
    """Return paths, and h, z, W, T and senders of nine atoms with seven neighbours."""
    generator = torch.Generator().manual_seed(l_in + 10 * l_max)
    paths = tuple(message_paths(l_in, l_max))
    n_couplings = path_blocks(paths)[-1].coupling.stop
    shapes = ((9, (l_in + 1) ** 2, channels), (9, 7, 5), (len(paths) * channels, 5))
    factors = [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in (*shapes, (9, 7, n_couplings))
    ]
    return paths, factors, torch.randint(9, (9, 7), generator=generator)


def differentiate(functions, factors, source):
    """Return A, its derivatives, and those of a function of both."""
    found = sum_messages(functions, *factors, source)
    first = torch.autograd.grad(found.square().sum(), factors, create_graph=True)
    second = torch.autograd.grad(sum(x.square().sum() for x in first), factors)
    return [found, *first, *second]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.usefixtures("threads")
def test_values_and_two_derivatives(name):
    paths, factors, source = draw(*SHAPES[name])
    expected = differentiate(build_piece_functions(paths), factors, source)
    functions = take_factors(NativePieces(paths, FORBIDDEN).functions, len(paths))
    found = differentiate(functions, factors, source)
    for own, torchs in zip(found, expected, strict=True):
        scale = float(torchs.detach().abs().max())
        torch.testing.assert_close(own, torchs, rtol=0, atol=1e-12 * scale)


def test_single_precision():
    paths, factors, source = draw(*SHAPES["published"])
    exact = differentiate(build_piece_functions(paths), factors, source)
    single = [x.detach().float().requires_grad_() for x in factors]
    functions = take_factors(NativePieces(paths, FORBIDDEN).functions, len(paths))
    for own, torchs in zip(differentiate(functions, single, source), exact, strict=True):
        scale = float(torchs.detach().abs().max())
        torch.testing.assert_close(own.double(), torchs, rtol=0, atol=2e-6 * scale)


def test_what_cpp_cannot_do_is_done_by_torch(monkeypatch):
    """Channels that fill no vector, forward mode, and machines without a compiler."""
    plain = build_weighted_functions

    def differs(l_in, l_max, channels):
        paths, factors, source = draw(l_in, l_max, channels)
        pieces = NativePieces(paths, plain(paths))
        found = differentiate(take_factors(pieces.functions, len(paths)), factors, source)
        expected = differentiate(build_piece_functions(paths), factors, source)
        differences = zip(found, expected, strict=True)
        return max(float((a - b).detach().abs().max()) for a, b in differences)

    assert differs(1, 2, 5) < 1e-10
    paths, factors, source = draw(*SHAPES["small"])
    functions = take_factors(NativePieces(paths, FORBIDDEN).functions, len(paths))
    with plain_operations(), pytest.raises(AssertionError, match="torch was called"):
        sum_messages(functions, *factors, source)
    monkeypatch.setattr(library, "find_compiler", lambda: (_ for _ in ()).throw(OSError("none")))
    monkeypatch.setattr(library, "_missing", {})
    library.load_library.cache_clear()
    assert differs(1, 2, 16) < 1e-10
    library.load_library.cache_clear()


def test_copies_and_pickles_work():
    paths, factors, source = draw(*SHAPES["small"])
    functions = take_factors(
        NativePieces(paths, build_weighted_functions(paths)).functions, len(paths)
    )
    expected = sum_messages(functions, *factors, source)
    for again in (copy.deepcopy(functions), pickle.loads(pickle.dumps(functions))):  # noqa: S301
        torch.testing.assert_close(sum_messages(again, *factors, source), expected)
