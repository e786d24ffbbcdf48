"""Orbitals of SIESTA and Gaussian sets of CP2K: closed forms first, then overlaps of the codes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from foreign_files import foreign

from mlepi.commands.overlaps import main
from mlepi.errors import DataError, UnusualDataWarning
from mlepi.physics.overlaps import (
    OverlapSample,
    compute_overlap_blocks_torch,
    measure_overlap_errors,
    read_gaussians,
    read_ion_xml,
    read_overlap_table,
    tabulate_overlaps,
)
from mlepi.structures.bonds import find_bonds
from mlepi.structures.conversion import convert
from mlepi.structures.deeph import read_deeph
from mlepi.units import BOHR

ALPHA = {"C": 0.9, "H": 1.7}  # 1/Bohr²
BASIS = "\n".join(
    f"# set\n{symbol} ONE ONE-q4\n 1\n 2 0 1 1 1 1\n  {a}  1.0 1.0\n" for symbol, a in ALPHA.items()
)
GTH = """
Mg SZV-GTH
  1
  1  0  1  6  2  1
  28.4894000448  -0.0662729183   0.0165018731   0.0464558886
  11.7278204570  -0.1706135571   0.0374283767   0.1664914738
   4.4443941842   0.2494781478  -0.0517347280   0.3580941241
   1.6070266284   0.6423214818  -0.2647624258   0.4356599896
   0.5690630460   0.2933234669  -0.0948461091   0.2229558550
   0.0763496459  -0.0002717019   1.0630071183   0.0085986529
O SZV-GTH
  1
  2  0  1  4  1  1
   8.3043855492   0.1510165999  -0.0995679273
   2.4579484191  -0.0393195364  -0.3011422449
   0.7597373434  -0.6971724029  -0.4750857083
   0.2136388632  -0.3841133622  -0.3798777957
"""  # VandeVondele, CP2K's GTH_BASIS_SETS


def closed_form(a, b, distance):
    """Overlap of two normalised s Gaussians and its slope; exponents 1/Bohr², Å."""
    mean = a * b / (a + b)
    value = (4 * mean / (a + b)) ** 0.75 * np.exp(-mean * (distance / BOHR) ** 2)
    return value, -2 * mean * distance / BOHR**2 * value


def write_ion_xml(path, number, functions):
    """Functions by (l, exponent, cutoff): R(r)/r^l of normalised Gaussians, each on its grid."""
    orbitals = ""
    for l, a, cutoff in functions:
        grid = np.linspace(0.0, cutoff, 500)
        norm = np.sqrt(2 * (2 * a) ** (l + 1.5) / {0: np.sqrt(np.pi) / 2, 1: 0.75 * np.pi**0.5}[l])
        rows = "\n".join(f"{r:.12E} {norm * np.exp(-a * r * r):.12E}" for r in grid)
        orbitals += (
            f'<orbital l=" {l}" n=" 2" z=" 1">\n<radfunc>\n<npts> 500 </npts>\n<delta> {grid[1]}'
            f" </delta>\n<cutoff> {cutoff} </cutoff>\n<data>\n{rows}\n</data>\n"
            "</radfunc>\n</orbital>\n"
        )
    path.write_text(f'<ion version="0.1">\n<z> {number} </z>\n<paos>\n{orbitals}</paos>\n</ion>')
    return path


@pytest.fixture(params=["gaussians", "ion.xml"])
def orbitals(request, tmp_path):
    """Carbon and hydrogen with one s and one p Gaussian each, through either reader."""
    if request.param == "gaussians":
        (tmp_path / "BASIS").write_text(BASIS)
        return [read_gaussians(tmp_path / "BASIS", symbol, "ONE-q4") for symbol in ALPHA]
    made = []
    for symbol, number in (("C", 6), ("H", 1)):
        a = ALPHA[symbol]
        path = tmp_path / f"{symbol}.ion.xml"
        made.append(read_ion_xml(write_ion_xml(path, number, [(0, a, 6.5), (1, a, 7.0)])))
    return made


def test_closed_forms_with_their_slopes(orbitals):
    """s–s by Gauss's product, s–p_z by its slope: p_z is ∂s/∂z divided by √α."""
    table = tabulate_overlaps(orbitals, n_grid=513)
    for elements in ("CC", "CH", "HH"):
        a, b = (ALPHA[symbol] for symbol in elements)
        numbers = torch.tensor([{"C": 6, "H": 1}[symbol] for symbol in elements])
        for distance in (0.7, 1.4, 2.3):
            z = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
            vector = torch.stack([0 * z, 0 * z, z])[None]
            block = compute_overlap_blocks_torch(table, numbers, torch.tensor([[1], [0]]), vector)[
                0
            ]
            value, slope = closed_form(a, b, distance)
            assert block[0, 0].item() == pytest.approx(value, abs=3e-7)
            assert block[0, 2].item() == pytest.approx(slope * BOHR / np.sqrt(b), abs=1e-6)
            (gradient,) = torch.autograd.grad(block[0, 0], z)
            assert gradient.item() == pytest.approx(slope, abs=5e-6)


