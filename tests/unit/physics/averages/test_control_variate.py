"""Control variates of distributions whose variances are known."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages.control_variate import apply_control, plan_sizes
from mlepi.physics.averages.statistics import jackknife, standard_errors


def experiment(rng, n, n_reference, correlation, scale=3.0):
    """A cheap x and an expensive y = 5 + scale·(ρ x + √(1−ρ²) ε) of the same samples."""
    # means that are large beside the noise, as velocities are
    x = 40.0 + rng.standard_normal(n_reference)
    y = 5.0 + scale * (
        correlation * (x[:n] - 40.0) + np.sqrt(1.0 - correlation**2) * rng.standard_normal(n)
    )
    one = np.array([1.0])
    return apply_control(
        y.mean() * one, y[:, None], x[:n].mean() * one, x[:n, None], x.mean() * one, x[:, None]
    ), y


def test_variance_is_that_of_theory_and_the_mean_is_unbiased():
    rng, n, n_reference, correlation = np.random.default_rng(0), 60, 3000, 0.995
    repeats = [experiment(rng, n, n_reference, correlation)[0] for _ in range(400)]
    values = np.array([repeat.values[0] for repeat in repeats])
    exact = 9.0 * ((1.0 - correlation**2) / n + correlation**2 / n_reference)
    # the coefficient is fitted to 4/5 of the samples: a few per cent more than the optimum
    assert values.var(ddof=1) == pytest.approx(exact, rel=0.2)
    assert abs(values.mean() - 5.0) < 3.0 * np.sqrt(exact / len(values))
    assert np.mean([repeat.errors[0] ** 2 for repeat in repeats]) == pytest.approx(exact, rel=0.1)
    assert np.mean([repeat.coefficients[0] for repeat in repeats]) == pytest.approx(
        3.0 * correlation, rel=0.01
    )
    assert np.mean([repeat.correlations[0] for repeat in repeats]) == pytest.approx(
        correlation, abs=1e-3
    )
    assert np.median([repeat.variance_reductions[0] for repeat in repeats]) == pytest.approx(
        9.0 / n / exact, rel=0.2
    )
    assert np.median([repeat.sample_reductions[0] for repeat in repeats]) == pytest.approx(
        1.0 / (1.0 - correlation**2), rel=0.2
    )


def test_error_bars_cover_the_truth():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        controlled, _ = experiment(rng, 24, 500, 0.9)
        inside += abs(controlled.values[0] - 5.0) < 2.0 * controlled.errors[0]
    assert inside / 400 == pytest.approx(0.954, abs=0.035)


def test_useless_control_changes_little_and_a_constant_one_nothing():
    rng = np.random.default_rng(2)
    controlled, y = experiment(rng, 400, 4000, 0.0)
    assert controlled.variance_reductions[0] == pytest.approx(1.0, abs=0.05)
    pseudo = y[:, None]
    constant = apply_control(
        pseudo.mean(axis=0),
        pseudo,
        np.ones(1),
        np.ones_like(pseudo),
        np.full(1, 7.0),
        np.full((500, 1), 7.0),
    )
    assert constant.values[0] == pseudo.mean()
    assert constant.errors[0] == pytest.approx(standard_errors(pseudo)[0])


def test_nonlinear_estimates_by_their_pseudo_values():
    """The square of a mean: exact variance reduction from the linearisation about the mean."""
    rng = np.random.default_rng(3)
    x = rng.normal(2.0, 0.1, 4000)
    y = 1.5 * x[:200] + rng.normal(0.0, 0.01, 200)

    def square(data):
        return lambda weights: np.array([(weights @ data) ** 2])

    def whole(data):
        return square(data)(np.full(len(data), 1.0 / len(data)))

    controlled = apply_control(
        whole(y),
        jackknife(square(y), 200),
        whole(x[:200]),
        jackknife(square(x[:200]), 200),
        whole(x),
        jackknife(square(x), 4000),
    )
    assert controlled.sample_reductions[0] == pytest.approx(1.0 + (0.15 / 0.01) ** 2, rel=0.15)
    assert abs(controlled.values[0] - 9.0) < 3.0 * controlled.errors[0]


def test_other_samples_are_refused():
    values = np.zeros((6, 2))
    with pytest.raises(PhysicsError, match="the same samples for both"):
        apply_control(np.zeros(2), values, np.zeros(2), np.zeros((5, 2)), np.zeros(2), values)
    with pytest.raises(PhysicsError, match="at least 4 independent groups"):
        apply_control(np.zeros(2), values[:3], np.zeros(2), values[:3], np.zeros(2), values)


def test_sizes_are_the_cheapest_ones():
    """Against the minimum in closed form, n and N as real numbers."""
    plain, correlation, costs = 4000.0, 0.97, (1.0, 0.02)
    sizes = plan_sizes([plain], [correlation], [32], (10_000, 100_000), costs)
    unexplained = 1.0 - correlation**2
    mixed = correlation * np.sqrt(unexplained)
    n = plain * (unexplained + mixed * np.sqrt(costs[1] / costs[0]))
    n_cheap = plain * (correlation**2 + mixed * np.sqrt(costs[0] / costs[1]))
    # the same samples are solved twice by the cheap Hamiltonian, which shifts the minimum a little
    assert sizes.expensive[0] == pytest.approx(n, rel=0.05)
    assert sizes.cheap == pytest.approx(n_cheap, rel=0.05)
    best = costs[0] * (n - 32) + costs[1] * (n + n_cheap)
    assert sizes.cost == pytest.approx(best, rel=0.01)
    reached = unexplained / sizes.expensive[0] + correlation**2 / sizes.cheap
    assert reached <= 1.0 / plain < reached * 1.02


def test_sizes_of_several_temperatures_share_the_cheap_samples():
    sizes = plan_sizes(
        [100.0, 400.0, 10.0], [0.99, 0.9, 0.5], [32, 32, 32], (600, 5000), (1.0, 0.1)
    )
    assert sizes.expensive[0] == sizes.expensive[2] == 32  # enough there
    assert 32 < sizes.expensive[1] < 400
    left = [
        (1.0 - rho**2) / n + rho**2 / sizes.cheap
        for rho, n in zip((0.99, 0.9, 0.5), sizes.expensive, strict=True)
    ]
    assert left[0] <= 1.0 / 100.0
    assert left[1] <= 1.0 / 400.0


def test_an_error_out_of_reach_has_no_sizes():
    assert plan_sizes([1000.0], [0.0], [32], (500, 10_000), (1.0, 0.01)) is None
    assert plan_sizes([1000.0], [0.99], [32], (500, 900), (1.0, 0.01)) is None
    assert plan_sizes([50.0], [0.99], [64], (500, 32), (1.0, 0.01)) is None
