"""Packed blocks: rounding, exact multiples, size, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.structures.packing import pack_blocks, unpack_blocks


def test_multiples_of_the_quantum_come_back_exactly():
    generator = np.random.default_rng(0)
    multiples = generator.integers(-(2**31) + 1, 2**31, (7, 3, 3))
    multiples[0] = [[0, 1, -1], [2, -2, 2**31 - 1], [-(2**31) + 1, 255, -256]]
    quantum = 2.0**-15
    packed = pack_blocks(multiples * quantum, quantum)
    assert np.array_equal(unpack_blocks(packed, 7, 3, quantum), multiples * quantum)


def test_every_element_moves_by_half_a_quantum_at_most():
    blocks = np.random.default_rng(1).normal(size=(40, 8, 8))
    back = unpack_blocks(pack_blocks(blocks, 1e-3), 40, 8, 1e-3)
    assert 0 < np.abs(back - blocks).max() <= 0.5e-3 * (1 + 1e-9)


def test_values_below_the_noise_cost_nothing():
    blocks = 1e-6 * np.random.default_rng(2).normal(size=(400, 8, 8))
    assert len(pack_blocks(blocks, 1e-4)) < 100
    assert len(pack_blocks(1e3 * blocks, 1e-4)) < 0.5 * 4 * blocks.size


def test_no_blocks():
    assert unpack_blocks(pack_blocks(np.zeros((0, 4, 4)), 1.0), 0, 4, 1.0).shape == (0, 4, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_elements_that_do_not_fit_are_refused(value):
    with pytest.raises(DataError, match="not finite or too large"):
        pack_blocks(np.full((1, 2, 2), value), 1e-6)


@pytest.mark.parametrize("quantum", [0.0, -1.0, np.nan])
def test_a_quantum_that_is_not_positive_is_refused(quantum):
    with pytest.raises(DataError, match="a positive energy"):
        pack_blocks(np.zeros((1, 2, 2)), quantum)


def test_damaged_bytes_and_wrong_counts_are_refused():
    packed = pack_blocks(np.ones((5, 2, 2)), 1.0)
    with pytest.raises(DataError, match="expected 96 of 6 blocks"):
        unpack_blocks(packed, 6, 2, 1.0)
    with pytest.raises(DataError, match="Copy the file again"):
        unpack_blocks(packed[:-3], 5, 2, 1.0)
