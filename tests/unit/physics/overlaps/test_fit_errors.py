"""Tables fitted to the overlaps of other programs, any shells, and what they miss."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from foreign_files import FOLDER, foreign

from mlepi.errors import UnusualDataWarning
from mlepi.physics.overlaps import OverlapSample, fit_overlap_table, measure_overlap_errors
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.deeph import read_deeph
from mlepi.structures.openmx_labels import read_label_file
from mlepi.structures.siesta import read_siesta


def sample_of(structure):
    j, i = structure.edge_index
    shifts = structure.edge_cell_shift @ structure.atoms.cell.array
    vectors = structure.atoms.positions[j] + shifts - structure.atoms.positions[i]
    blocks = structure.overlap_blocks
    return OverlapSample(structure.atoms.numbers, structure.edge_index, vectors, blocks)


def fit(basis, samples):
    return fit_overlap_table(samples, basis.shells, basis.radii, basis.names)


@pytest.mark.parametrize(
    ("read", "name", "limit"),
    [(read_deeph, "deeph-new/MoTe2", 1e-5), (read_siesta, "siesta/Si/Si.HSX", 1e-5)],
)
def test_shells_that_overlap_on_one_atom(read, name, limit):
    """OpenMX's s3p2d2 (0.35 on site) and SIESTA's double zeta (0.94) are tables like any other."""
    path = foreign(name)
    with pytest.warns(UnusualDataWarning):
        structure = read(path)
    sample = sample_of(structure)
    errors = measure_overlap_errors(fit(structure.basis, [sample]), [sample])
    assert errors.largest < limit
    assert errors.n_blocks == len(sample.blocks)
    assert errors.n_outside == 0
    assert f"largest error {errors.largest:.1e}" in errors.describe()


def test_overlaps_that_are_not_two_centre_are_told():
    """MgO from a mesh of k-points misses by 1.8e-4, in blocks of Mg with O alone."""
    path = foreign("deeph-new/MgO-pyscf")
    with pytest.warns(UnusualDataWarning):
        structure = read_deeph(path)
    sample = sample_of(structure)
    table = fit(structure.basis, [sample])
    with pytest.warns(UnusualDataWarning, match="radial tables miss by up to 1.8e-04"):
        errors = measure_overlap_errors(table, [sample])
    assert errors.largest == errors.by_pair[8, 12]
    assert errors.by_pair[8, 8] < 1e-8


def test_molybdenum_disulphide_held_out():
    """A table of five bilayers gives S of a sixth to 1e-5; where it has no distances it says so."""
    folder = FOLDER.parent / "openmx-mos2"
    files = sorted(folder.glob("mos2b2_*.npz"))[:6]
    if len(files) < 6:
        pytest.skip(f"no {folder}")
    radius = 7.0 * 0.529177210903
    shells = {42: (0, 0, 0, 1, 1, 2, 2), 16: (0, 0, 1, 1, 2)}
    basis = OrbitalBasis(shells, {42: radius, 16: radius}, {42: "", 16: ""})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = [sample_of(read_label_file(Path(file), basis)) for file in files]
        errors = measure_overlap_errors(fit(basis, samples[:5]), samples[5:])
    assert errors.largest < 1e-5
    assert errors.n_outside < 0.1 * errors.n_blocks


def test_a_table_of_another_basis_is_told():
    """Overlaps 2 % larger than those that were fitted."""
    path = foreign("deeph-new/MoTe2")
    with pytest.warns(UnusualDataWarning):
        structure = read_deeph(path)
    sample = sample_of(structure)
    table = fit(structure.basis, [sample])
    stretched = sample._replace(blocks=1.02 * sample.blocks)
    with pytest.warns(UnusualDataWarning, match="or the table is of another basis"):
        errors = measure_overlap_errors(table, [stretched])
    assert np.isclose(errors.largest, 0.02 * np.abs(sample.blocks).max(), atol=1e-4)
