"""Files of SIESTA 4 and of runs at Γ alone, and levels close to the Fermi energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from foreign_writers import write_hsx, write_old_hsx
from hamiltonian_samples import BOHR, slater_koster_sample

from mlepi.errors import DataError
from mlepi.structures.siesta import read_siesta

SAMPLE = slater_koster_sample()
WIDE = np.array([[14.0, 0.0, 0.0], [5.0, 13.0, 0.0], [0.0, -4.0, 15.0]])


def assert_same(found, expected, atol):
    """Structure, pairs and blocks of two labels agree."""
    np.testing.assert_allclose(found.atoms.positions, expected.atoms.positions, atol=1e-8)
    np.testing.assert_array_equal(found.edge_index, expected.edge_index)
    np.testing.assert_array_equal(found.edge_cell_shift, expected.edge_cell_shift)
    for name in ("hamiltonian_blocks", "overlap_blocks"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=atol)


def molecule():
    """The sample's home cell in a wide one, with an atom three cells away."""
    moves = np.array([[0, 0, 0], [0, 0, 0], [1, -2, 3]])
    inside = [k for k, pair in enumerate(SAMPLE.pairs) if not pair[:3].any()]
    pairs = SAMPLE.pairs[inside]
    pairs[:, :3] = moves[pairs[:, 3]] - moves[pairs[:, 4]]
    return replace(
        SAMPLE,
        cell=WIDE,
        positions=SAMPLE.positions + moves @ WIDE,
        pairs=pairs,
        hamiltonian=[SAMPLE.hamiltonian[k] for k in inside],
        overlap=[SAMPLE.overlap[k] for k in inside],
    )


def test_file_of_siesta_4(tmp_path):
    """Single precision; the structure is that of .XV, the Fermi energy that of .EIG."""
    expected = read_siesta(write_hsx(tmp_path / "new.HSX", SAMPLE))
    found = read_siesta(write_old_hsx(tmp_path / "old.HSX", SAMPLE))
    assert_same(found, expected, atol=2e-6)
    assert found.fermi_energy == pytest.approx(SAMPLE.fermi_energy, abs=1e-9)
    (tmp_path / "old.EIG").unlink()
    assert read_siesta(tmp_path / "old.HSX").fermi_energy is None


def test_structure_beside_a_file_of_siesta_4(tmp_path):
    """Of .XV and .STRUCT_OUT that which the vectors fit is taken; one of them must."""
    path = write_old_hsx(tmp_path / "a.HSX", SAMPLE)
    expected = read_siesta(path)
    later = replace(SAMPLE, positions=SAMPLE.positions + 0.05 * np.outer([0, 1, 0], [0, 0, 1]))
    moved = write_old_hsx(tmp_path / "b.HSX", later).with_suffix(".XV").read_text()
    path.with_suffix(".XV").write_text(moved)
    with pytest.raises(DataError, match=r"bonds are off by 0\.05 Å.* Take \.STRUCT_OUT or \.XV of"):
        read_siesta(path)
    scaled = SAMPLE.positions @ np.linalg.inv(SAMPLE.cell)
    rows = [f"{k} 6 {x[0]:.12f} {x[1]:.12f} {x[2]:.12f}" for k, x in enumerate(scaled)]
    cell = [" ".join(f"{v:.9f}" for v in row) for row in SAMPLE.cell]
    path.with_suffix(".STRUCT_OUT").write_text("\n".join([*cell, "3", *rows]))
    assert_same(read_siesta(path), expected, atol=1e-9)
    path.with_suffix(".STRUCT_OUT").write_text("1 0 0\n0 1 0\n0 0 1\n2\n")
    with pytest.raises(DataError, match=r"a\.STRUCT_OUT: got 0 atoms; expected a cell and 3 atoms"):
        read_siesta(path)
    path.with_suffix(".STRUCT_OUT").unlink()
    path.with_suffix(".XV").unlink()
    with pytest.raises(DataError, match=r"of SIESTA 4, which holds no structure; expected \.STRUC"):
        read_siesta(path)


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_cut_file_of_siesta_4(tmp_path, fraction):
    path = write_old_hsx(tmp_path / "a.HSX", SAMPLE)
    data = path.read_bytes()
    path.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(DataError, match=r"a\.HSX: got .*(the end of the file|HSX format)"):
        read_siesta(path)


