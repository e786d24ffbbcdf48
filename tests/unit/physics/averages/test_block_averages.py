"""Means over blocks of samples carry the mean and the error bar of the samples."""

import numpy as np
import pytest

from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import SampleDesign, bootstrap_weights


def test_blocks_give_the_mean_and_the_error_of_the_samples():
    rng = np.random.default_rng(0)
    design = SampleDesign(np.arange(200) // 2, rng.uniform(0.5, 1.5, size=200))
    values = rng.normal(size=(200, 3))
    blocks = BlockAverages(design, [0.0], (3,), max_blocks=50)
    for sample in rng.permutation(200):
        blocks.add(int(sample), 0.0, values[sample])
    assert blocks.means.shape == (50, 1, 3)
    np.testing.assert_allclose(blocks.average()[0], design.weights @ values, atol=1e-12)
    left_out = np.array([blocks.average(weights) for weights in blocks.left_out])
    error = blocks.standard_errors(blocks.average(), left_out)[0]
    np.testing.assert_allclose(error, 1.0 / np.sqrt(200), rtol=0.5)
    assert blocks.n_samples[-1] == 200


def test_temperatures_with_fewer_samples_have_their_own_mean_and_error():
    rng = np.random.default_rng(1)
    n_few, n_all = 40, 400
    design = SampleDesign(np.arange(n_all), uneven=True)
    noise = rng.normal(size=n_all)
    values = np.stack([noise, 3.0 * noise], axis=1)  # common random numbers
    blocks = BlockAverages(design, [0.0, 300.0], ())
    for sample in range(n_all):
        blocks.add(sample, 300.0, values[sample, 1])
        if sample < n_few:
            blocks.add(sample, 0.0, values[sample, 0])
    few, many = values[:n_few, 0], values[:, 1]
    np.testing.assert_allclose(blocks.average(), [few.mean(), many.mean()], atol=1e-12)
    assert blocks.degrees_of_freedom == pytest.approx(n_few - 1)  # in forty blocks of their own
    left_out = np.array([blocks.average(weights) for weights in blocks.left_out])
    errors = blocks.standard_errors(blocks.average(), left_out)
    own = few.std(ddof=1) / np.sqrt(n_few)
    # larger by √[(1 − 1/64)/(1 − 1/40)] at most
    assert own <= errors[0] <= 1.006 * own
    np.testing.assert_allclose(errors[1], many.std(ddof=1) / np.sqrt(n_all), rtol=0.25)
    weights = bootstrap_weights(blocks.design, 4000, 0)
    resampled = np.array([blocks.average(some) for some in weights])
    np.testing.assert_allclose(blocks.bootstrap_errors(resampled)[0], own, rtol=0.04)
    # of the change: Σ of what every sample contributes to either mean, squared
    change = 3.0 * noise / n_all - np.where(np.arange(n_all) < n_few, noise, 0.0) / n_few
    expected = np.sqrt(np.sum(change**2))
    found = blocks.bootstrap_errors(resampled[:, 1] - resampled[:, 0])
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_equal_numbers_of_samples_change_nothing():
    values = np.random.default_rng(2).normal(size=(60, 2))
    even, uneven = (
        BlockAverages(SampleDesign(np.arange(60), uneven=flag), [0.0, 300.0], ())
        for flag in (False, True)
    )
    for blocks in (even, uneven):
        for sample, row in enumerate(values):
            for temperature, value in zip((0.0, 300.0), row, strict=True):
                blocks.add(sample, temperature, value)
    for weights in (None, *even.left_out[:3]):
        np.testing.assert_allclose(uneven.average(weights), even.average(weights), rtol=1e-12)
    assert uneven.degrees_of_freedom == pytest.approx(even.degrees_of_freedom)


def test_a_resample_of_absent_blocks_alone_says_nothing_of_a_temperature():
    blocks = BlockAverages(SampleDesign(np.arange(3), uneven=True), [0.0, 300.0], ())
    for sample in range(3):
        blocks.add(sample, 300.0, float(sample))
    blocks.add(0, 0.0, 5.0)
    np.testing.assert_allclose(blocks.average(np.array([0.0, 0.5, 0.5])), [5.0, 1.5])
