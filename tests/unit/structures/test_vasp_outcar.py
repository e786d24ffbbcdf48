"""What genuine OUTCARs hold beside the plain table: predictions, van der Waals, ends of loops."""

from __future__ import annotations

import re

import numpy as np
import pytest
import test_readers
from ase import units

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.vasp_outcar import read_outcar

FREE = [step["free_energy"] for step in test_readers.STEPS]
PREDICTION = """
  ML FORCE on cell =-STRESS in cart. coord. units (eV/cell)
  in kB       9.00000     9.00000     9.00000     9.00000     9.00000     9.00000
  POSITION                                       TOTAL-FORCE (eV/Angst) (ML)
 ---------------------------------------------------------------------
      0.00000      0.00000     10.00000         0.000000      0.000000      0.000000
 ---------------------------------------------------------------------
  free  energy ML TOTEN  =         0.00000000 eV
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "OUTCAR"
    test_readers.TestOutcar().write(path)
    return path


def edit(path, pattern, new):
    """Replace every match of a pattern."""
    path.write_text(re.sub(pattern, new, path.read_text(), flags=re.MULTILINE))


def energies(path):
    return [structure.energy for structure in read_forces_dataset(path)]


def test_predictions_of_a_force_field_are_no_labels(path):
    """Between the steps of DFT, before and after them; a run of predictions alone has none."""
    edit(path, r"^(-+ Iteration)", PREDICTION + r"\1")
    assert energies(path) == pytest.approx(FREE)
    path.write_text(path.read_text() + PREDICTION)
    structures = read_forces_dataset(path)
    assert [structure.energy for structure in structures] == pytest.approx(FREE)
    assert all(structure.stress is None for structure in structures)
    path.write_text(PREDICTION)
    with pytest.raises(DataError, match="got 1 steps of a force field; expected steps of DFT"):
        read_forces_dataset(path)


def test_columns_without_van_der_waals(path):
    edit(path, r"(TOTAL-FORCE \(eV/Angst\))", r"\1,        FORCE-w/o vdW (eV/Angst)")
    edit(path, r"^(( +-?\d+\.\d{6}){6})$", r"\1  NaN  0.1  0.1")
    edit(path, r"(TOTEN  = .* eV)$", r"\1    w/o vdW =       -33.36815582 eV")
    structures = read_forces_dataset(path)
    assert [structure.energy for structure in structures] == pytest.approx(FREE)
    for structure, step in zip(structures, test_readers.STEPS, strict=True):
        np.testing.assert_allclose(structure.forces, step["forces"], atol=1e-6)


@pytest.mark.parametrize(
    ("version", "left"), [("5.4.4.18Apr17", FREE[1:]), ("6.4.2", FREE)], ids=["5", "6"]
)
def test_loops_that_only_came_to_their_end(path, version, left):
    """VASP 5 says "EDIFF is reached" after the last iteration that NELM allows, whatever it is."""
    edit(path, r"vasp\.6\.4\.2", f"vasp.{version}")
    edit(path, r"^( +ions per type)", r"   NELM   =      3;   NELMIN=  2\n\1")
    edit(path, r"^( POSITION)", r"--- aborting loop because EDIFF is reached ---\n\1")
    edit(path, r"Iteration    1\(   1\)", "Iteration    1(   3)")
    if left == FREE:
        assert energies(path) == pytest.approx(FREE)
        return
    with pytest.warns(UnusualDataWarning, match="1 steps whose electronic loop has not converged"):
        assert energies(path) == pytest.approx(left)


def test_stress_and_touching_vectors(path):
    """xx, yy, zz, xy, yz, zx in kB with the opposite sign; numbers of a cell without a space."""
    stress = "  FORCE on cell =-STRESS in cart. coord.  units (eV):\n  Total 1 2 3 4 5 6\n"
    stress += "  in kB       1.0  2.0  3.0  4.0  5.0  6.0\n"
    edit(path, r"^( POSITION)", stress + r"\1")
    edit(path, r"(\d\.\d{9}) +(-?\d+\.\d{9})", r"\g<1>-\2")
    expected = -0.1 * units.GPa * np.array([[1, 4, 6], [4, 2, 5], [6, 5, 3]])
    np.testing.assert_allclose(read_forces_dataset(path)[1].stress, expected, atol=1e-12)
    cell = test_readers.CELL.copy()
    assert read_outcar(path)[0].cell.array[0] == pytest.approx(-cell[0] * [-1, 1, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("place", "further"),
    [("TOTAL-FORCE", n) for n in (30, 130, 200, 250)] + [("FREE ENERGIE", 0), ("  TOTEN  =", 30)],
)
def test_runs_that_were_killed(path, place, further):
    """The last step is left out, wherever the file ends in it, also inside a number."""
    text = path.read_text()
    path.write_text(text[: text.rindex(place) + further])
    with pytest.warns(UnusualDataWarning, match="1 structures without energy or forces"):
        assert energies(path) == pytest.approx(FREE[:1])


def test_many_kinds_of_atoms(path):
    """Numbers of ions go on in the next line."""
    edit(path, r"ions per type = +1   2$", "ions per type =               1\n    2")
    assert energies(path) == pytest.approx(FREE)


@pytest.mark.parametrize(
    ("pattern", "new", "told"),
    [
        (r"ions per type = +1   2$", "ions per type =  1   4", "forces on 3 atoms of 5"),
        (r"ions per type = +1   2$", "ions per type =  1 2 1 1 1", "5 kinds of ions and the pote"),
        (r" -{83}\n\n", "", "row 4 of forces, 'FREE ENERGIE"),
    ],
)
def test_what_does_not_fit_together(path, pattern, new, told):
    edit(path, pattern, new)
    with pytest.raises(DataError, match=rf"OUTCAR: got an unreadable file \(.*({told})"):
        read_forces_dataset(path)
