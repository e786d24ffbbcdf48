"""SOAP against the published algorithm, one matrix at a time, and against what it must keep."""

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from mlepi.errors import ConfigError
from mlepi.training import SOAP


def published_steps(start, gradients, lr, betas, memory, refresh):
    """Follow Vyas et al. 2024, algorithm 3, in numpy: one matrix, float64, basis of elements."""
    weights, eps, ridge = start.copy(), 1e-8, 1e-5
    covariances = [np.zeros((side, side)) for side in start.shape]
    bases = [np.eye(side) for side in start.shape]
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        mean = betas[0] * mean + (1.0 - betas[0]) * gradient
        turned = bases[0].T @ gradient @ bases[1]
        square = betas[1] * square + (1.0 - betas[1]) * turned**2
        scale = np.sqrt(square / (1.0 - betas[1] ** step)) + eps
        inner = (bases[0].T @ mean @ bases[1]) / (1.0 - betas[0] ** step) / scale
        weights = weights - lr * bases[0] @ inner @ bases[1].T
        for side, one in enumerate((gradient @ gradient.T, gradient.T @ gradient)):
            covariances[side] = memory * covariances[side] + (1.0 - memory) * one
        if step % refresh == 0:
            for side, matrix in enumerate(covariances):
                matrix = matrix + ridge * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
                product = matrix @ bases[side]
                order = np.argsort(-np.einsum("ij,ij->j", bases[side], product))
                square = np.take(square, order, axis=side)
                bases[side] = np.linalg.qr(product[:, order])[0]
    return weights


def take_steps(parameters, gradients, **settings):
    optimizer = SOAP(parameters, **settings)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return optimizer


def random_gradients(shapes, n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        for _ in range(n_steps)
    ]


def test_steps_are_those_of_the_published_algorithm():
    """Also of matrices that are worked on together, and in parameters that hold several."""
    shapes = [(4, 3), (2, 4, 3), (5, 4)]
    gradients = random_gradients(shapes, 12)
    starts = random_gradients(shapes, 1, seed=1)[0]
    parameters = [torch.nn.Parameter(start.clone()) for start in starts]
    settings = {"lr": 0.1, "betas": (0.9, 0.8), "covariance_beta": 0.7, "refresh": 3}
    take_steps(parameters, gradients, **settings)
    for number, shape in enumerate(shapes):
        for index in np.ndindex(*shape[:-2]):
            expected = published_steps(
                starts[number][index].numpy(),
                [step[number][index].numpy() for step in gradients],
                *settings.values(),
            )
            np.testing.assert_allclose(parameters[number].detach()[index], expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 5, 1)])
def test_vectors_follow_adam(shape):
    gradients = random_gradients([shape], 10)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape, dtype=torch.float64)) for _ in range(2))
    settings = {"lr": 0.1, "betas": (0.9, 0.8), "weight_decay": 0.01}
    take_steps([ours], gradients, **settings)
    adam = torch.optim.AdamW([theirs], **settings)
    for (gradient,) in gradients:
        theirs.grad = gradient.clone()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_directions_without_gradient_do_not_follow_rounding():
    """Gradients of low rank leave bases open: noise of 1e-14 must not decide them."""
    rng = torch.Generator().manual_seed(2)
    tall, wide = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in (8, 6))
    ends = []
    for noise in (0.0, 1e-14):
        weights = torch.nn.Parameter(torch.zeros(8, 6, dtype=torch.float64))
        late = [1e-3 * gradient for (gradient,) in random_gradients([(8, 6)], 9)]
        gradients = [tall[:, None] * wide + more for more in [torch.zeros(8, 6)] * 9 + late]
        noisy = [[g + noise * torch.randn(8, 6, generator=rng, dtype=g.dtype)] for g in gradients]
        take_steps([weights], noisy, lr=0.1, refresh=3)
        ends.append(weights.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-8)


def test_what_a_structure_does_not_use_stays_as_it_is():
    """A gradient of zeros right after a refresh: mean squares of the new directions are zero."""
    used, idle = (torch.nn.Parameter(torch.zeros(8, 6)) for _ in range(2))
    tall, wide = torch.arange(1.0, 9.0), torch.arange(1.0, 7.0).flip(0)
    gradient = tall[:, None] * wide
    optimizer = take_steps([used, idle], [[gradient, gradient]] * 3, lr=0.01, refresh=3)
    before = idle.detach().clone(), used.detach().clone()
    idle.grad = torch.zeros(8, 6)
    optimizer.step()
    assert torch.equal(idle, before[0])
    assert not torch.equal(used, before[1])
    idle.grad = gradient
    optimizer.step()
    assert 0.0 < (idle - before[0]).norm() < 0.01 * np.sqrt(idle.numel())


def test_soft_directions_are_learned_sooner_than_by_adam():
    """A regression whose directions differ a hundredfold in weight, both at their best rate."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(10, 10, generator=generator)).Q
    inputs = torch.randn(50, 10, generator=generator) * torch.logspace(0, -2, 10) @ turn
    targets = inputs @ torch.randn(10, 6, generator=generator)

    def final_loss(make):
        weights = torch.nn.Parameter(torch.zeros(10, 6))
        optimizer = make([weights])
        schedule = CosineAnnealingLR(optimizer, 400)
        for _ in range(400):
            optimizer.zero_grad()
            loss = (inputs @ weights - targets).square().mean()
            loss.backward()
            optimizer.step()
            schedule.step()
        return loss.item()

    rates = (0.01, 0.03, 0.1)
    adam = min(final_loss(lambda p, lr=lr: torch.optim.AdamW(p, lr=lr)) for lr in rates)
    soap = min(final_loss(lambda p, lr=lr: SOAP(p, lr=lr)) for lr in rates)
    assert soap < 0.1 * adam


def test_it_goes_on_from_its_state():
    shapes = [(3, 4), (4,), (2, 3, 4)]
    gradients = random_gradients(shapes, 16)
    whole = [torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in shapes]
    take_steps(whole, gradients, refresh=5)
    parts = [torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in shapes]
    first = take_steps(parts, gradients[:7], refresh=5)
    again = [torch.nn.Parameter(p.detach().clone()) for p in parts]
    second = SOAP(again, refresh=5)
    second.load_state_dict(first.state_dict())
    for step in gradients[7:]:
        for parameter, gradient in zip(again, step, strict=True):
            parameter.grad = gradient.clone()
        second.step()
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one, other)


def test_parameters_without_gradient_stay():
    used, unused = (torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    optimizer = SOAP([used, unused], lr=0.1, weight_decay=0.1)
    for _ in range(5):
        used.grad = torch.randn(3, 3)
        optimizer.step()
    assert torch.equal(unused, torch.ones(3, 3))
    assert not torch.equal(used, torch.ones(3, 3))


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": 0.0}, {"refresh": 0}]
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"optimizer\.optimizer"):
        SOAP([torch.nn.Parameter(torch.zeros(2, 2))], **wrong)
