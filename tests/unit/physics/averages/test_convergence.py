"""Means, their errors, and both with the first samples only."""

import numpy as np

from mlepi.physics.averages.convergence import mean_and_error, running_means
from mlepi.physics.averages.statistics import SampleDesign


def test_means_and_their_convergence():
    values = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [6.0, 0.0]])
    design = SampleDesign(np.array([0, 0, 1, 1]))
    mean, error = mean_and_error(values, design, 400, seed=1)
    np.testing.assert_allclose(mean, [3.0, 0.0])
    # two groups with means 2 and 4 differ by √2 standard deviations of one, √2 of the mean
    np.testing.assert_allclose(error, [1.0, 0.0], rtol=0.15)
    counts, means, errors = running_means(values, design, 2, 20)
    np.testing.assert_array_equal(counts, [3, 4])
    np.testing.assert_allclose(means[:, 0], [2.0, 3.0])
    assert errors.shape == (2, 2)
