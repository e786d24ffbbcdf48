from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hamiltonian_samples import (
    HARTREE,
    openmx_input,
    openmx_out,
    patch_bytes,
    real_sample,
    scfout_sections,
    slater_koster_sample,
    write_scfout,
)

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.openmx import read_openmx


@pytest.fixture
def sample():
    return slater_koster_sample()


def test_units_of_one_element(sample, tmp_path):
    """The first on-site element of the sample is −14 eV: 14/27.2114 Hartree in the file."""
    path = write_scfout(tmp_path / "a.scfout", sample)
    stored = np.frombuffer(path.read_bytes(), "<f8", 1, scfout_sections(sample)["hamiltonian"])[0]
    structure = read_openmx(path)
    onsite = (
        (structure.edge_index[0] == 0)
        & (structure.edge_index[1] == 0)
        & ~structure.edge_cell_shift.any(axis=1)
    )
    assert stored == pytest.approx(-14.0 / HARTREE)
    assert structure.hamiltonian_blocks[onsite][0, 0, 0] == pytest.approx(-14.0)
    assert structure.name == "a"


def test_big_endian_reads_the_same(sample, tmp_path):
    little = read_openmx(write_scfout(tmp_path / "a.scfout", sample))
    big = read_openmx(write_scfout(tmp_path / "b.scfout", sample, byte_order=">"))
    np.testing.assert_array_equal(little.hamiltonian_blocks, big.hamiltonian_blocks)
    np.testing.assert_array_equal(little.edge_cell_shift, big.edge_cell_shift)


def test_all_atoms_may_count_as_between_leads(sample, tmp_path):
    plain = read_openmx(write_scfout(tmp_path / "a.scfout", sample))
    counted = read_openmx(write_scfout(tmp_path / "b.scfout", sample, n_central=3))
    np.testing.assert_array_equal(plain.hamiltonian_blocks, counted.hamiltonian_blocks)


@pytest.mark.parametrize("order_max", [1, 3])
def test_number_of_position_matrices_is_respected(sample, tmp_path, order_max):
    structure = read_openmx(write_scfout(tmp_path / "a.scfout", sample, order_max=order_max))
    assert structure.fermi_energy == pytest.approx(sample.fermi_energy)
    assert structure.energy is None
    assert structure.forces is None


def test_out_appended_to_the_scfout(sample, tmp_path):
    path = write_scfout(tmp_path / "a.scfout", sample)
    with path.open("ab") as file:
        file.write(openmx_out(sample).encode())
    structure = read_openmx(path)
    assert structure.energy == pytest.approx(sample.energy)
    np.testing.assert_allclose(structure.forces, sample.forces, atol=1e-9)


def test_species_from_the_out_when_the_scfout_has_no_input(sample, tmp_path):
    out = tmp_path / "a.out"
    out.write_text(openmx_out(sample))
    assert (
        read_openmx(write_scfout(tmp_path / "a.scfout", sample, text=""), out).basis.names
        == sample.pao
    )


def test_two_labels_of_one_element_with_one_basis(sample, tmp_path):
    text = openmx_input(sample).replace(
        " C   C4.0-s2p2d1", " CA C4.0-s2p2d1  C_PBE19\n CB   C4.0-s2p2d1"
    )
    text = text.replace(" 1 C ", " 1 CA ").replace(" 3 C ", " 3 CB ")
    assert read_openmx(
        write_scfout(tmp_path / "a.scfout", sample, text=text)
    ).atoms.get_chemical_symbols() == ["C", "H", "C"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (13, "spin-polarised"),
        (15, "non-collinear"),
        (8, r"format code 2.*3\.9 or 4\.0"),
        (0, "format code 0"),
    ],
)
def test_unsupported_calculations(sample, tmp_path, code, text):
    with pytest.raises(DataError, match=text):
        read_openmx(write_scfout(tmp_path / "a.scfout", sample, code=code))


def test_truncated_at_any_section(sample, tmp_path):
    data = write_scfout(tmp_path / "a.scfout", sample).read_bytes()
    for end in [
        0,
        10,
        26,
        *(start + 3 for start in scfout_sections(sample).values()),
        len(data) - 1,
    ]:
        (tmp_path / "b.scfout").write_bytes(data[:end])
        with pytest.raises(DataError, match=r"the end of the file \(\d+ bytes\) inside"):
            read_openmx(tmp_path / "b.scfout")


