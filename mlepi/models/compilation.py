"""Compiled kernels.

Pure functions of tensors through torch.compile, differentiable as often as the plain function.

torch.compile alone differentiates once, but forces in a training loss need two derivatives. Here
the derivative of a kernel is a kernel again: the vector–Jacobian product of the plain function,
compiled when it is first needed. A kernel keeps nothing but its inputs for the backward pass; what
a derivative needs beyond them is computed again, fused by the compiler. Machine code is cached on
disk by torch (``TORCHINDUCTOR_CACHE_DIR``), so only the first run on a machine waits long.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mlepi.errors import ConfigError, message

Backend = str | Callable[..., Any]
Mask = tuple[bool, ...]

_PLAIN: ContextVar[bool] = ContextVar("plain operations", default=False)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Let networks use torch's own operations alone inside a ``with`` block.

    Kernels with derivatives of their own know no forward mode; torch's operations do.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def are_operations_plain() -> bool:
    """Tell whether the caller is inside ``plain_operations``."""
    return _PLAIN.get()


_FIRST: ContextVar[bool] = ContextVar("first derivatives alone", default=False)


@contextmanager
def first_derivatives_alone() -> Iterator[None]:
    """Let networks that are called inside a ``with`` block forget how to differentiate twice.

    Compiled inference then takes kernels that know values and forces alone.
    """
    token = _FIRST.set(True)
    try:
        yield
    finally:
        _FIRST.reset(token)


def are_first_derivatives_enough() -> bool:
    """Tell whether the caller is inside ``first_derivatives_alone``."""
    return _FIRST.get()


def compile_kernel(
    function: Callable[..., Any], name: str, *, backend: Backend = "inductor"
) -> Kernel:
    """Compile a function of tensors once for any length of their first axes.

    The result can be differentiated at will.

    Where compiling fails, a warning says so once and the plain function runs: the numbers are the
    same, the speed is not.

    Args:
        function: pure function of tensors given by position, to one tensor or a tuple of tensors;
            anything else that it needs is bound to it (``functools.partial``), and parameters are
            arguments. Floating-point arguments are differentiable. Calls whose arguments include an
            empty tensor run the plain function. Where other axes than the first change, the second
            size found compiles once more, for all sizes.
        name: what warnings and profiles call it.
        backend: compiler of torch.compile, a name or a function.

    Returns:
        A function with the same arguments and results. Copies share the compiled code; it can be
        pickled where ``function`` can, and then compiles again.
    """
    return Kernel(function, name, backend=backend)


def compile_method(network: nn.Module) -> Callable[[], None]:
    """Return what lets a network run its kernels compiled.

    Parameters and their names stay, checkpoints know nothing of it.

    Raises:
        ConfigError: the network has no compiled kernels.
    """
    method: Callable[[], None] | None = getattr(network, "compile_kernels", None)
    if method is None:
        raise ConfigError(
            message(
                "compile",
                f"true for {type(network).__name__}",
                "a network with compiled kernels",
                "Set compile=false.",
            )
        )
    return method


class Kernel:
    """A function of tensors, compiled at its first call, and its derivatives, likewise.

    Made by ``compile_kernel``.
    """

    # reasons of failure that a warning has told, in this process
    reported: set[str] = set()  # noqa: RUF012

    def __init__(
        self, function: Callable[..., Any], name: str, *, backend: Backend = "inductor"
    ) -> None:
        self.function = function
        self.name = name
        self.backend = backend
        self._compiled: Callable[..., Any] | None = None
        self._failed = False
        self._derivatives: dict[tuple[Mask, Mask], Kernel] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """Evaluate the function."""
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            return _Differentiable.apply(self, *as_branches(*inputs))
        return self.evaluate(inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Kernel:
        """Return the kernel itself: it holds no parameters."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the kernel is made of, without compiled code."""
        return functools.partial(Kernel, backend=self.backend), (self.function, self.name)

    def evaluate(self, inputs: Sequence[Tensor]) -> Any:
        """Evaluate without recording for autograd: one tensor or a tuple of tensors."""
        inputs = [x.detach() for x in inputs]
        with torch.no_grad():
            if self._failed or any(x.numel() == 0 for x in inputs):
                return self.function(*inputs)
            if self._compiled is None:
                self._compiled = torch.compile(
                    self._fresh_code(), backend=self.backend, fullgraph=True
                )
            for x in inputs:
                if x.dim() > 0:
                    torch._dynamo.maybe_mark_dynamic(x, 0)
            try:
                return self._compiled(*inputs)
            except Exception as error:
                results = self.function(
                    *inputs
                )  # a mistake in the inputs is raised here, as without compilation
                self._failed, self._compiled = True, None
                self._report(error)
                return results

    def derivative(self, given: Mask, wanted: Mask) -> Kernel:
        """Return the vector–Jacobian product as a kernel.

        Its arguments are the inputs and the cotangents of the given outputs.

        Args:
            given: outputs with a cotangent; those of all others are zero.
            wanted: inputs whose cotangents are returned, as a tuple.
        """
        if (given, wanted) not in self._derivatives:
            function = functools.partial(pull_back, self.function, given, wanted)
            self._derivatives[given, wanted] = Kernel(
                function, f"derivative of {self.name}", backend=self.backend
            )
        return self._derivatives[given, wanted]

    def _fresh_code(self) -> Callable[..., Any]:
        """Return the function with a code object of its own.

        Torch counts compilations per code object.
        """
        function = self.function

        def kernel(*inputs: Tensor) -> Any:
            return function(*inputs)

        name = "".join(letter if letter.isalnum() else "_" for letter in f"{self.name}_{id(self)}")
        return FunctionType(
            kernel.__code__.replace(co_name=name),
            kernel.__globals__,
            name,
            None,
            kernel.__closure__,
        )

    def _report(self, error: Exception) -> None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(
            [f"{type(error).__name__}:", *lines[:2]]
        )  # torch puts its own exceptions around the compiler's
        if reason not in Kernel.reported:
            Kernel.reported.add(reason)
            fix = (
                "Results are the same, only slower. Install a C++ compiler (g++ or clang++; set "
                "CXX), or set compile: false."
            )
            text = message(
                f"compile ({self.name})",
                f"no compiled code, {reason}",
                "a compiler that torch.compile can use",
                fix,
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def pull_back(
    function: Callable[..., Any], given: Mask, wanted: Mask, *arguments: Tensor
) -> tuple[Tensor, ...]:
    """Return the cotangents of the wanted inputs of a function; see ``Kernel.derivative``."""
    inputs, cotangents = arguments[: len(wanted)], arguments[len(wanted) :]

    def outputs(*chosen: Tensor) -> tuple[Tensor, ...]:
        rest = iter(chosen)
        results = function(
            *(next(rest) if is_wanted else x for x, is_wanted in zip(inputs, wanted, strict=True))
        )
        results = (results,) if isinstance(results, Tensor) else results
        return tuple(result for result, is_given in zip(results, given, strict=True) if is_given)

    chosen = [x for x, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    pulled: tuple[Tensor, ...] = torch.func.vjp(outputs, *chosen)[1](cotangents)
    return pulled


class _Differentiable(Function):
    """Autograd's view of a kernel: keep the inputs, differentiate by the kernel's derivative."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *inputs: Tensor) -> Any:
        ctx.kernel = kernel
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        results = kernel.evaluate(inputs)
        if isinstance(results, Tensor):
            return _own_memory([results], inputs)[0]
        return tuple(_own_memory(results, inputs))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wanted = wanted_derivatives(ctx)
        given = tuple(cotangent is not None for cotangent in cotangents)
        if not any(given) or not any(wanted):
            return (None,) * (len(inputs) + 1)
        pulled = iter(
            ctx.kernel.derivative(given, wanted)(*inputs, *(c for c in cotangents if c is not None))
        )
        return (None, *(next(pulled) if is_wanted else None for is_wanted in wanted))


def as_branches(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Return views of leaves.

    Autograd does not tell in a backward pass whether it wants the derivative of a leaf.
    """
    return tuple(x.view_as(x) if x.is_leaf and x.requires_grad else x for x in inputs)


def wanted_derivatives(ctx: Any) -> Mask:
    """Tell, in a ``Function``'s backward, which tensor arguments are asked for.

    An argument can be differentiable without being asked for: parameters, while forces are
    computed. Arguments must not be leaves, see ``as_branches``.
    """
    return tuple(
        node is not None and torch._C._will_engine_execute_node(node)
        for node, _ in ctx.next_functions
    )


def _own_memory(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copy results that share memory with an input or an earlier result.

    Derivatives of sums do.
    """
    taken = {x.untyped_storage().data_ptr() for x in inputs if x.numel() > 0}
    owned = []
    for result in results:
        place = result.untyped_storage().data_ptr()
        owned.append(result.clone() if place in taken else result)
        taken.add(place)
    return owned
