"""Symmetric contractions in C++ and two derivatives are those of torch, which does the rest."""

import copy
import shutil

import pytest
import torch

from mlepi.kernels import library
from mlepi.models.compilation import plain_operations
from mlepi.models.symmetric_contraction import SymmetricContraction

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler"),
    pytest.mark.usefixtures("built_kernels"),
]
SHAPES = {"scalars": (3, 0, 3, 16), "small": (3, 1, 3, 16), "pairs": (2, 2, 2, 32)}
SHAPES |= {"linear": (2, 1, 1, 8)}


def build(l_in, l_out, correlation, channels, dtype=torch.float64):
    """Return a contraction of two elements by torch and by C++, features and species."""
    torch.manual_seed(l_in + l_out + correlation)
    plain = SymmetricContraction(
        l_max_in=l_in,
        l_max_out=l_out,
        correlation=correlation,
        num_features=channels,
        num_elements=2,
    ).to(dtype)
    native = copy.deepcopy(plain)
    native.compile_kernels()
    features = torch.randn(11, (l_in + 1) ** 2, channels, dtype=dtype)
    return plain, native, features, torch.arange(11) % 3 // 2


def differentiate(contraction, features, species):
    """Return B, its derivatives, and those of forces and of a function of both."""
    given = features.detach().requires_grad_()
    wanted = [given, *contraction.parameters()]
    found = contraction(given, species)
    first = torch.autograd.grad(found.square().sum(), wanted, create_graph=True)
    forces = torch.autograd.grad(first[0].square().sum(), wanted, retain_graph=True)
    second = torch.autograd.grad(sum(x.square().sum() for x in first), wanted)
    return [x.detach() for x in (found, *first, *forces, *second)]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.usefixtures("threads")
def test_values_and_two_derivatives(name):
    plain, native, features, species = build(*SHAPES[name])
    assert native.native.serves(features)
    expected = differentiate(plain, features, species)
    found = differentiate(native, features, species)
    for own, torchs in zip(found, expected, strict=True):
        scale = max(float(torchs.abs().max()), 1e-9)
        torch.testing.assert_close(own, torchs, rtol=0, atol=1e-12 * scale)


def test_single_precision():
    exact = differentiate(*build(*SHAPES["small"])[::2], torch.arange(11) % 3 // 2)
    _, native, features, species = build(*SHAPES["small"])
    found = differentiate(native.float(), features.float(), species)
    for own, torchs in zip(found, exact, strict=True):
        scale = float(torchs.abs().max())
        torch.testing.assert_close(own.double(), torchs, rtol=0, atol=5e-6 * scale)


def test_what_cpp_cannot_do_is_done_by_torch(monkeypatch):
    """Channels that fill no vector, forward mode, and machines without a compiler."""
    plain, native, features, species = build(2, 1, 3, 5)
    assert not native.native.serves(features)
    torch.testing.assert_close(native(features, species), plain(features, species))
    plain, native, features, species = build(*SHAPES["pairs"])
    with plain_operations():
        assert not native.native.serves(features)
        torch.testing.assert_close(native(features, species), plain(features, species))
    monkeypatch.setattr(library, "find_compiler", lambda: (_ for _ in ()).throw(OSError("none")))
    monkeypatch.setattr(library, "_missing", {})
    library.load_library.cache_clear()
    assert not native.native.serves(features)
    torch.testing.assert_close(native(features, species), plain(features, species))
    library.load_library.cache_clear()


def test_copies_work():
    plain, native, features, species = build(*SHAPES["small"])
    again = copy.deepcopy(native)
    torch.testing.assert_close(again(features, species), plain(features, species))
