"""Shells, slices and orbital orders of ``OrbitalBasis``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3

from mlepi.errors import DataError, StructureError
from mlepi.structures import OrbitalBasis
from mlepi.structures.basis import ORBITAL_ORDERS

BASIS = OrbitalBasis(
    shells={16: (0, 0, 1, 1, 2), 6: (0, 1)}, radii={6: 3.0, 16: 4.0}, names={6: "C-s1p1"}
)


def openmx_functions(l: int, r: np.ndarray) -> np.ndarray:
    """Angular functions (n, 2l + 1) in the order of the OpenMX manual, each up to a factor."""
    x, y, z = r.T
    r2 = (r**2).sum(axis=1)
    return np.stack(
        {
            0: [np.ones_like(x)],
            1: [x, y, z],
            2: [3 * z**2 - r2, x**2 - y**2, x * y, x * z, y * z],
            3: [
                z * (5 * z**2 - 3 * r2),
                x * (5 * z**2 - r2),
                y * (5 * z**2 - r2),
                z * (x**2 - y**2),
                x * y * z,
                x * (x**2 - 3 * y**2),
                y * (3 * x**2 - y**2),
            ],
        }[l],
        axis=1,
    )


@pytest.mark.parametrize("l", [0, 1, 2, 3])
def test_openmx_order_becomes_the_harmonics_of_e3nn(l):
    rng = np.random.default_rng(l)
    r = rng.standard_normal((50, 3))
    basis = OrbitalBasis(shells={6: (l,)}, radii={6: 1.0}, names={})
    internal = openmx_functions(l, r)[:, basis.permutation(6, "openmx")]
    harmonics = o3.spherical_harmonics(l, torch.as_tensor(r[:, [1, 2, 0]]), normalize=False).numpy()
    ratio = internal / harmonics
    assert np.allclose(ratio, ratio[:1], rtol=1e-9)
    assert (ratio[0] > 0).all()


def test_slices_counts_offsets_and_mask():
    assert BASIS.elements == (6, 16)
    assert BASIS.max_orbitals == 13
    assert BASIS.max_radius == 4.0
    assert BASIS.slices(16) == [slice(0, 1), slice(1, 2), slice(2, 5), slice(5, 8), slice(8, 13)]
    numbers = [16, 6, 6]
    assert BASIS.counts(numbers).tolist() == [13, 4, 4]
    assert BASIS.offsets(numbers).tolist() == [0, 13, 17, 21]
    assert BASIS.mask(numbers).sum(axis=1).tolist() == [13, 4, 4]


def test_dictionary_round_trip():
    assert OrbitalBasis.from_dict(BASIS.to_dict()) == BASIS


def test_permutation_acts_shell_by_shell():
    assert BASIS.permutation(16, "openmx").tolist() == [0, 1, 3, 4, 2, 6, 7, 5, 10, 12, 8, 11, 9]
    assert BASIS.permutation(16, "e3nn").tolist() == list(range(13))


def test_errors():
    with pytest.raises(DataError, match=r"OrbitalBasis\.shells: .*at least one shell"):
        OrbitalBasis(shells={6: ()}, radii={6: 1.0}, names={})
    with pytest.raises(DataError, match=r"OrbitalBasis\.radii: .*Give one radius per element"):
        OrbitalBasis(shells={6: (0,)}, radii={}, names={})
    with pytest.raises(DataError, match="orbital order: got 'cp2k'; expected one of"):
        BASIS.permutation(6, "cp2k")
    with pytest.raises(
        StructureError, match=r"atomic numbers \[79\]; expected only elements of the basis"
    ):
        BASIS.check_elements([6, 79])
    high = OrbitalBasis(shells={6: (max(ORBITAL_ORDERS["openmx"]) + 1,)}, radii={6: 1.0}, names={})
    with pytest.raises(DataError, match="a shell with l = 4; expected l ≤ 3"):
        high.permutation(6, "openmx")
