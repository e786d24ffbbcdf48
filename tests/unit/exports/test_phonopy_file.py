"""phonopy loads the force constants and finds the frequencies of the springs."""

import numpy as np
import phonopy
import pytest

from mlepi.errors import DataError
from mlepi.exports import write_phonopy
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

QPOINTS = np.array([[0, 0, 0], [0.5, 0, 0], [1 / 3, 1 / 3, 0], [0.11, 0.27, 0.0]])


@pytest.mark.filterwarnings("ignore:.*Point group symmetries")  # 3×2 has no rotation by 120°
@pytest.mark.parametrize("supercell", [(3, 3, 1), (3, 2, 1)])
def test_phonopy_reproduces_the_frequencies(tmp_path, supercell):
    atoms = build_graphene(stacking="AB")
    atoms.set_masses([12.0, 12.0, 13.0, 12.011])
    springs = HoneycombSprings(spacing=3.35)
    found = compute_force_constants(atoms, springs, supercell)
    path = tmp_path / "phonopy_params.yaml"
    write_phonopy(path, found)
    phonon = phonopy.load(path, log_level=0)
    assert len(phonon.primitive) == 4
    np.testing.assert_array_equal(phonon.primitive.masses, [12.0, 12.0, 13.0, 12.011])
    assert phonon.supercell_matrix.tolist() == np.diag(supercell).tolist()
    frequencies = phonon.run_qpoints(QPOINTS).frequencies
    np.testing.assert_allclose(frequencies, compute_frequencies(found, QPOINTS), atol=1e-6)
    with pytest.raises(DataError, match=r"phonopy_params.yaml: got an existing path"):
        write_phonopy(path, found)
    assert [p.name for p in tmp_path.iterdir()] == ["phonopy_params.yaml"]
