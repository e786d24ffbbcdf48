"""A ``.TSHS`` holds no elements and no quantum numbers; ``.ORB_INDX`` beside it has both."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from foreign_writers import dense_cells, reorder, write_hsx
from hamiltonian_samples import SYMBOLS, slater_koster_sample

from mlepi.errors import DataError
from mlepi.structures.siesta import read_siesta

SAMPLE = slater_koster_sample()


class UnknownAtoms:
    """sisl's atoms of a lone ``.TSHS``: hydrogen all, orbitals without l and m."""

    def __init__(self, counts):
        self.counts = counts
        self.Z = [1] * len(counts)

    def __getitem__(self, atom):
        return SimpleNamespace(orbitals=[SimpleNamespace()] * int(self.counts[atom]))


def sisl_of(sample):
    """Stand-in for sisl: any file is this sample."""
    cells = [
        dense_cells(sample, reorder(sample, "siesta", blocks))
        for blocks in (sample.hamiltonian, sample.overlap)
    ]
    parts = [scipy.sparse.csr_matrix(np.hstack(list(of_cell.values()))) for of_cell in cells]
    geometry = SimpleNamespace(
        na=len(sample.numbers),
        no=int(sum(sample.counts)),
        xyz=sample.positions,
        lattice=SimpleNamespace(cell=sample.cell, sc_off=list(cells[0])),
        atoms=UnknownAtoms(sample.counts),
    )
    matrix = SimpleNamespace(
        geometry=geometry,
        spin=SimpleNamespace(size=lambda dtype: 1),
        dtype=float,
        orthogonal=False,
        S_idx=1,
        tocsr=lambda index: parts[index],
    )
    file = SimpleNamespace(read_hamiltonian=lambda **known: matrix)
    return SimpleNamespace(__version__="0", SislWarning=UserWarning, get_sile=lambda path: file)


def index_rows(sample):
    """Rows of ``.ORB_INDX``: io ia is spec iao n l m z p sym rc isc iuo."""
    rows = []
    for atom, z in enumerate(sample.numbers.tolist()):
        orbitals = [(n, l, m) for n, l in enumerate(sample.shells[z]) for m in range(-l, l + 1)]
        for place, (n, l, m) in enumerate(orbitals):
            io = len(rows) + 1
            rows.append(
                f"{io} {atom + 1} 1 {SYMBOLS[z]} {place + 1} 3 {l} {m} {n + 1} F s 9.5 0 0 0 {io}"
            )
    image = rows[0].replace(" 0 0 0 1", " 1 0 0 1").replace("1 1 1", f"{len(rows) + 1} 1 1", 1)
    return [*rows, image, "  Orbitals in the supercell: see the manual"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """``.HSX`` and, with a stand-in for sisl, ``.TSHS`` of the same sample."""
    write_hsx(tmp_path / "a.HSX", SAMPLE)
    (tmp_path / "b.TSHS").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "sisl", sisl_of(SAMPLE))
    return tmp_path


def test_index_of_orbitals_names_elements_and_shells(files):
    (files / "b.ORB_INDX").write_text("\n".join(index_rows(SAMPLE)))
    expected, found = read_siesta(files / "a.HSX"), read_siesta(files / "b.TSHS")
    np.testing.assert_array_equal(found.atoms.numbers, expected.atoms.numbers)
    assert found.basis.shells == expected.basis.shells
    assert found.fermi_energy == 0.0
    np.testing.assert_array_equal(found.edge_index, expected.edge_index)
    for name in ("hamiltonian_blocks", "overlap_blocks"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (None, r"b\.TSHS: got orbitals without l; .* Keep \.ORB_INDX, or \.fdf and \.ion\.xml"),
        (lambda rows: rows[1:], "got orbitals without l"),
        (lambda rows: [rows[0].replace(" 3 0 0 ", " 3 s 0 ", 1), *rows[1:]], "invalid literal"),
    ],
)
def test_without_an_index_that_fits_it_is_refused(files, edit, told):
    if edit is not None:
        (files / "b.ORB_INDX").write_text("\n".join(edit(index_rows(SAMPLE))))
    with pytest.raises(DataError, match=told):
        read_siesta(files / "b.TSHS")
