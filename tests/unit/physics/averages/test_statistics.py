"""Error bars of known distributions, for independent, grouped and weighted samples."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages import statistics
from mlepi.physics.averages.statistics import (
    MOST_BLOCKS,
    SampleDesign,
    bootstrap,
    bootstrap_errors,
    effective_sample_size,
    jackknife,
    jackknife_errors,
    jackknife_weights,
    pseudo_values,
    standard_errors,
)


def test_bootstrap_gives_the_standard_error_of_a_mean():
    data = np.random.default_rng(0).normal(2.0, 0.3, size=(400, 2))
    resampled = bootstrap(lambda weights: weights @ data, 400, 2000, seed=1)
    assert resampled.shape == (2000, 2)
    np.testing.assert_allclose(resampled.std(axis=0), data.std(axis=0) / 20.0, rtol=0.06)
    np.testing.assert_allclose(resampled.mean(axis=0), data.mean(axis=0), atol=2e-3)
    np.testing.assert_array_equal(
        resampled, bootstrap(lambda weights: weights @ data, 400, 2000, seed=1)
    )


def test_pseudo_values_of_a_mean_are_the_samples():
    data = np.random.default_rng(0).normal(size=(12, 3))
    np.testing.assert_allclose(jackknife(lambda weights: weights @ data, 12), data, atol=1e-12)
    np.testing.assert_allclose(standard_errors(data), data.std(axis=0, ddof=1) / np.sqrt(12))


def test_blocks_of_many_groups_are_left_out_together():
    rng = np.random.default_rng(3)
    data = rng.standard_normal(11_000)
    values = jackknife(lambda weights: weights @ data[:, None], len(data))
    assert len(values) == MOST_BLOCKS  # of eleven samples each
    np.testing.assert_allclose(values[0], data[:11].mean(), rtol=1e-9)
    [error] = standard_errors(values)
    assert abs(error * np.sqrt(len(data)) / data.std() - 1.0) < 0.06
    design = SampleDesign(np.arange(3000) // 2)
    assert design.in_blocks(MOST_BLOCKS).n_groups == 750
    assert design.in_blocks(1500) is design


def test_jackknife_of_a_ratio_agrees_with_the_delta_method():
    rng = np.random.default_rng(3)
    x, y = rng.normal(2.0, 0.1, 2000), rng.normal(3.0, 0.2, 2000)
    pseudo = jackknife(lambda weights: np.array([(weights @ y) / (weights @ x)]), 2000)
    delta = np.sqrt(
        np.var(y) / 4.0 + np.var(x) * 9.0 / 16.0 - 2 * np.cov(x, y)[0, 1] * 3.0 / 8.0
    ) / np.sqrt(2000)
    assert standard_errors(pseudo)[0] == pytest.approx(delta, rel=0.02)


def test_groups_are_kept_together():
    """Mirror pairs have an exact mean: resampling single samples would invent an error."""
    half = np.random.default_rng(0).normal(size=50)
    data = np.stack([half, -half], axis=1).ravel()
    design = SampleDesign(np.repeat(np.arange(50), 2))
    assert design.n_groups == 50
    assert (
        np.abs(bootstrap(lambda weights: np.array([weights @ data]), design, 100, 0)).max() < 1e-15
    )
    assert np.abs(jackknife(lambda weights: np.array([weights @ data]), design)).max() < 1e-13
    assert bootstrap(lambda weights: np.array([weights @ data]), 100, 100, 0).std() > 0.05


def test_weights_enter_every_estimate():
    design = SampleDesign(np.arange(4), np.array([1.0, 1.0, 2.0, 0.0]))
    np.testing.assert_allclose(design.weights, [0.25, 0.25, 0.5, 0.0])
    np.testing.assert_allclose(
        design.scaled(np.array([0.0, 1.0, 1.0, 1.0])), [0.0, 1 / 3, 2 / 3, 0.0]
    )
    np.testing.assert_allclose(design.first(2).weights, [0.5, 0.5])


def test_effective_sample_size():
    assert effective_sample_size(np.ones(7)) == pytest.approx(7.0)
    assert effective_sample_size(np.array([1.0, 0.0, 0.0])) == pytest.approx(1.0)
    # Gaussian reweighted to half its variance: ESS/n = σ_b √(2σ_a² − σ_b²)/σ_a² = √0.75
    z = np.random.default_rng(0).standard_normal(200_000)
    weights = np.exp(-0.5 * z**2 * (1.0 / 0.5 - 1.0))
    assert effective_sample_size(weights) / len(z) == pytest.approx(np.sqrt(0.75), rel=0.01)


def mean_errors(values, design):
    """Standard errors of a mean, by the jackknife and by the bootstrap."""
    without = np.array([weights @ values for weights in jackknife_weights(design)])
    resampled = bootstrap(lambda weights: weights @ values, design, 20_000, 0)
    whole = design.weights @ values
    return jackknife_errors(whole, without, design), bootstrap_errors(resampled, design)


def test_errors_of_a_mean_of_few_samples_have_no_bias():
    values = np.random.default_rng(0).normal(size=(4, 2))
    expected = values.std(axis=0, ddof=1) / 2.0
    by_jackknife, by_bootstrap = mean_errors(values, SampleDesign.independent(4))
    np.testing.assert_allclose(by_jackknife, expected, rtol=1e-12)
    np.testing.assert_allclose(by_bootstrap, expected, rtol=0.02)
    assert SampleDesign.independent(4).degrees_of_freedom == pytest.approx(3.0)


def test_errors_of_groups_of_unequal_size_have_no_bias():
    """The expected squared error is σ²/n whatever the groups are."""
    design = SampleDesign(np.repeat(np.arange(5), [1, 1, 2, 3, 5]))
    weights = jackknife_weights(design)
    rng, squares = np.random.default_rng(1), []
    for _ in range(4000):
        values = rng.normal(size=12)
        error = jackknife_errors(design.weights @ values, weights @ values, design)
        squares.append(float(error) ** 2)
    assert np.mean(squares) == pytest.approx(1.0 / 12.0, rel=0.05)
    shares = np.array([1, 1, 2, 3, 5]) / 12.0
    np.testing.assert_allclose(design.shares, shares)
    assert design.degrees_of_freedom == pytest.approx(1.0 / np.sum(shares**2) - 1.0)


def test_one_group_has_no_error_bar():
    for design in (
        SampleDesign(np.zeros(4, dtype=int)),
        SampleDesign(np.arange(3), np.array([0.0, 1.0, 0.0])),
    ):
        values = np.arange(float(design.n_samples))
        by_jackknife, by_bootstrap = mean_errors(values, design)
        assert np.isnan(by_jackknife)
        assert np.isnan(by_bootstrap)
        assert design.degrees_of_freedom == 0.0
        assert jackknife(lambda w, v=values: np.array([w @ v]), design).shape == (0, 1)
    assert np.isnan(standard_errors(np.ones((1, 2)))).all()
    assert pseudo_values(np.ones(3), np.empty((0, 3))).shape == (0, 3)


def test_bad_input_is_refused():
    with pytest.raises(PhysicsError, match="one weight ≥ 0 per sample"):
        SampleDesign(np.arange(3), np.array([1.0, -1.0, 1.0]))


def test_resamples_come_in_chunks_of_bounded_memory(monkeypatch):
    design = SampleDesign(np.repeat(np.arange(7), 3), np.linspace(0.0, 1.0, 21))
    whole = statistics.bootstrap_weights(design, 50, seed=3)
    monkeypatch.setattr(statistics, "CHUNK", 4 * 21)
    chunks = list(statistics.iterate_bootstrap_weights(design, 50, seed=3))
    assert [len(some) for some in chunks] == [4] * 12 + [2]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
