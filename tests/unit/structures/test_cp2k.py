"""CP2K: where atoms are put, meshes of equal density, and a recorded calculation read back."""

import re

import numpy as np
import pytest
from ase import Atoms
from cp2k_files import BASIS_SETS, INPUT, SETTINGS, basis, hbn, unpack

from mlepi.errors import ConfigError, DataError, NotConvergedError
from mlepi.physics.overlaps import (
    compute_overlap_blocks,
    find_k_max,
    read_gaussians,
    tabulate_overlaps,
)
from mlepi.structures import build_graphene
from mlepi.structures.bonds import find_bonds
from mlepi.structures.cp2k import compare_bands, read_cp2k
from mlepi.structures.cp2k_input import (
    Cp2kSettings,
    build_cp2k_input,
    place_atoms,
)
from mlepi.structures.cp2k_output import read_bands, read_forces, read_output
from mlepi.structures.k_density import choose_mesh, find_gap
from mlepi.units import BOHR, HARTREE

NOT_OF_THE_INPUT = ("command", "data_folder", "hours")


def settings(**given):
    own = {key: value for key, value in SETTINGS.items() if key not in NOT_OF_THE_INPUT}
    return Cp2kSettings(**{**own, **given})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The recorded calculation, and its labels."""
    folder = unpack(tmp_path_factory.mktemp("cp2k"))
    return folder, read_cp2k(folder, "hbn", hbn(), place_atoms(hbn()), basis())


@pytest.fixture
def copy(tmp_path):
    return unpack(tmp_path)


def test_atoms_are_put_where_cp2k_counts_from():
    atoms = hbn()
    atoms.positions += [2.3 * 2.51, -7.0, 3.0]
    placed = place_atoms(atoms)
    fractional = atoms.cell.scaled_positions(placed.positions)
    assert np.abs(fractional).max() < 0.5
    expected = atoms.positions + placed.moved @ atoms.cell.array
    np.testing.assert_allclose(placed.positions, expected, atol=1e-12)


def test_atoms_at_the_border_are_shifted_together():
    atoms = hbn()
    atoms.positions[:, 2] += 5.0  # the second atom lies at half the height of the cell
    placed = place_atoms(atoms)
    fractional = atoms.cell.scaled_positions(placed.positions)
    assert np.abs(fractional).max() < 0.5 - 1e-3
    shift = placed.positions - atoms.positions - placed.moved @ atoms.cell.array
    np.testing.assert_allclose(shift, [[0.0, 0.0, shift[0, 2]]] * 2, atol=1e-12)
    assert find_gap(np.array([0.1, 0.9, 0.3]))[1] == pytest.approx(0.6)
    assert find_gap(np.array([0.1, 0.9, 0.3]))[0] == pytest.approx(0.6)


@pytest.mark.parametrize(("repeat", "mesh"), [(1, (12, 12, 1)), (2, (6, 6, 1)), (3, (4, 4, 1))])
def test_meshes_of_supercells_are_the_same_points(repeat, mesh):
    atoms = build_graphene("monolayer").repeat((repeat, repeat, 1))
    assert choose_mesh(atoms, 0.25, 6.0) == mesh
    assert choose_mesh(atoms, 0.25, 1e3)[2] > 1


def test_the_input_is_one_that_has_run():
    atoms = hbn()
    atoms.positions[:, 2] += 5.0
    own = settings(cutoff=250.0, dispersion="DFTD3(BJ)", steps=80)
    mesh = choose_mesh(atoms, own.k_spacing, own.vacuum)
    assert build_cp2k_input(atoms, own, mesh) + "\n" == INPUT.read_text()


def test_the_recorded_calculation_had_this_mesh():
    mesh = choose_mesh(hbn(), SETTINGS["k_spacing"], SETTINGS["vacuum"])
    assert mesh == (4, 4, 1)


def test_the_second_attempt_takes_smaller_and_more_steps_to_the_same_solution():
    first, second = (
        build_cp2k_input(hbn(), settings(), (2, 2, 1), attempt).splitlines() for attempt in (1, 2)
    )
    changed = [(a.split(), b.split()) for a, b in zip(first, second, strict=True) if a != b]
    assert {a[0] for a, _ in changed} == {"MAX_SCF", "ALPHA", "NBROYDEN"}
    numbers = {a[0]: (float(a[1]), float(b[1])) for a, b in changed}
    assert numbers["MAX_SCF"] == (60, 180)
    assert numbers["ALPHA"] == pytest.approx((0.3, 0.1))


def test_sections_of_the_input_are_closed():
    text = build_cp2k_input(hbn(), settings(dispersion=None), (2, 3, 1))
    open_sections = []
    for line in text.splitlines():
        if found := re.match(r" *&END (\S+)", line):
            assert open_sections.pop() == found[1]
        elif found := re.match(r" *&(\S+)", line):
            open_sections.append(found[1])
    assert not open_sections
    assert "VDW_POTENTIAL" not in text
    assert "MACDONALD 2 3 1 0.250000000000000 0.000000000000000 0.000000000000000" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"cutoff": 0.0}, "cutoff=0.0"),
        ({"mixing": 1.5}, "mixing=1.5"),
        ({"dispersion_reach": -1.0}, "dispersion_reach=-1.0"),
        ({"functional": "PBE\n&END"}, "single words"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        settings(**given)


def test_elements_without_a_basis_set_or_a_cell_are_refused():
    assert settings(basis={"B": "X", "N": "Y"}).name_basis("N") == "Y"
    with pytest.raises(ConfigError, match=r"dft.basis: got those of .* expected one for N"):
        build_cp2k_input(hbn(), settings(basis={"B": "X"}), (1, 1, 1))
    with pytest.raises(ConfigError, match=r"dft.potential: got those of \['B'\]"):
        settings(potential={"B": "X"}).name_potential("N")
    with pytest.raises(Exception, match="a cell of rank 0"):
        build_cp2k_input(Atoms("N"), settings(), (1, 1, 1))


def test_energy_and_forces_are_those_of_the_files(recorded):
    folder, labels = recorded
    output = (folder / "output.txt").read_text()
    energy = float(re.findall(r"ENERGY\| Total FORCE_EVAL.*: +(\S+)", output)[-1])
    assert labels.energy == pytest.approx(energy * HARTREE, abs=1e-9)
    fermi = float(re.findall(r"Fermi energy: +(\S+)", output)[-1])
    assert labels.fermi_energy == pytest.approx(fermi * HARTREE, abs=1e-9)
    rows = (folder / "forces.txt").read_text().splitlines()
    row = [line.split() for line in rows if re.match(r" +2 +2 +N ", line)]
    expected = np.array(row[0][3:], dtype=float) * HARTREE / BOHR
    np.testing.assert_allclose(labels.forces[1], expected, atol=1e-12)
    assert labels.provenance["code"] == "CP2K version 2023.1"
    assert labels.basis.radii == {5: 5.922205, 7: 5.389027}
    assert labels.basis.valence_electrons == {5: 3.0, 7: 5.0}


def test_h_and_s_give_the_bands_of_cp2k_at_points_on_no_mesh(recorded):
    folder, labels = recorded
    bands = read_bands(folder / "bands.bs")
    assert [k.tolist() for k, _ in bands[::2]] == [[0.11, 0.23, 0.0], [0.41, -0.17, 0.3]]
    assert len(bands[0][1]) == 8
    assert compare_bands(labels, folder / "bands.bs") < 1e-7  # printed with eight decimals
    assert labels.provenance["band_error"] < 1e-7
    assert labels.provenance["hermiticity"]["Hamiltonian"] < 1e-12


def test_s_is_that_of_the_basis_set(recorded, tmp_path):
    """Orbital order, signs, R and places of the atoms, all at once."""
    labels = recorded[1]
    (tmp_path / "BASIS").write_text(BASIS_SETS)
    orbitals = [read_gaussians(tmp_path / "BASIS", s, "SZV-MOLOPT-SR-GTH") for s in "BN"]
    vectors = find_bonds(labels.atoms, labels.edge_index, labels.edge_cell_shift).vectors
    table = tabulate_overlaps(orbitals, k_max=find_k_max(orbitals))
    expected = compute_overlap_blocks(table, labels.atoms.numbers, labels.edge_index, vectors)
    assert np.abs(expected - labels.overlap_blocks).max() < 1e-6  # where tails are cut


def test_atoms_given_in_other_cells_have_the_same_blocks(recorded):
    folder, labels = recorded
    atoms = hbn()
    moved = np.array([[1, -2, 0], [0, 3, 1]])
    atoms.positions += moved @ atoms.cell.array
    again = read_cp2k(folder, "hbn", atoms, place_atoms(atoms), basis())
    target, source = labels.edge_index[1], labels.edge_index[0]
    keys = np.column_stack(
        [labels.edge_index.T, labels.edge_cell_shift - moved[source] + moved[target]]
    )
    order = np.lexsort(keys.T)
    other = np.lexsort(np.column_stack([again.edge_index.T, again.edge_cell_shift]).T)
    np.testing.assert_array_equal(again.edge_cell_shift[other], keys[order][:, 2:])
    np.testing.assert_array_equal(again.hamiltonian_blocks[other], labels.hamiltonian_blocks[order])


@pytest.mark.parametrize(
    ("file", "pattern", "text", "error", "match"),
    [
        (
            "output.txt",
            r"SCF run converged in .*",
            "SCF run NOT converged ***",
            NotConvergedError,
            "did not converge.*last change 0.0",
        ),
        ("output.txt", "PROGRAM ENDED AT", "", DataError, "ends too early"),
        ("output.txt", "Points:", "Pints:", DataError, "sizes of grids"),
        ("output.txt", "Fermi energy:", "Fermi:", DataError, "Fermi energy"),
        ("output.txt", "ORBITAL BASIS in angstrom", "", DataError, "radii of orbitals"),
        ("output.txt", r" S CSR write\| +\d+", " S CSR write|  9999", DataError, "list of lattice"),
        ("output.txt", r" KS CSR write\|", " KS", DataError, "lattice vectors of KS"),
        ("forces.txt", r" +2 +2 +N ", " 3 2 N ", DataError, "forces of 2 atoms"),
        ("forces.txt", r"\[a.u.\]", "[eV]", DataError, "not in"),
        ("bands.bs", "Point", "Pint", DataError, "no bands"),
        ("bands.bs", r"-1\d\.\d+ ", "-15.0 ", DataError, "differ from CP2K's own"),
        ("label-s-S_SPIN_1_R_1-1_0.csr", r"\s+1 +1 ", "\n 999 1 ", DataError, "indices 1 to 999"),
        ("label-s-S_SPIN_1_R_1-1_0.csr", r"E[+-]", " E ", DataError, "a matrix of CP2K"),
        (
            "label-ks-KS_SPIN_1_R_1-1_0.csr",
            r"1 +5 +-?0\.\d",
            "1 5 0.9",
            DataError,
            "Hermitian|transposed",
        ),
    ],
)
def test_damage_is_told(copy, file, pattern, text, error, match):
    before = (copy / file).read_text()
    (copy / file).write_text(re.sub(pattern, text, before))
    assert (copy / file).read_text() != before
    with pytest.raises(error, match=match):
        read_cp2k(copy, "hbn", hbn(), place_atoms(hbn()), basis())


def test_a_matrix_that_is_missing_is_told(copy):
    (copy / "label-ks-KS_SPIN_1_R_2-1_0.csr").unlink()
    with pytest.raises(DataError, match=r"0 files of KS for R = .*number 2"):
        read_cp2k(copy, "hbn", hbn(), place_atoms(hbn()), basis())
    (copy / "output.txt").write_text(
        " ***\n *  ___   *\n * / \\   *\n * [ABORT] *\n *  \\___/   Cell too small  *\n ***\n"
    )
    with pytest.raises(DataError, match="an abort of CP2K: Cell too small"):
        read_output(copy / "output.txt")
    with pytest.raises(DataError, match="forces of 2 atoms"):
        read_forces(copy / "forces.txt", 3)
