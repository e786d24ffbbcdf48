"""Texts of OpenMX as its examples have them: comments behind keywords, relaxations, molecules."""

from __future__ import annotations

import numpy as np
import pytest
from hamiltonian_samples import openmx_out, slater_koster_sample

from mlepi.errors import DataError
from mlepi.structures.openmx_out import read_openmx_out
from mlepi.structures.openmx_text import find_block

SAMPLE = slater_koster_sample()
STARS = f"{'*' * 59}\n"


def write_out(path, kind="nomd", largest=2e-5, cell=None, start=0.0):
    """A run of two steps; the input has its comments, and the atoms elsewhere at first."""
    text = openmx_out(SAMPLE)
    vectors = "".join(" ".join(f"{v:.10f}" for v in row) + "\n" for row in SAMPLE.cell)
    unit = (
        "Atoms.UnitVectors.Unit  Ang #  Ang|AU\n#<Atoms.UnitVectors\n# 1 0 0\n#Atoms.UnitVectors>\n"
    )
    unit += f"<Atoms.UnitVectors                     # unit=Ang.\n{vectors}Atoms.UnitVectors>\n"
    unit += f"MD.Type   {kind}   # Nomd|Opt|NVE\nMD.Opt.criterion  1.0e-4  # default=1.0e-4\n"
    text = text.replace("HS.fileout on\n", f"{unit}HS.fileout on\n")
    text = text.replace(
        "<Atoms.SpeciesAndCoordinates\n", "<Atoms.SpeciesAndCoordinates  # Unit=Ang.\n"
    )
    first = f" 1 C {SAMPLE.positions[0][0]:.10f} "
    assert first in text
    text = text.replace(first, f" 1 C {SAMPLE.positions[0][0] + start:.10f} ")
    what, further = ("cell", "  -11.0   45.1") if cell is not None else ("geometry", "")
    history = (
        f"{STARS}     History of {what} optimization\n{STARS}\n  MD_iter  Maximum force  Utot\n\n"
    )
    history += f"    1   1.25981732   0.02135227   0.01423484   -11.1{further}\n"
    history += f"    2   1.25981732   {largest:.8f}   0.01423484   -11.8{further}\n\n"
    end = np.asarray(SAMPLE.cell if cell is None else cell)
    if cell is not None:
        rows = "".join(
            f" a{k + 1} = {row[0]:10.5f} {row[1]:10.5f} {row[2]:10.5f}  dE/da{k + 1} = 0 0 0\n"
            for k, row in enumerate(end)
        )
        history += f"    Cell vectors (Ang.) and derivatives of total energy\n\n{rows}\n"
    scaled = SAMPLE.positions @ np.linalg.inv(end) % 1.0
    table = "".join(
        f"    {k + 1}   {'CHC'[k]}   {x[0]:.14f}   {x[1]:.14f}   {x[2]:.14f}\n"
        for k, x in enumerate(scaled)
    )
    before, found, forces = text.partition("       xyz-coordinates")
    assert found
    table = f"       Fractional coordinates of the final structure\n{STARS}\n{table}\n{STARS}"
    path.write_text(f"{before}{history}{found}{forces}\n{table}")
    return path


def test_comments_behind_keywords():
    """As in OpenMX's own examples; a block that is a comment is none."""
    text = "#<A.B\n 9\n#A.B>\n <A.B   # Unit=Ang.\n 1 2 # three\nA.B>\n<A.B.C\n 4\nA.B.C>\n"
    assert find_block(text, "A.B") == [["1", "2"]]


@pytest.mark.parametrize("kind", ["nomd", "BFGS"])
def test_structure_of_a_relaxation_is_the_last_one(tmp_path, kind):
    path = write_out(tmp_path / "a.out", kind, start=0.0 if kind == "nomd" else 0.3)
    found = read_openmx_out(path)
    np.testing.assert_allclose(found.atoms.cell.array, SAMPLE.cell, atol=1e-9)
    apart = (found.atoms.positions - SAMPLE.positions) @ np.linalg.inv(SAMPLE.cell)
    np.testing.assert_allclose(apart, np.rint(apart), atol=1e-8)
    np.testing.assert_allclose(found.forces, SAMPLE.forces, atol=1e-9)
    assert found.energy == pytest.approx(SAMPLE.energy, abs=1e-8)
    assert found.atoms.get_chemical_symbols() == ["C", "H", "C"]


def test_cell_of_a_relaxation_is_the_last_one(tmp_path):
    cell = SAMPLE.cell * 1.02
    found = read_openmx_out(write_out(tmp_path / "a.out", "RFC5", cell=cell))
    np.testing.assert_allclose(found.atoms.cell.array, cell, atol=1e-5)
    np.testing.assert_allclose(found.forces, SAMPLE.forces, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"largest": 2e-4}, r"ends with a force of 0\.0002 Hartree/Bohr; expected at most 1\.0e-4"),
        (
            {"drop": "History of geometry"},
            "several steps of MD.Type BFGS; .* Run it with MD.Type no",
        ),
        ({"drop": "Fractional coordinates"}, "0 fractional coordinates of the final structure"),
        ({"drop": "<Atoms.UnitVectors "}, r"got no Atoms\.UnitVectors; .* a molecule needs a cell"),
    ],
)
def test_texts_without_the_structure_of_their_forces(tmp_path, change, told):
    drop = change.pop("drop", None)
    path = write_out(tmp_path / "a.out", "BFGS", start=0.3, **change)
    if drop:
        path.write_text(path.read_text().replace(drop, "something else"))
    with pytest.raises(DataError, match=told):
        read_openmx_out(path)
