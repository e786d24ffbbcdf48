import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.training.schedules import constant, halve_every, reduce_on_plateau, warmup_cosine


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
