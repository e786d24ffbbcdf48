"""Compiled kernels give the numbers of the plain function and differentiate as often.

They say why when they cannot compile.
"""

from __future__ import annotations

import copy
import functools
import pickle
import warnings

import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.models.compilation import (
    Kernel,
    are_operations_plain,
    compile_kernel,
    compile_method,
    plain_operations,
)


def messages(power, nodes, weights, source, target):
    """Toy convolution: gather, nonlinearity, scatter."""
    return nodes.new_zeros(nodes.shape).index_add(
        0, target, (nodes.index_select(0, source) * weights).tanh() ** power
    )


def sum_and_twice(a, b):
    """Has derivatives that are their own cotangents, and one result that is an argument."""
    return a + b, 2.0 * a, b


def draw(n_atoms, n_edges, dtype=torch.float64):
    torch.manual_seed(n_atoms)
    floats = [torch.randn(n, 3, dtype=dtype, requires_grad=True) for n in (n_atoms, n_edges)]
    return [*floats, torch.randint(n_atoms, (n_edges,)), torch.randint(n_atoms, (n_edges,))]


def derivatives(function, nodes, weights, source, target):
    """Value, first derivative of one argument, and both derivatives of a loss of it.

    What training on forces does.
    """
    value = function(nodes * 2.0, weights, source, target).square().sum()
    (first,) = torch.autograd.grad(value, nodes, create_graph=True)
    return [value, first, *torch.autograd.grad(first.square().sum() + value, (nodes, weights))]


def check_all_derivatives(backend):
    plain = functools.partial(messages, 2)
    kernel = compile_kernel(plain, "messages", backend=backend)
    for sizes in ((4, 9), (6, 21), (3, 0)):
        arguments = draw(*sizes)
        for found, expected in zip(
            derivatives(kernel, *arguments), derivatives(plain, *arguments), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    return kernel


def test_derivatives_are_those_of_the_plain_function():
    kernel = check_all_derivatives("eager")
    assert torch.autograd.gradgradcheck(
        lambda a, b: kernel(a, b, *draw(4, 9)[2:]), tuple(draw(4, 9)[:2])
    )


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # inside torch's compiler
def test_machine_code_gives_the_same_derivatives():
    check_all_derivatives("inductor")


def test_only_derivatives_that_are_asked_for_are_computed():
    kernel = compile_kernel(functools.partial(messages, 2), "messages", backend="eager")
    nodes, weights, source, target = draw(4, 9)
    torch.autograd.grad(kernel(nodes, weights, source, target).sum(), nodes)
    assert list(kernel._derivatives) == [((True,), (True, False, False, False))]


def test_results_may_share_memory_and_be_left_unused():
    kernel = compile_kernel(sum_and_twice, "sums", backend="eager")
    a, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(kernel, (a, b))
    assert torch.autograd.gradgradcheck(kernel, (a, b))
    (gradient,) = torch.autograd.grad(kernel(a, b)[1].sum(), a)
    torch.testing.assert_close(gradient, torch.full_like(a, 2.0))
    assert not torch.autograd.grad(kernel(a, b)[1].sum(), b)[0].any()


def test_nothing_is_recorded_without_gradients():
    kernel = compile_kernel(sum_and_twice, "sums", backend="eager")
    a = torch.randn(3, requires_grad=True)
    with torch.no_grad():
        assert not kernel(a, a)[0].requires_grad
    with torch.inference_mode():
        assert not kernel(a, a)[0].requires_grad
    assert kernel(a, a)[0].requires_grad


def test_copies_share_code_and_pickles_compile_again():
    kernel = compile_kernel(functools.partial(messages, 1), "messages", backend="eager")
    arguments = [x.detach() for x in draw(4, 9)]
    expected = kernel(*arguments)
    assert copy.deepcopy(kernel) is kernel
    restored = pickle.loads(pickle.dumps(kernel))  # noqa: S301
    assert restored._compiled is None
    torch.testing.assert_close(restored(*arguments), expected)


def no_compiler(graph, inputs):
    raise OSError("no C++ compiler found\nin a search of many places")


def test_failure_is_told_once_and_the_plain_function_runs(monkeypatch):
    monkeypatch.setattr(Kernel, "reported", set())
    plain = functools.partial(messages, 2)
    kernel = compile_kernel(plain, "messages", backend=no_compiler)
    arguments = draw(4, 9)
    text = (
        r"compile \(messages\): got no compiled code, .*no C\+\+ compiler found; expected a "
        r"compiler .* set compile: false"
    )
    with pytest.warns(RuntimeWarning, match=text):
        kernel(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found, expected in zip(
            derivatives(kernel, *arguments), derivatives(plain, *arguments), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_wrong_inputs_raise_what_the_plain_function_raises():
    kernel = compile_kernel(functools.partial(messages, 1), "messages", backend="eager")
    nodes, weights, source, target = draw(4, 9)
    with pytest.raises(RuntimeError, match="size of tensor"):
        kernel(nodes, weights[:, :2], source, target)


def test_network_without_compiled_kernels():
    with pytest.raises(
        ConfigError, match=r"compile: got true for Linear; expected a network with compiled kernels"
    ):
        compile_method(torch.nn.Linear(1, 1))


def test_plain_operations_end_with_their_block():
    assert not are_operations_plain()
    with plain_operations():
        with plain_operations():
            assert are_operations_plain()
        assert are_operations_plain()
    with pytest.raises(ValueError, match="inside"), plain_operations():
        raise ValueError("inside")
    assert not are_operations_plain()
