import io

import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.training.schedules import (
    constant,
    halve_every,
    reduce_on_plateau,
    revert_then_decay,
    warmup_cosine,
)


def rates(schedule, optimizer, n):
    values = []
    for _ in range(n):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.scheduler.step()
    return values


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def test_warmup_cosine_rises_linearly_and_ends_at_zero(optimizer):
    values = rates(warmup_cosine(optimizer, 100, warmup_fraction=0.1), optimizer, 101)
    assert values[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert max(values) == pytest.approx(2.0)
    assert values[55] == pytest.approx(1.0)
    assert values[100] == pytest.approx(0.0, abs=1e-12)


def test_warmup_cosine_needs_a_fixed_length(optimizer):
    with pytest.raises(
        ConfigError,
        match=r"optimizer\.schedule: got a training of inf steps.*Set trainer\.max_epochs",
    ):
        warmup_cosine(optimizer, float("inf"), warmup_fraction=0.1)


def test_halving_is_the_published_one(optimizer):
    values = rates(halve_every(optimizer, 0, start=10, every=4), optimizer, 20)
    assert values[9:11] == [2.0, 1.0]
    assert values[13:15] == [1.0, 0.5]
    assert values[18] == 0.25


def test_plateau_halves_after_patience(optimizer):
    schedule = reduce_on_plateau(optimizer, 0, factor=0.5, patience=1, min_lr=0.6)
    assert schedule.interval == "metric"
    for _ in range(3):
        schedule.scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 1.0
    for _ in range(9):
        schedule.scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.6


def test_constant_stays(optimizer):
    assert rates(constant(optimizer, 0), optimizer, 5) == [2.0] * 5


def start_revert(weight=1.0, **changes):
    """A single weight under Adam, its schedule, and one step of training to a new weight."""
    parameter = torch.nn.Parameter(torch.tensor([weight]))
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    settings = {"epochs": [2, 5], "factors": [0.4, 0.5], "threshold": 30.0, **changes}
    schedule = revert_then_decay(optimizer, 0, **settings)

    def train():
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()

    return parameter, optimizer, schedule, train


def test_decay_comes_at_its_epochs():
    """Published: at 800, 2000, 3000, 4000 by 0.4, 0.5, 0.5, 0.4."""
    _, optimizer, schedule, _ = start_revert()
    assert schedule.interval == "metric"
    values = []
    for _ in range(8):
        schedule.scheduler.step(1.0)
        values.append(optimizer.param_groups[0]["lr"])
    assert values == pytest.approx([1.0, 1.0, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2])


def test_a_lost_training_goes_back_and_uses_up_a_factor():
    parameter, optimizer, schedule, train = start_revert()
    train()
    schedule.scheduler.step(1.0)
    best = parameter.item()
    moments = {k: v.clone() for k, v in optimizer.state[parameter].items()}
    train()
    schedule.scheduler.step(29.0)  # worse, but not lost
    assert parameter.item() != best
    assert optimizer.param_groups[0]["lr"] == 1.0
    train()
    schedule.scheduler.step(31.0)
    assert parameter.item() == best
    assert all(torch.equal(optimizer.state[parameter][k], v) for k, v in moments.items())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)
    assert schedule.scheduler.reverted == 1
    for _ in range(2):
        schedule.scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)  # its epoch was that of the first
    schedule.scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    train()
    schedule.scheduler.step(float("nan"))
    assert parameter.item() == best
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)  # no factor is left


def test_a_resumed_schedule_still_knows_the_best_weights():
    parameter, _, schedule, train = start_revert()
    train()
    schedule.scheduler.step(1.0)
    best, file = parameter.item(), io.BytesIO()
    torch.save(schedule.scheduler.state_dict(), file)
    file.seek(0)
    parameter, optimizer, schedule, train = start_revert(weight=-3.0)
    schedule.scheduler.load_state_dict(torch.load(file, weights_only=True))
    train()
    schedule.scheduler.step(100.0)
    assert parameter.item() == best
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "changes", [{"epochs": [2]}, {"epochs": [5, 2]}, {"threshold": 1.0}], ids=str
)
def test_an_impossible_revert_is_refused(changes):
    with pytest.raises(ConfigError, match=r"optimizer\.schedule: got epochs .*Edit the config"):
        start_revert(**changes)
