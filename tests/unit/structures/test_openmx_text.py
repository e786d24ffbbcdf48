from __future__ import annotations

import pytest
from hamiltonian_samples import BOHR

from mlepi.errors import DataError
from mlepi.structures.openmx_text import parse_pao_name


@pytest.mark.parametrize(
    ("pao", "shells", "radius"),
    [
        ("C6.0-s2p2", (0, 0, 1, 1), 6.0),
        ("Mo7.0-s3p2d2", (0, 0, 0, 1, 1, 2, 2), 7.0),
        ("H5.0-s3>1p1", (0, 1), 5.0),
        ("Fe5.5H-s3p2d1f1", (0, 0, 0, 1, 1, 2, 3), 5.5),
        ("C6.0_CH-s2p1", (0, 0, 1), 6.0),
        ("Si7-s1", (0,), 7.0),
    ],
)
def test_pao_names(pao, shells, radius):
    assert parse_pao_name("x", pao) == (shells, pytest.approx(radius * BOHR))


@pytest.mark.parametrize(
    ("pao", "text"),
    [("C6.0", "such as C6.0-s2p2"), ("C6.0-p2s2", "in the order s, p"), ("C-s2", "basis name")],
)
def test_bad_pao_names(pao, text):
    with pytest.raises(DataError, match=text):
        parse_pao_name("x", pao)