def test_not_an_scfout(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_openmx(tmp_path / "absent.scfout")
    (tmp_path / "text.scfout").write_text("System.Name graphene\n" * 10)
    with pytest.raises(DataError, match="no OpenMX header in either byte order"):
        read_openmx(tmp_path / "text.scfout")


@pytest.mark.parametrize(
    ("section", "shift", "value", "dtype", "text"),
    [
        ("header", 8, 2, "<i4", "leads"),
        ("header", 12, 2, "<i4", "leads"),
        ("orbitals", 0, 0, "<i4", "negative counts"),
        (
            "natn",
            8,
            4,
            "<i4",
            r"natn: got atom indices from 1 to 4 for 3 atoms; expected indices 1 … 3 \(counted "
            r"from 1\)",
        ),
        ("ncn", 8, 9999, "<i4", "a cell index outside"),
        ("natn", 0, 2, "<i4", "begin with the atom itself"),
        ("ncn", 8, 0, "<i4", "listed twice|edges without a reverse"),
        ("tv", 8, np.nan, "<f8", "cell and position values that are NaN"),
        ("hamiltonian", 0, np.nan, "<f8", "1 Hamiltonian values that are NaN"),
        ("overlap", 0, np.inf, "<f8", "1 overlap values that are NaN or infinite"),
        ("overlap", 0, 0.5, "<f8", "on-site overlap of 0.5 on the diagonal"),
        (
            "hamiltonian",
            8,
            1.0,
            "<f8",
            "Hamiltonian blocks that differ from their transposed reverse by up to",
        ),
    ],
)
def test_damaged_numbers(sample, tmp_path, section, shift, value, dtype, text):
    path = write_scfout(tmp_path / "a.scfout", sample)
    with pytest.raises(DataError, match=text):
        read_openmx(patch_bytes(path, scfout_sections(sample)[section] + shift, value, dtype))


def test_asymmetric_neighbour_list(sample, tmp_path):
    """A pair in one direction is completed by its transposed block, and remarked."""
    last = len(sample.pairs) - 1
    cut = dataclasses.replace(
        sample,
        pairs=sample.pairs[:last],
        hamiltonian=sample.hamiltonian[:last],
        overlap=sample.overlap[:last],
    )
    with pytest.warns(UnusualDataWarning, match="1 pairs without their reverse"):
        structure = read_openmx(write_scfout(tmp_path / "a.scfout", cut))
    assert structure.provenance["unusual"] == {"one_direction": 1.0}
    whole = read_openmx(write_scfout(tmp_path / "b.scfout", sample))
    np.testing.assert_allclose(structure.hamiltonian_blocks, whole.hamiltonian_blocks, atol=1e-12)


def test_reversed_cell_indices_are_noticed(tmp_path):
    """The same blocks filed under −R describe another crystal.

    Distances or bond directions give it away.
    """
    for sample in (slater_koster_sample(), real_sample()):
        wrong = dataclasses.replace(sample, pairs=sample.pairs * [-1, -1, -1, 1, 1])
        with pytest.raises(DataError, match=r"sum of the orbital radii|bond direction"):
            read_openmx(write_scfout(tmp_path / "a.scfout", wrong))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("<Definition", "<Deformation", "no Definition.of.Atomic.Species"),
        ("C_PBE19", "", "species line"),
        ("C_PBE19", "E", "species 'C' of empty atoms"),
        ("C_PBE19", "Qq_PBE19", "element 'Qq'"),
        (
            "C4.0-s2p2d1",
            "C4.0-s2p2",
            r"13 orbitals on atom 1 \(Total_NumOrbs\); expected 8 from its basis C4.0-s2p2",
        ),
        (" 3 C ", " 3 X ", r"species \['C', 'H', 'X'\]"),
        (" 3 C ", "# 3 C ", "2 atoms of species"),
    ],
)
def test_input_text_of_another_run(sample, tmp_path, old, new, text):
    wrong = openmx_input(sample).replace(old, new)
    if new == "":
        wrong = wrong.replace("# 6", "")
    with pytest.raises(DataError, match=text):
        read_openmx(write_scfout(tmp_path / "a.scfout", sample, text=wrong))


def test_two_bases_of_one_element(sample, tmp_path):
    text = (
        openmx_input(sample)
        .replace(" C   C4.0-s2p2d1", " CA C4.0-s2p2  C_PBE19\n C   C4.0-s2p2d1")
        .replace(" 1 C ", " 1 CA ")
    )
    with pytest.raises(DataError, match="one basis per element"):
        read_openmx(write_scfout(tmp_path / "a.scfout", sample, text=text))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.replace("  Utot. ", "  Vtot. "), "no Utot"),
        (lambda s: s.replace("coordinates.forces", "coordinates"), "no coordinates.forces"),
        (lambda s: s.replace("-0.0918", "-0.1918"), "chemical potential -0.19.* different runs"),
        (
            lambda s: s.replace("  1.10000 ", "  1.20000 "),
            r"differ by up to 0\.1000 Å from those of the \.scfout",
        ),
        (lambda s: s.replace("    2     H ", "    2     C "), "or other elements"),
        (lambda s: s.replace("    3     C ", "  # 3     C "), "forces on 2 atoms"),
        (lambda s: s.replace("  1.10000 ", "  *.***** "), "could not convert"),
    ],
)
def test_out_of_another_run(sample, tmp_path, change, text):
    path, out = write_scfout(tmp_path / "a.scfout", sample), tmp_path / "a.out"
    out.write_text(change(openmx_out(sample)))
    assert out.read_text() != openmx_out(sample)
    with pytest.raises(DataError, match=text):
        read_openmx(path, out)


def test_out_with_a_force_that_is_no_number(sample, tmp_path):
    path, out = write_scfout(tmp_path / "a.scfout", sample), tmp_path / "a.out"
    lines = openmx_out(sample).splitlines()
    row = next(k for k, line in enumerate(lines) if line.startswith("<coordinates")) + 2
    lines[row] = lines[row].rsplit(maxsplit=1)[0] + "  nan"
    out.write_text("\n".join(lines))
    with pytest.raises(DataError, match="1 force values that are NaN"):
        read_openmx(path, out)
    with pytest.raises(DataError, match="no such file"):
        read_openmx(path, tmp_path / "absent.out")