def samples_of(structure):
    vectors = find_bonds(structure.atoms, structure.edge_index, structure.edge_cell_shift).vectors
    return [
        OverlapSample(
            structure.atoms.numbers, structure.edge_index, vectors, structure.overlap_blocks
        )
    ]


def test_overlaps_of_siesta(tmp_path, capsys):
    """Si.ion.xml gives the S of Si.HSX to SIESTA's own integration; the command says so."""
    folder = foreign("siesta/Si")
    data = tmp_path / "si.h5"
    convert([folder / "Si.HSX"], data)
    assert (
        main([str(folder / "Si.ion.xml"), "--out", str(tmp_path / "t.h5"), "--like", str(data)])
        == 0
    )
    told = capsys.readouterr().out
    largest = float(re.search(r"largest error (\S+)", told).group(1))
    assert largest < 1e-6


def test_overlaps_of_gaussians(tmp_path):
    """GTH-SZV gives PySCF's S of MgO as far as its mesh of k-points lets it be two-centre."""
    folder = foreign("deeph-new/MgO-pyscf")
    (tmp_path / "GTH").write_text(GTH)
    with pytest.warns(UnusualDataWarning):
        structure = read_deeph(folder)
    made = [read_gaussians(tmp_path / "GTH", symbol, "SZV-GTH") for symbol in ("Mg", "O")]
    assert [one.shells for one in made] == [(0, 0, 1), (0, 1)]
    table = tabulate_overlaps(made, k_max=80.0, n_grid=513)
    with pytest.warns(UnusualDataWarning, match="give S of every structure"):
        errors = measure_overlap_errors(table, samples_of(structure))
    assert errors.largest < 1e-3
    assert errors.rms < 2e-5


def ion(change):
    def make(folder):
        path = write_ion_xml(folder / "C.ion.xml", 6, [(0, 0.9, 6.5), (1, 0.9, 7.0)])
        path.write_text(change(path.read_text()))
        return lambda: read_ion_xml(path)

    return make


def gauss(change, symbol="C", name="ONE"):
    def make(folder):
        (folder / "BASIS").write_text(change(BASIS))
        return lambda: read_gaussians(folder / "BASIS", symbol, name)

    return make


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (ion(lambda t: t[:3000]), "a damaged or incomplete file"),
        (ion(lambda t: t.replace("<z> 6 </z>", "")), "no z"),
        (ion(lambda t: t.replace("<paos>", "<other>").replace("</paos>", "</other>")), "damaged"),
        (ion(lambda t: t.replace('l=" 1"', 'm=" 1"')), "KeyError: 'l'"),
        (ion(lambda t: t.replace("</data>", "1.0 </data>", 1)), "damaged"),
        (ion(lambda t: t.replace("E-01", "E+00")), "damaged|norms"),
        (ion(lambda t: t.replace('l=" 1"', 'l=" 0"')), "norms"),
        (gauss(lambda t: t, "N"), "no set 'ONE' of N"),
        (gauss(lambda t: t, name="TWO"), r"no set 'TWO' of C; expected one of \['ONE', 'ONE-q4'\]"),
        (gauss(lambda t: t.replace(" 2 0 1 1 1 1", " 2 0 1 1 1")), "1 numbers of shells"),
        (gauss(lambda t: t.replace("0.9  1.0 1.0", "0.9  1.0")), "a damaged set"),
        (gauss(lambda t: t.replace("0.9", "-0.9")), "a damaged set"),
        (gauss(lambda t: t.replace("0.9", "many")), "a damaged set"),
    ],
)
def test_doctored_orbitals(tmp_path, make, text):
    read = make(tmp_path)
    with pytest.raises(DataError, match=text):
        read()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["BASIS"], "--set: got nothing"),
        (["BASIS", "--set", "ONE"], "--elements"),
        (["BASIS", "--set", "ONE", "--elements", "C,X1"], "symbols of elements"),
        (["C6.0.pao"], "no shells for C6.0.pao"),
        (["gone.ion.xml"], "no such file"),
    ],
)
def test_what_the_command_asks_for(tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BASIS").write_text(BASIS)
    with pytest.raises(DataError, match=text):
        main([*words, "--out", "t.h5"])
    assert not (tmp_path / "t.h5").exists()


def test_the_command_tabulates_a_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BASIS").write_text(BASIS)
    assert main(["BASIS", "--set", "ONE", "--elements", "C", "--out", "t.h5"]) == 0
    assert "C ONE: shells [0, 1], radius" in capsys.readouterr().out
    assert read_overlap_table("t.h5").shells == {6: (0, 1)}
    with pytest.raises(DataError, match="existing file"):
        main(["BASIS", "--set", "ONE", "--elements", "C", "--out", "t.h5"])
