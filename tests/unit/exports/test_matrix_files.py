"""H and S leave as files of SciPy, DeepH, sisl and Wannier90 and have the same levels there."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from export_samples import KPOINTS, graphene_labels, levels, sound_labels
from foreign_files import bloch_sum

from mlepi.errors import DataError
from mlepi.exports import (
    build_sisl,
    collect_labels,
    find_fermi_energy,
    write_csr,
    write_deeph_folder,
    write_sisl,
    write_wannier90,
)
from mlepi.exports.csr import build_csr, list_cells
from mlepi.graphs.block_matrix import block_matrices
from mlepi.structures import read_deeph
from mlepi.structures.siesta import read_siesta


@pytest.fixture(scope="module")
def labels():
    return sound_labels()


def solve_scipy(folder, kpoint):
    """Levels from the files alone, as docs/exports.md tells it."""
    H, S = (scipy.sparse.load_npz(folder / f"{name}.npz") for name in ("hamiltonian", "overlap"))
    cells = np.array(json.loads((folder / "orbitals.json").read_text())["cells"])
    n = H.shape[0]
    phases = np.exp(2j * np.pi * cells @ kpoint)
    sums = [
        sum(p * M[:, c * n : (c + 1) * n].toarray() for c, p in enumerate(phases)) for M in (H, S)
    ]
    return scipy.linalg.eigvalsh(*sums)


def test_scipy_files_have_the_levels(labels, tmp_path):
    write_csr(tmp_path / "csr", labels)
    for kpoint in KPOINTS:
        found = solve_scipy(tmp_path / "csr", kpoint)
        np.testing.assert_allclose(found, levels(labels, kpoint), rtol=0, atol=1e-11)
    told = json.loads((tmp_path / "csr" / "orbitals.json").read_text())
    assert told["fermi_energy"] == -1.25
    assert [(o["atom"], o["l"], o["m"]) for o in told["orbitals"]][:3] == [
        (0, 0, 0),
        (1, 0, 0),
        (1, 1, -1),
    ]
    with pytest.raises(DataError, match=r"csr: got an existing path; expected a new file or fol"):
        write_csr(tmp_path / "csr", labels)
    assert [path.name for path in tmp_path.iterdir()] == ["csr"]


def test_rounding_is_removed_and_more_is_refused(labels):
    matrices = block_matrices(labels)
    rounded = replace(matrices[0], blocks=matrices[0].blocks.copy())
    rounded.blocks[0, 0, 0] += 2e-16
    exact = collect_labels("x", labels.atoms, rounded, matrices[1])
    H, _ = build_csr(exact, list_cells(exact))
    n = H.shape[0]
    own = H[:, :n].toarray()
    np.testing.assert_array_equal(own, own.T)
    rounded.blocks[-1, 0, 0] += 1.0
    with pytest.raises(DataError, match=r"x: got Hamiltonian blocks that differ from their trans"):
        collect_labels("x", labels.atoms, rounded, matrices[1])


def test_deeph_folder_is_renewed_beside_files_of_the_user(tmp_path):
    labels = graphene_labels()
    folder = tmp_path / "deeph"
    folder.mkdir()
    write_deeph_folder(folder, labels, renew=True)
    (folder / "notes.txt").write_text("mine")
    changed = replace(labels, hamiltonian_blocks=2 * labels.hamiltonian_blocks)
    write_deeph_folder(folder, changed, renew=True)
    assert (folder / "notes.txt").read_text() == "mine"
    found = read_deeph(folder)
    assert found.fermi_energy == -1.25
    kpoint = KPOINTS[1]
    H, S = (bloch_sum(found, b, kpoint) for b in (found.hamiltonian_blocks, found.overlap_blocks))
    np.testing.assert_allclose(
        scipy.linalg.eigvalsh(H, S), levels(changed, kpoint), rtol=0, atol=1e-10
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deeph"]


def test_deeph_dock_finds_the_levels(labels, tmp_path):
    """Two elements, ungrouped: read by DeepH-dock, which sorts nothing."""
    dock = pytest.importorskip("deepx_dock.compute.eigen.matrix_obj")
    labels = replace(labels, basis=replace(labels.basis, radii={5: 1.5, 7: 1.6}))
    write_deeph_folder(tmp_path / "deeph", labels)
    pair = [
        dock.AOMatrixObj(tmp_path / "deeph", matrix_type=kind)
        for kind in ("hamiltonian", "overlap")
    ]
    assert pair[0].fermi_energy == -1.25
    H, S = (dock.AOMatrixR(each.Rijk_list, each.mats).r2k(KPOINTS) for each in pair)
    for kpoint, h, s in zip(KPOINTS, H, S, strict=True):
        found = scipy.linalg.eigvalsh(h, s)
        np.testing.assert_allclose(found, levels(labels, kpoint), rtol=0, atol=1e-6)


@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"info.json": "{}", "POSCAR": "x"}])
def test_deeph_folder_of_others_is_left_alone(labels, tmp_path, content):
    folder = tmp_path / "deeph"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(DataError, match="a path that mlepi has not written"):
        write_deeph_folder(folder, labels, renew=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def test_fermi_energy_holds_the_electrons(labels):
    """A gap holds it wherever the bands below and above do not overlap."""
    energy = find_fermi_energy(labels, {5: 1, 7: 3})
    points = np.random.default_rng(0).random((40, 3))
    filled = np.mean([np.sum(levels(labels, k) < energy) for k in points])
    assert 2 * filled == pytest.approx(8, abs=0.6)


def test_wannier_files_say_their_error(labels, tmp_path):
    """Read by the rules of the format alone; on the mesh levels are exact to its ten decimals."""
    found = write_wannier90(tmp_path / "w", labels, mesh=(4, 4, 4), window=(-2.0, 2.0))
    lines = (tmp_path / "w_hr.dat").read_text().splitlines()
    assert found.describe() in lines[0]
    assert "E_F = -1.250000 eV; 4x4x4 k-points" in lines[0]
    assert "levels -2 to 2 eV from E_F" in lines[0]
    n, n_cells = int(lines[1]), int(lines[2])
    rows = -(-n_cells // 15)
    weights = 1 / np.array([int(x) for line in lines[3 : 3 + rows] for x in line.split()])
    assert weights.sum() == pytest.approx(64)
    table = np.array([line.split() for line in lines[3 + rows :]], dtype=float)
    assert table.shape == (n_cells * n * n, 7)
    blocks = table[:, 5].reshape(n_cells, n, n).swapaxes(1, 2)
    assert table[1, 3:5].tolist() == [2, 1]
    cells = table[:: n * n, :3]
    for kpoint in ([0.25, 0.5, 0.75], [0.0, 0.0, 0.25]):
        phases = weights * np.exp(2j * np.pi * cells @ kpoint)
        H = np.tensordot(phases, blocks, axes=1)
        np.testing.assert_allclose(np.linalg.eigvalsh(H), levels(labels, kpoint), rtol=0, atol=1e-8)
    finer = write_wannier90(tmp_path / "f", labels, window=(-2.0, 2.0))
    assert finer.error <= 1e-4 < found.error


def test_sisl_is_asked_for_by_name(labels, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"got the ending '.h5'; expected one of \['.nc', '.TSHS'"):
        write_sisl(tmp_path / "x.h5", labels)
    monkeypatch.setitem(sys.modules, "sisl", None)
    with pytest.raises(DataError, match=r"no sisl; expected the package sisl. pip install 'mlepi"):
        write_sisl(tmp_path / "x.nc", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".nc", ".TSHS"])
def test_sisl_finds_the_levels(labels, tmp_path, suffix):
    """Written by sisl, read by sisl, solved by sisl; energies count from the Fermi energy."""
    sisl = pytest.importorskip("sisl")
    matrix = build_sisl(labels)
    if suffix:
        write_sisl(tmp_path / f"x{suffix}", labels)
        matrix = sisl.get_sile(tmp_path / f"x{suffix}").read_hamiltonian()
    for kpoint in KPOINTS:
        expected = levels(labels, kpoint) + 1.25
        np.testing.assert_allclose(matrix.eigh(k=kpoint), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(matrix.xyz, labels.atoms.positions, atol=1e-6)


def test_sisl_orbitals_are_those_of_siesta(tmp_path):
    """The order and signs of .HSX, as ``read_siesta`` takes them from SIESTA's own files."""
    pytest.importorskip("sisl")
    labels = graphene_labels()
    write_sisl(tmp_path / "x.HSX", labels)
    found = read_siesta(tmp_path / "x.HSX")
    kpoint = KPOINTS[1]
    for name in ("hamiltonian_blocks", "overlap_blocks"):
        expected = bloch_sum(labels, getattr(labels, name), kpoint)
        if name == "hamiltonian_blocks":
            expected = expected + 1.25 * bloch_sum(labels, labels.overlap_blocks, kpoint)
        np.testing.assert_allclose(
            bloch_sum(found, getattr(found, name), kpoint), expected, rtol=0, atol=1e-6
        )


def test_sisl_reads_the_wannier_files(labels, tmp_path):
    sisl = pytest.importorskip("sisl")
    found = write_wannier90(tmp_path / "w", labels, window=(-2.0, 2.0))
    matrix = sisl.get_sile(tmp_path / "w.win").read_hamiltonian(cutoff=0.0)
    for kpoint in KPOINTS:
        expected = levels(labels, kpoint)
        inside = np.abs(expected + 1.25) <= 2.0
        np.testing.assert_allclose(
            matrix.eigh(k=kpoint)[inside], expected[inside], rtol=0, atol=3 * found.error
        )
