"""Parities are those of the harmonics, and the terms that are left out by parity are zero."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from mlepi.models.parity_terms import parity_terms, reflection_parities
from mlepi.models.symmetric_contraction import symmetric_couplings
from mlepi.models.wigner import AXES


def test_parities_are_those_of_the_harmonics():
    vectors = torch.randn(20, 3, dtype=torch.float64)
    degrees = list(range(5))

    def harmonics(x):
        return o3.spherical_harmonics(degrees, x[:, AXES], normalize=True)

    for bit, axis in enumerate((2, 1, 0)):
        signs = torch.tensor(
            [(-1.0) ** (parity >> bit & 1) for parity in reflection_parities(4)],
            dtype=torch.float64,
        )
        reversed_axis = vectors.clone()
        reversed_axis[:, axis] *= -1.0
        torch.testing.assert_close(
            harmonics(reversed_axis), signs * harmonics(vectors), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(("l_max", "l_out"), [(1, 0), (2, 1), (3, 1), (3, 0)])
def test_every_coupling_is_among_the_terms(l_max, l_out):
    terms = parity_terms(l_max, l_out, 3, torch.device("cpu"))
    size, n_out = (l_max + 1) ** 2, (l_out + 1) ** 2
    kept = torch.zeros(n_out * (size + 1) * (1 + size + size * size), dtype=torch.bool)
    kept[terms.place] = True
    kept = kept.view(n_out * (size + 1), -1)
    derivatives = kept[: n_out * size].view(n_out, size, -1)
    for l in range(l_out + 1):
        outputs = slice(l * l, (l + 1) ** 2)
        first = symmetric_couplings(l_max, l, 1).abs().amax(0)
        second = symmetric_couplings(l_max, l, 2).abs().amax(0)
        third = symmetric_couplings(l_max, l, 3).abs().amax(0)
        assert not (first[~derivatives[outputs, :, 0]] > 1e-12).any()
        assert not (second[~derivatives[outputs, :, 1 : 1 + size]] > 1e-12).any()
        pairs = derivatives[outputs, :, 1 + size :].unflatten(2, (size, size))
        assert not (third[~(pairs | pairs.transpose(2, 3))] > 1e-12).any()
        rests = kept[n_out * size :][outputs]
        assert not (first[~rests[:, 1 : 1 + size]] > 1e-12).any()
        pairs = rests[:, 1 + size :].unflatten(1, (size, size))
        assert not (second[~(pairs | pairs.transpose(1, 2))] > 1e-12).any()


def test_groups_share_out_rows_coefficients_and_places():
    terms = parity_terms(3, 1, 3, torch.device("cpu"))
    assert sorted(terms.order.tolist()) == list(range(4 * 16 + 4))
    assert len(set(terms.place.tolist())) == terms.place.shape[0]
    assert (
        sum(rows * columns for rows, columns in (group.shape for group in terms.groups))
        == terms.place.shape[0]
    )
    assert sum(group.shape[1] for group in terms.groups) == 1 + 16 + 136
