import numpy as np
import pytest
from ase import Atoms
from spring_model import SHELLS, SpringCalculator, build_honeycomb

from mlepi.errors import ConfigError
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_phonon_bands, compute_phonon_dos


@pytest.fixture(scope="module")
def honeycomb():
    atoms = build_honeycomb()
    calculator = SpringCalculator(atoms.repeat((4, 3, 1)), SHELLS)
    return calculator, compute_force_constants(atoms, calculator, [4, 3, 1], symmetrize=False)


@pytest.mark.parametrize("angle", [60, 120])
def test_bands_follow_gamma_m_k_gamma_of_either_hexagonal_cell(angle):
    a = 2.46
    if angle == 120:
        atoms = build_honeycomb(a)
    else:
        cell = [[a, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 12.0]]
        atoms = Atoms(
            "C2", scaled_positions=[[1 / 3, 1 / 3, 0.5], [2 / 3, 2 / 3, 0.5]], cell=cell, pbc=True
        )
    calculator = SpringCalculator(atoms.repeat((6, 6, 1)), SHELLS)
    told = []
    found = compute_force_constants(
        atoms, calculator, [6, 6, 1], watch=lambda *counts: told.append(counts)
    )
    assert told == [(done, told[0][1]) for done in range(told[0][1] + 1)]
    bands = compute_phonon_bands(found, n_points=60)
    assert bands.labels == ("G", "M", "K", "G")
    assert np.all(bands.qpoints[:, 2] == 0)
    np.testing.assert_allclose(
        bands.label_distances,
        np.cumsum([0, 1, 1 / np.sqrt(3), 2 / np.sqrt(3)]) * 2 * np.pi / (a * np.sqrt(3)),
        rtol=1e-9,
    )
    assert np.abs(bands.frequencies[[0, -1], :3]).max() < 1e-3
    k_point = np.argmin(np.abs(bands.distances - bands.label_distances[2]))
    # at K the out-of-plane modes of the two sublattices are degenerate
    gaps = np.diff(bands.frequencies[k_point])
    assert np.sum(gaps < 1e-4) >= 2


def test_unknown_special_point(honeycomb):
    with pytest.raises(ConfigError, match=r"stage.phonon.path: got 'GXW'; expected points among"):
        compute_phonon_bands(honeycomb[1], "GXW")


def test_dos_counts_every_mode(honeycomb):
    dos = compute_phonon_dos(honeycomb[1], (12, 12, 1))
    assert np.trapezoid(dos.dos, dos.frequencies) == pytest.approx(6.0, rel=1e-5)
