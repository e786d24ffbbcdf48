"""Means over blocks of samples carry the mean and the error bar of the samples."""

import numpy as np

from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import SampleDesign


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
