"""Files that other programs wrote, read and compared with the programs' own numbers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.linalg
from foreign_files import bloch_sum, foreign

from mlepi.errors import UnusualDataWarning
from mlepi.structures.deeph import read_deeph, write_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy


def levels(structure, kpoint):
    """Generalised eigenvalues at one k-point, eV."""
    H, S = (
        bloch_sum(structure, blocks, np.asarray(kpoint))
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    return scipy.linalg.eigvalsh(H, S)


def test_molybdenum_ditelluride_in_both_layouts(tmp_path):
    """OpenMX's Mo7.0-s3p2d2: shells of an atom overlap by 0.35; both layouts are one crystal."""
    with pytest.warns(UnusualDataWarning) as told:
        legacy = read_deeph_legacy(foreign("deeph-legacy/MoTe2"))
    assert len(told) == 2
    assert legacy.provenance["unusual"] == {
        "normalisation": pytest.approx(0.0149, abs=1e-4),
        "shells_overlap": pytest.approx(0.3536, abs=1e-4),
    }
    with pytest.warns(UnusualDataWarning):
        new = read_deeph(foreign("deeph-new/MoTe2"))
    for kpoint in ([0.0, 0.0, 0.0], [0.21, -0.37, 0.0]):
        np.testing.assert_allclose(levels(new, kpoint), levels(legacy, kpoint), atol=1e-8)
    write_deeph(tmp_path / "copy", new)
    with pytest.warns(UnusualDataWarning):
        copy = read_deeph(tmp_path / "copy")
    np.testing.assert_array_equal(copy.hamiltonian_blocks, new.hamiltonian_blocks)


def test_magnesium_oxide_of_pyscf():
    """S of inverse Fourier sums is two-centre to 1.3e-4; bands are those of the code."""
    folder = foreign("deeph-new/MgO-pyscf")
    with pytest.warns(UnusualDataWarning):
        structure = read_deeph(folder)
    assert set(structure.provenance["unusual"]) == {
        "missing_pairs",
        "not_two_centre",
        "energy_zero",
    }
    with h5py.File(folder / "band_data.h5") as file:
        bands, kpoints = file["band_data"][()], file["kpoints_frac_list"][()]
        fermi = float(file["fermi_energy_before_shift_eV"][()])
    for n in (0, 77, 151, 299):
        expected = bands[:, n] + fermi
        np.testing.assert_allclose(levels(structure, kpoints[n]), expected, atol=1e-6)
