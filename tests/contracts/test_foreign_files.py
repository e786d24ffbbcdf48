"""Files that other programs wrote, read and compared with the programs' own numbers."""

from __future__ import annotations

import gc
import sys
import warnings

import h5py
import numpy as np
import pytest
import scipy.linalg
from foreign_files import bloch_sum, foreign

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.abacus import read_abacus
from mlepi.structures.deeph import read_deeph, write_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import read_dftio
from mlepi.structures.hamgnn import read_hamgnn, unpickle_graphs
from mlepi.structures.kmesh import list_mesh
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.siesta import read_siesta
from mlepi.structures.sources import find_sources
from mlepi.units import BOHR, HARTREE


def levels(structure, kpoint, shift=0.0):
    """Generalised eigenvalues at one k-point, eV, with a number added to the diagonal of S."""
    H, S = (
        bloch_sum(structure, blocks, np.asarray(kpoint))
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    return scipy.linalg.eigvalsh(H, S + shift * np.eye(len(S)))


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


def test_silicon_of_siesta():
    """Levels at SIESTA's own k-points are its own to its convergence, forces and E_F as printed."""
    folder = foreign("siesta/Si")
    with pytest.warns(UnusualDataWarning, match="shells of one atom"):
        structure = read_siesta(folder / "Si.HSX")
    kpoints = np.loadtxt(folder / "Si.KP", skiprows=1)[:, 1:4] / BOHR
    fractional = kpoints @ structure.atoms.cell.array.T / (2 * np.pi)
    fermi, n_bands, _, n_kpoints, *rest = (folder / "Si.EIG").read_text().split()
    table = np.array(rest, dtype=float).reshape(int(n_kpoints), int(n_bands) + 1)[:, 1:]
    assert structure.fermi_energy == pytest.approx(float(fermi), abs=1e-6)
    for n in (0, 60, 161, 295):
        np.testing.assert_allclose(levels(structure, fractional[n]), table[n], atol=3e-4)
    np.testing.assert_allclose(structure.forces[1], 7.9038715e-06, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("SrTiO3/unpolarized/SrTiO3", 3e-4),  # eigenvalues of S down to 8e-6
        ("Si_pdos_k/Si_pdos", 1e-4),
        ("tbtrans/graphene/electrode/electrode", 1e-5),
        ("H_chain/h_chain_vibra", 1e-6),
        ("H2_hessian/H2_hessian", 1e-6),
    ],
)
def test_other_runs_of_siesta(name, tolerance):
    """Files of sisl's own tests, the last at Γ alone: all levels are those of .EIG."""
    path = foreign("sisl-files/siesta") / f"{name}.HSX"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualDataWarning)
        structure = read_siesta(path)
    kpoints = np.loadtxt(path.with_suffix(".KP"), skiprows=1, ndmin=2)[:, 1:4] / BOHR
    fractional = kpoints @ structure.atoms.cell.array.T / (2 * np.pi)
    _, n_bands, _, n_kpoints, *rest = path.with_suffix(".EIG").read_text().split()
    table = np.array(rest, dtype=float).reshape(int(n_kpoints), int(n_bands) + 1)[:, 1:]
    for n in {0, int(n_kpoints) // 2, int(n_kpoints) - 1}:
        np.testing.assert_allclose(levels(structure, fractional[n]), table[n], atol=tolerance)


def test_other_runs_of_siesta_at_gamma():
    for name in ("H2O_dipole/h2o_dipole", "MgCO3_md/md_nose", "charges/end/siesta"):
        with pytest.raises(DataError, match="matrices of Γ alone"):
            read_siesta(foreign("sisl-files/siesta") / f"{name}.HSX")


def test_silicon_of_siesta_4(tmp_path):
    """The same matrices in the formats of SIESTA 4 and 5; the first has no structure."""
    folder = foreign("sisl-files/siesta/ancient")
    (tmp_path / "Si.HSX").write_bytes((folder / "si_pdos_kgrid.0.HSX").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualDataWarning)
        expected = read_siesta(folder / "si_pdos_kgrid.1.HSX")
        atoms = expected.atoms
        rows = [*atoms.cell.array / BOHR, [2]]
        rows += [[1, 14, *x, 0, 0, 0] for x in atoms.positions / BOHR]
        text = "\n".join(" ".join(f"{v:.15g}" for v in row) for row in rows)
        (tmp_path / "Si.XV").write_text(text)
        found = read_siesta(tmp_path / "Si.HSX")
    for name, tolerance in (("hamiltonian_blocks", 1e-6), ("overlap_blocks", 1e-7)):
        expected_blocks = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), expected_blocks, atol=tolerance)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_transiesta_file_through_sisl(tmp_path):
    """The same H and S written by sisl itself as .TSHS, with the input and the basis beside it."""
    sisl = pytest.importorskip("sisl")
    folder = foreign("siesta/Si")
    with pytest.warns(UnusualDataWarning):
        structure = read_siesta(folder / "Si.HSX")
    orbitals = [
        sisl.AtomicOrbital(n=3, l=l, m=m, zeta=n + 1, R=4.0)
        for n, l in enumerate(structure.basis.shells[14])
        for m in range(-l, l + 1)
    ]
    cells = 2 * np.abs(structure.edge_cell_shift).max(axis=0) + 1
    lattice = sisl.Lattice(structure.atoms.cell.array, nsc=cells)
    atoms = [sisl.Atom(14, orbitals)] * 2
    matrix = sisl.Hamiltonian(
        sisl.Geometry(structure.atoms.positions, atoms, lattice=lattice), orthogonal=False
    )
    signs = structure.basis.signs(14, "siesta")
    blocks = zip(structure.hamiltonian_blocks, structure.overlap_blocks, strict=True)
    for (j, i), shift, pair in zip(
        structure.edge_index.T, structure.edge_cell_shift, blocks, strict=True
    ):
        first = lattice.sc_index(shift) * 26 + 13 * j
        for a, b in np.ndindex(13, 13):
            values = tuple(signs[a] * signs[b] * block[a, b] for block in pair)
            matrix[13 * i + a, first + b] = values
    matrix.write(tmp_path / "Si.TSHS")
    for name in ("Si.fdf", "Si.ion.xml"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.warns(UnusualDataWarning):
        copy = read_siesta(tmp_path / "Si.TSHS")
    gc.collect()  # sisl leaves the input open
    np.testing.assert_allclose(copy.hamiltonian_blocks, structure.hamiltonian_blocks, atol=1e-9)


def test_gold_of_transiesta():
    """Four atoms, 2s1p2d; elements and shells from .ORB_INDX: all levels are those of .bands."""
    pytest.importorskip("sisl")
    folder = foreign("siesta/Au")
    with pytest.warns(UnusualDataWarning, match="shells of one atom that overlap by up to 0.91"):
        structure = read_siesta(folder / "Au_cell.TSHS")
    assert structure.basis.shells == {79: (0, 0, 1, 2, 2)}
    fermi, _, _, sizes, *rest = (folder / "Au_cell.bands").read_text().splitlines()
    n_levels, _, n_kpoints = map(int, sizes.split())
    words = " ".join(rest).split()[: n_kpoints * (n_levels + 1)]
    table = np.array(words, dtype=float).reshape(n_kpoints, n_levels + 1)
    ends = {0.0: (0, 0, 0), 0.576483: (0.5, 0.5, 0), 0.864725: (0.25, 0.5, 0.25)}
    for distance, kpoint in ends.items():
        [row] = table[np.isclose(table[:, 0], distance, atol=1e-6), 1:]
        np.testing.assert_allclose(levels(structure, kpoint), row - float(fermi), atol=6e-4)


def test_transiesta_file_without_sisl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sisl", None)
    (tmp_path / "Si.TSHS").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no sisl; expected the package sisl\. pip install sisl"):
        read_siesta(tmp_path / "Si.TSHS")


E2G = {"mesh": [8, 8, 1], "shells": {"C": [0, 0, 1]}, "order": "pyscf"}


def test_graphene_on_a_mesh_of_k_points():
    """Blocks give the matrices of the mesh back; pairs at Γ split along the mode as published."""
    folder = foreign("graphene-E2g")
    splits = {}
    for frame in (0, 49):
        with pytest.warns(UnusualDataWarning, match="shells of one atom"):
            structure = read_kmesh(folder, frame, settings=E2G)
        fock = np.load(folder / f"E2g_fock_{frame}.npy") * HARTREE
        over = np.load(folder / f"E2g_over_{frame}.npy")
        for n in (0, 13, 42):
            expected = scipy.linalg.eigvalsh(fock[n], over[n])
            kpoint = list_mesh((8, 8, 1))[n]
            np.testing.assert_allclose(levels(structure, kpoint), expected, atol=1e-5)
        splits[frame] = np.diff(levels(structure, np.zeros(3))) / HARTREE
    assert np.sort(splits[0])[:3].max() < 1e-4
    for split in (0.21, 0.25):
        assert np.abs(splits[49] - split).min() < 0.011


def test_wrong_order_of_functions_in_genuine_matrices():
    with pytest.raises(DataError, match="s–p overlaps that deviate from the bond direction"):
        read_kmesh(foreign("graphene-E2g"), 10, settings={**E2G, "order": "e3nn"})
    with pytest.raises(DataError, match=r"expected \(64, 18, 18\)"):
        read_kmesh(foreign("graphene-E2g"), 10, settings={**E2G, "shells": {"C": [0, 0, 1, 1, 0]}})


GRAPHS = "hamgnn/GaAs"


def read_hamgnn_bands(path, n_bands):
    """Distances along HamGNN's path (n_points,), and levels above the valence edge, eV."""
    table = np.loadtxt(path).reshape(n_bands, -1, 2)
    return table[0, :, 0], table[:, :, 1].T


def test_gallium_arsenide_of_hamgnn(tmp_path):
    """The bands that HamGNN printed are those of its predicted blocks in the graph's order."""
    [path] = unpickle_graphs(foreign(GRAPHS) / "graph_data.npz", tmp_path / "graphs")
    with np.load(path) as file:
        arrays = dict(file)
    blocks = np.load(foreign(GRAPHS) / "prediction_hamiltonian.npy")
    np.savez(path, **{**arrays, "Hon": blocks[:2], "Hoff": blocks[2:]})
    with pytest.warns(UnusualDataWarning) as told:
        structure = read_hamgnn(path)
    [text] = [str(item.message) for item in told if "total energy" in str(item.message)]
    assert "got a total energy of 0; expected that of a self-consistent" in text
    assert structure.energy is None
    assert structure.provenance["unusual"]["no_total_energy"] == 0.0
    assert structure.basis.shells == {31: (0, 0, 0, 1, 1, 2, 2), 33: (0, 0, 0, 1, 1, 2, 2)}
    distances, bands = read_hamgnn_bands(foreign(GRAPHS) / "band_1.dat", 38)
    corner, middle = np.array([0.5, 0.25, 0.75]), np.array([0.5, 0.5, 0.5])
    lowest = levels(structure, corner, 1e-6)[0]
    for n in (0, 7, 13):  # W to L
        kpoint = corner + (middle - corner) * distances[n] / 0.065244
        found = levels(structure, kpoint, 1e-6)  # which HamGNN adds to S
        printed = bands[n] - bands[0, 0] + lowest
        printed = printed[np.abs(printed) > 5e-3]  # at 0: orbitals of an f shell without overlap
        assert len(printed) == 31
        np.testing.assert_allclose(found[:31], printed, atol=1e-3)


def test_graphs_of_hamgnn_must_be_unpickled():
    with pytest.raises(DataError, match="mlepi unpickle FILE FOLDER"):
        find_sources([foreign(GRAPHS) / "graph_data.npz"])


def test_silicon_of_deeptb():
    """64 atoms, 1s1p: levels are those of the sum over its blocks i_j_R as they are named."""
    folder = foreign("deeptb/Si64.0")
    structure = read_dftio(folder)
    assert structure.basis.shells == {14: (0, 1)}
    kpoint = np.array([0.21, -0.37, 0.1])
    pencil = []
    for name in ("hamiltonians.h5", "overlaps.h5"):
        dense = np.zeros((64, 4, 64, 4), dtype=complex)
        with h5py.File(folder / name) as file:
            for key, block in file["0"].items():
                i, j, *shift = map(int, key.split("_"))
                dense[i, :, j] += np.exp(2j * np.pi * kpoint @ shift) * block[()]
        dense = dense.reshape(256, 256)
        pencil.append((dense + dense.conj().T) / 2)
    np.testing.assert_allclose(levels(structure, kpoint), scipy.linalg.eigvalsh(*pencil), atol=1e-3)


def read_upper_triangle(path):
    """H(k) or S(k) as ABACUS prints it: the size, then (re,im) of the upper triangle."""
    size, *words = path.read_text().split()
    matrix = np.zeros((int(size),) * 2, dtype=complex)
    values = [complex(*map(float, word.strip("()").split(","))) for word in words]
    matrix[np.triu_indices(int(size))] = values
    return matrix + np.triu(matrix, 1).conj().T


def test_silicon_of_abacus():
    """H(R) and S(R) of ABACUS' example out_hs2_multik sum to H(k) and S(k) of out_hs_multik."""
    folder = foreign("abacus/Si")
    with pytest.warns(UnusualDataWarning, match="orbitals whose overlap with themselves"):
        structure = read_abacus(folder / "OUT.autotest")
    assert structure.basis.shells == {14: (0, 0, 1, 1, 2)}
    order = structure.basis.permutation(14, "abacus")
    order, signs = np.append(order, 13 + order), np.tile(structure.basis.signs(14, "abacus"), 2)
    pencil = []
    for name, blocks, unit, tolerance in (
        ("H", structure.hamiltonian_blocks, HARTREE / 2, 1e-4),
        ("S", structure.overlap_blocks, 1.0, 1e-5),
    ):
        printed = read_upper_triangle(folder / f"data-1-{name}.ref")[np.ix_(order, order)] * unit
        pencil.append(printed * np.outer(signs, signs))
        summed = bloch_sum(structure, blocks, np.array([0.5, 0.0, 0.0]))
        np.testing.assert_allclose(summed, pencil[-1], atol=tolerance)
    own, found = scipy.linalg.eigvalsh(*pencil), levels(structure, [0.5, 0.0, 0.0])
    np.testing.assert_allclose(found[own < 30.0], own[own < 30.0], atol=1e-3)
    np.testing.assert_allclose(found, own, rtol=1e-3)  # six digits of S, over its smallest 2e-3


def test_molybdenum_disulfide_of_abacus():
    """DZP with an f shell; the lattice is named, not given; levels are those of istate.info."""
    folder = foreign("abacus/MoS2")
    structure = read_abacus(folder / "OUT.ABACUS")
    assert structure.basis.shells == {16: (0, 0, 1, 1, 2), 42: (0, 0, 0, 0, 1, 1, 2, 2, 3)}
    assert structure.fermi_energy == pytest.approx(-2.3123356452)
    tables = (folder / "OUT.ABACUS" / "istate.info").read_text().split("BAND")[1:]
    for table, kpoint in zip(tables, ([0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]), strict=True):
        own = np.array([float(line.split()[1]) for line in table.splitlines()[1:] if line.strip()])
        np.testing.assert_allclose(levels(structure, kpoint)[: len(own)], own, atol=1e-3)
