"""The optimizer SOAP: Adam in the slowly turning eigenbasis of the gradients' covariances.

Networks of tensor products hold their weights in small matrices whose gradients are strongly
correlated; Adam scales every element by itself and sees nothing of that. SOAP keeps, of every
matrix W (a, b), the averages L = ⟨G Gᵀ⟩ and R = ⟨Gᵀ G⟩ of its gradients G, turns G into the
eigenvectors of both, and lets Adam work there.

    Vyas, Morwani, Zhao, Shapira, Brandfonbrener, Janson, Kakade (2024), arXiv:2409.11321

Matrices of one shape are worked on together, which is what makes many small ones cheap. Other than
there the basis starts as that of the elements, not as eigenvectors of the first gradient: this has
not the full rank, and what it leaves open would be decided by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mlepi.errors import ConfigError, message

RIDGE = 1e-5
"""Added to L and R when their eigenvectors are sought, in units of their mean eigenvalue."""

SMALLEST_SIDE = 2
"""Of a matrix that is turned; thinner ones are vectors, for which this is plain Adam."""


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo, for matrices in the last two dimensions of parameters.

    Leading dimensions count matrices. Vectors and scalars follow Adam. The state of all parameters
    of one shape is kept with the first of them.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: memory of the mean gradient and of its square, as in Adam.
        covariance_beta: memory of L and R.
        refresh: steps between updates of the eigenbasis.
        eps: added to the root of the mean square.
        weight_decay: decoupled: fraction of a parameter that a step of rate 1 takes away.
        largest_side: sides longer than that are not turned.

    Raises:
        ConfigError: a value out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        covariance_beta: float = 0.95,
        refresh: int = 10,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        largest_side: int = 512,
    ) -> None:
        fractions = (*betas, covariance_beta)
        if not (lr >= 0.0 and eps > 0.0 and all(0.0 <= beta < 1.0 for beta in fractions)):
            raise ConfigError(
                message(
                    "optimizer.optimizer",
                    f"lr {lr}, eps {eps}, betas {fractions}",
                    "lr ≥ 0, eps > 0 and betas from 0 to below 1",
                    "Edit the config.",
                )
            )
        if refresh < 1:
            raise ConfigError(
                message("optimizer.optimizer.refresh", f"{refresh}", "1 or more", "Raise it.")
            )
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "covariance_beta": covariance_beta,
            "refresh": refresh,
            "eps": eps,
            "weight_decay": weight_decay,
            "largest_side": largest_side,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without gradient, or with one of zeros, stay as they are.

        The latter belong to a part of the network that has nothing to do in a structure, such as
        that for pairs of layers in a monolayer.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for members in _of_one_shape(group["params"]):
                self._step_together(members, group)
        return loss

    def _step_together(self, members: list[Tensor], group: dict[str, Any]) -> None:
        gradient = torch.cat(
            [_matrices(torch.zeros_like(p) if p.grad is None else p.grad) for p in members]
        )
        state = self.state[members[0]]
        if not state:
            _start(state, gradient, group["largest_side"])
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean, square = state["mean"], state["square"]
        turned = _turn(gradient, state)
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(turned, turned, value=1.0 - beta2)
        step = int(state["step"])
        scale = (square / (1.0 - beta2**step)).sqrt_().add_(group["eps"])
        update = _turn_back(_turn(mean, state).div_(scale), state)
        rate = group["lr"] / (1.0 - beta1**step)
        sizes = [_matrices(p).shape[0] for p in members]
        for parameter, part in zip(members, update.split(sizes), strict=True):
            if parameter.grad is not None:
                # right after a refresh a mean gradient would meet mean squares of other directions
                used = parameter.grad.any()
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"] * used)
                parameter.sub_(part.reshape(parameter.shape) * used, alpha=rate)
        _follow_covariances(state, gradient, group["covariance_beta"])
        if step % group["refresh"] == 0:
            _refresh_basis(state)


def _of_one_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Sort trained parameters by the shape of their matrices, in the order of the first."""
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            key = (*_matrices(parameter).shape[1:], parameter.dtype, parameter.device)
            found.setdefault(key, []).append(parameter)
    return list(found.values())


def _matrices(tensor: Tensor) -> Tensor:
    """Return a tensor as (n, a, b), or (n, 1, 1) where it holds no matrices."""
    thin = tensor.ndim < 2 or min(tensor.shape[-2:]) < SMALLEST_SIDE
    return tensor.reshape(-1, 1, 1) if thin else tensor.reshape(-1, *tensor.shape[-2:])


def _start(state: dict[str, Any], gradient: Tensor, largest_side: int) -> None:
    state["step"] = torch.tensor(0.0)
    state["mean"] = torch.zeros_like(gradient)
    state["square"] = torch.zeros_like(gradient)
    for side, name in ((1, "left"), (2, "right")):
        n, size = gradient.shape[0], gradient.shape[side]
        if SMALLEST_SIDE <= size <= largest_side:
            state[name] = gradient.new_zeros(n, size, size)
            basis = torch.eye(size, dtype=gradient.dtype, device=gradient.device)
            state[f"{name}_basis"] = basis.repeat(n, 1, 1)


def _follow_covariances(state: dict[str, Any], gradient: Tensor, beta: float) -> None:
    """Let L and R forget by beta and add those of the new gradient."""
    if "left" in state:
        state["left"].baddbmm_(gradient, gradient.mT, beta=beta, alpha=1.0 - beta)
    if "right" in state:
        state["right"].baddbmm_(gradient.mT, gradient, beta=beta, alpha=1.0 - beta)


def _refresh_basis(state: dict[str, Any]) -> None:
    """Bring the bases up to date by one step of subspace iteration.

    The mean squares follow the order of the basis vectors, largest eigenvalue first. Directions
    that no gradient has keep their basis vectors, by the ridge, instead of following rounding.
    """
    for name, side in (("left", 1), ("right", 2)):
        if name not in state:
            continue
        covariance, basis = state[name], state[f"{name}_basis"]
        ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        product = covariance @ basis + ridge * basis
        order = (basis * product).sum(1).argsort(dim=1, descending=True, stable=True)
        index = order[:, :, None] if side == 1 else order[:, None, :]
        state["square"] = torch.take_along_dim(state["square"], index, dim=side)
        ordered = torch.take_along_dim(product, order[:, None, :], dim=2)
        basis.copy_(torch.linalg.qr(ordered).Q)


def _turn(tensor: Tensor, state: dict[str, Any]) -> Tensor:
    """Return matrices in the eigenbases."""
    if "left" in state:
        tensor = state["left_basis"].mT @ tensor
    return tensor @ state["right_basis"] if "right" in state else tensor.clone()


def _turn_back(tensor: Tensor, state: dict[str, Any]) -> Tensor:
    """Undo ``_turn``."""
    if "left" in state:
        tensor = state["left_basis"] @ tensor
    return tensor @ state["right_basis"].mT if "right" in state else tensor