@pytest.mark.parametrize(
    ("offset", "value", "told"),
    [
        (4, 0, "0 orbitals"),
        (8, 31, "expected whole cells"),
        (12, 2, "2 spin components"),
        (16, 5, "rows of .* elements"),
        (28, -1, "columns at Γ"),
        (40, 99, "an orbital outside the cell"),
    ],
)
def test_doctored_file_of_siesta_4(tmp_path, offset, value, told):
    path = write_old_hsx(tmp_path / "a.HSX", SAMPLE)
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = np.int32(value).tobytes()
    path.write_bytes(data)
    with pytest.raises(DataError, match=told):
        read_siesta(path)


def write_index(path, radius):
    """``.ORB_INDX`` with one orbital of every atom of the sample."""
    rows = [f"1 {k + 1} 1 {w} 1 2 0 0 1 F s {radius / BOHR} 0 0 0 1" for k, w in enumerate("CHC")]
    path.with_suffix(".ORB_INDX").write_text("\n".join(rows))


def test_gamma_alone_in_a_wide_cell(tmp_path):
    """One image of every pair in reach: H(R) of the nearest ones, wherever the atoms are."""
    sample = molecule()
    for name in ("all", "new", "old"):
        write_index(tmp_path / name, 2.1)
    expected = read_siesta(write_hsx(tmp_path / "all.HSX", sample))
    assert expected.edge_cell_shift.any()
    folded = replace(sample, pairs=np.where(np.arange(5) < 3, 0, sample.pairs))
    assert_same(read_siesta(write_hsx(tmp_path / "new.HSX", folded)), expected, atol=1e-9)
    old = read_siesta(write_old_hsx(tmp_path / "old.HSX", sample, at_gamma=True))
    assert_same(old, expected, atol=2e-6)


def test_gamma_alone_in_a_small_cell(tmp_path):
    """Images that are added up are no H(R); how far orbitals reach stands in .ORB_INDX."""
    path = write_old_hsx(tmp_path / "a.HSX", SAMPLE, at_gamma=True)
    with pytest.raises(DataError, match=r"Γ alone; expected the range of the orbitals in a\.ORB"):
        read_siesta(path)
    write_index(path, 2.1)
    with pytest.raises(DataError, match=r"matrices of Γ alone.* or with ForceAuxCell T"):
        read_siesta(path)
    path = write_old_hsx(tmp_path / "b.HSX", molecule(), at_gamma=True)
    write_index(path, 7.0)
    with pytest.raises(DataError, match=r"expected one image within reach, 14\.00 Å"):
        read_siesta(path)


def test_levels_close_to_the_fermi_energy(tmp_path):
    """Atoms far from each other have all levels within an electronvolt of it."""
    one = {1: [0]}
    sample = replace(
        SAMPLE,
        cell=4.0 * np.eye(3),
        positions=np.zeros((1, 3)),
        numbers=np.array([1]),
        shells=one,
        radii={1: 2.1},
        pairs=np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]]),
        hamiltonian=[np.array([[-5.9]]), np.array([[-0.06]]), np.array([[-0.06]])],
        overlap=[np.ones((1, 1)), np.full((1, 1), 0.01), np.full((1, 1), 0.01)],
        fermi_energy=-5.9,
        forces=np.zeros((1, 3)),
    )
    structure = read_siesta(write_hsx(tmp_path / "a.HSX", sample))
    assert "unusual" not in structure.provenance
