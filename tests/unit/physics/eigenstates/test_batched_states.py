"""The batched solver for any device, on the processor, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from test_shift_invert import pencil

from mlepi.errors import PhysicsError
from mlepi.physics.eigenstates.batched_states import (
    as_real_symmetric,
    count_batch_below,
    solve_batch_within,
)


def batch(real, n=320):
    pencils = [pencil(n=n, real=real, seed=seed)[:2] for seed in range(3)]
    return tuple(torch.from_numpy(np.stack(matrices)) for matrices in zip(*pencils, strict=True))


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(("n", "width"), [(320, 64), (320, 16), (100, 64)])
def test_states_of_a_window_equal_scipy(real, n, width):
    h, s = batch(real, n)
    for one, hk, sk in zip(
        solve_batch_within(h, s, 0.07, 1.2, width=width), h.numpy(), s.numpy(), strict=True
    ):
        expected, vectors = scipy.linalg.eigh(hk, sk)
        inside = np.abs(expected - 0.07) <= 1.2
        np.testing.assert_allclose(one.values.numpy(), expected[inside], atol=5e-5)
        found = one.vectors.numpy()
        np.testing.assert_allclose(found.conj().T @ sk @ found, np.eye(inside.sum()), atol=1e-8)
        overlaps = np.linalg.svd(vectors[:, inside].conj().T @ sk @ found)[1]
        assert overlaps.min() > 1 - 1e-4


def test_shift_on_an_eigenvalue():
    diagonal = torch.diag(torch.arange(300.0, dtype=torch.float64) - 100.0)[None]
    [found] = solve_batch_within(diagonal, torch.eye(300, dtype=torch.float64)[None], 0.0, 3.5)
    np.testing.assert_allclose(found.values.numpy(), np.arange(-3, 4), atol=5e-5)


@pytest.mark.parametrize("real", [True, False])
def test_counts_equal_scipy(real):
    h, s = batch(real, 100)
    energies = [-3.0, 0.1, 7.0]
    expected = [
        int(np.count_nonzero(scipy.linalg.eigh(hk, sk, eigvals_only=True) < e))
        for hk, sk, e in zip(h.numpy(), s.numpy(), energies, strict=True)
    ]
    assert count_batch_below(h, s, torch.tensor(energies)) == expected


def test_real_form_has_every_eigenvalue_twice():
    h, _ = batch(real=False, n=40)
    doubled = as_real_symmetric(h)
    assert torch.equal(doubled, doubled.mT)
    values = torch.linalg.eigvalsh(h).repeat_interleave(2, dim=-1)
    torch.testing.assert_close(torch.linalg.eigvalsh(doubled), values, rtol=0.0, atol=1e-12)
    energies = torch.tensor([-3.0, 0.1, 7.0])
    shifted = doubled - energies[:, None, None] * torch.eye(80, dtype=torch.float64)
    eye = torch.eye(80, dtype=torch.float64).expand(3, 80, 80)
    assert count_batch_below(shifted, eye, torch.zeros(3)) == [
        2 * count
        for count in count_batch_below(h, torch.eye(40, dtype=h.dtype).expand(3, 40, 40), energies)
    ]


def test_indefinite_overlap_is_refused():
    h, s = batch(real=True, n=100)
    with pytest.raises(
        PhysicsError, match="overlap matrix: got an eigenvalue that is not positive"
    ):
        solve_batch_within(h, s - 0.01 * torch.eye(100), 0.0, 1.0)
