"""What every reader of Hamiltonians promises, on DFT data and on known two-centre blocks."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from e3nn import o3
from foreign_files import bloch_sum
from foreign_writers import write_abacus, write_dftio, write_hsx, write_kmesh
from hamiltonian_samples import (
    openmx_out,
    real_sample,
    slater_koster_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.abacus import read_abacus
from mlepi.structures.deeph import read_deeph, write_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import read_dftio
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.labelled_structure import reverse_edges
from mlepi.structures.openmx import read_openmx
from mlepi.structures.siesta import read_siesta
from mlepi.structures.sources import find_sources, read_source
from mlepi.structures.validation import check_hamiltonian_labels

KPOINTS = np.array([[0.0, 0.0, 0.0], [0.13, 0.29, -0.41], [1 / 3, 1 / 3, 0.0]])


class HamiltonianReaderContract:
    """A subclass gives ``read(sample, folder)``.

    Write the sample as a foreign file and read it with the package.
    """

    @pytest.fixture(params=["real", "slater_koster"])
    def case(self, request, tmp_path):
        sample = real_sample() if request.param == "real" else slater_koster_sample()
        return sample, self.read(sample, tmp_path)

    def test_structure_comes_back(self, case):
        sample, structure = case
        order = self.atom_order(sample)
        np.testing.assert_array_equal(structure.atoms.numbers, sample.numbers[order])
        np.testing.assert_allclose(structure.atoms.positions, sample.positions[order], atol=1e-10)
        np.testing.assert_allclose(structure.atoms.cell.array, sample.cell, atol=1e-10)
        assert structure.atoms.pbc.all()
        assert structure.fermi_energy == pytest.approx(sample.fermi_energy, abs=1e-10)
        assert {z: list(ls) for z, ls in structure.basis.shells.items()} == sample.shells

    def test_both_directions_and_onsite_edges(self, case):
        sample, structure = case
        reverse = reverse_edges(structure.edge_index, structure.edge_cell_shift)
        onsite = (
            structure.edge_index[0] == structure.edge_index[1]
        ) & ~structure.edge_cell_shift.any(axis=1)
        assert structure.edge_index.shape == (2, len(sample.pairs))
        assert np.sort(structure.edge_index[1, onsite]).tolist() == list(range(len(sample.numbers)))
        np.testing.assert_array_equal(reverse[onsite], np.flatnonzero(onsite))

    def test_exactly_hermitian_and_valid(self, case):
        structure = case[1]
        reverse = reverse_edges(structure.edge_index, structure.edge_cell_shift)
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks):
            assert blocks.dtype == np.float64
            np.testing.assert_array_equal(blocks, blocks[reverse].transpose(0, 2, 1))
        check_hamiltonian_labels(structure)

    def test_range_of_pairs_matches_radii(self, case):
        structure = case[1]
        j, i = structure.edge_index
        vectors = (
            structure.atoms.positions[j]
            + structure.edge_cell_shift @ structure.atoms.cell.array
            - structure.atoms.positions[i]
        )
        reach = np.array([structure.basis.radii[int(z)] for z in structure.atoms.numbers])
        assert np.all(np.linalg.norm(vectors, axis=1) <= reach[i] + reach[j] + 1e-6)

    @pytest.mark.parametrize("kpoint", KPOINTS, ids=str)
    def test_bands_equal_those_in_foreign_order(self, case, kpoint):
        sample, structure = case
        H = bloch_sum(structure, structure.hamiltonian_blocks, kpoint)
        S = bloch_sum(structure, structure.overlap_blocks, kpoint)
        np.testing.assert_allclose(H, H.conj().T, atol=1e-12)
        assert scipy.linalg.eigvalsh(S)[0] > 1e-4
        np.testing.assert_allclose(
            scipy.linalg.eigvalsh(H, S), sample.eigenvalues(kpoint), atol=2e-7
        )

    def test_internal_order_is_that_of_e3nn(self, case):
        """Every s–l overlap is along e3nn's Y_l of the bond (argument y, z, x), for all shells."""
        sample, structure = case
        numbers = structure.atoms.numbers
        checked = 0
        for (j, i), shift, block in zip(
            structure.edge_index.T, structure.edge_cell_shift, structure.overlap_blocks, strict=True
        ):
            vector = (
                structure.atoms.positions[j] + shift @ sample.cell - structure.atoms.positions[i]
            )
            if not 0.1 < np.linalg.norm(vector) < 3.0:
                continue
            basis, zi, zj = structure.basis, int(numbers[i]), int(numbers[j])
            for l, columns in zip(basis.shells[zj], basis.slices(zj), strict=True):
                harmonics = o3.spherical_harmonics(
                    l, torch.tensor(vector[[1, 2, 0]]), True, "norm"
                ).numpy()
                values = block[basis.slices(zi)[0].start, columns]
                np.testing.assert_allclose(values, (values @ harmonics) * harmonics, atol=1e-4)
                checked += l > 0 and np.abs(values).max() > 1e-2
        assert checked > 5

    def test_p_block_is_slater_koster_in_y_z_x(self, tmp_path):
        """⟨p|H|p⟩ = V_ppπ 1 + (V_ppσ − V_ppπ) d dᵀ, d = (y, z, x), amplitudes of the sample."""
        sample = slater_koster_sample()
        structure = self.read(sample, tmp_path)
        basis, numbers = structure.basis, structure.atoms.numbers
        checked = 0
        for (j, i), shift, block in zip(
            structure.edge_index.T,
            structure.edge_cell_shift,
            structure.hamiltonian_blocks,
            strict=True,
        ):
            vector = (
                structure.atoms.positions[j] + shift @ sample.cell - structure.atoms.positions[i]
            )
            r = np.linalg.norm(vector)
            if r < 0.1:
                continue
            zi, zj = int(numbers[i]), int(numbers[j])
            d = vector[[1, 2, 0]] / r
            envelope = -1.3 * (1 - (r / (sample.radii[zi] + sample.radii[zj])) ** 2) ** 2
            for a, b in (
                (a, b)
                for a, la in enumerate(basis.shells[zi])
                for b, lb in enumerate(basis.shells[zj])
                if la == lb == 1
            ):
                sigma = -envelope * (1 + 0.3 * a) * (1 + 0.3 * b)
                expected = -0.4 * sigma * np.eye(3) + 1.4 * sigma * np.outer(d, d)
                np.testing.assert_allclose(
                    block[basis.slices(zi)[a], basis.slices(zj)[b]], expected, atol=1e-9
                )
                checked += 1
        assert checked > 50


def grouped(sample):
    """Atom order of POSCAR: elements by first appearance."""
    return np.argsort(
        [list(dict.fromkeys(sample.numbers.tolist())).index(z) for z in sample.numbers.tolist()],
        kind="stable",
    )


class TestOpenMX(HamiltonianReaderContract):
    def atom_order(self, sample):
        return np.arange(len(sample.numbers))

    def read(self, sample, folder):
        out = folder / "sample.out"
        out.write_text(openmx_out(sample))
        return read_openmx(write_scfout(folder / "sample.scfout", sample), out)

    def test_energy_forces_and_radii(self, case):
        sample, structure = case
        assert structure.energy == pytest.approx(sample.energy, abs=1e-9)
        np.testing.assert_allclose(structure.forces, sample.forces, atol=1e-9)
        assert structure.basis.radii == pytest.approx(sample.radii)
        assert structure.basis.names == sample.pao


class TestDeepHLegacy(HamiltonianReaderContract):
    def atom_order(self, sample):
        return np.arange(len(sample.numbers))

    def read(self, sample, folder):
        return read_deeph_legacy(write_legacy_folder(folder / "processed", sample))


class TestDeepH(HamiltonianReaderContract):
    def atom_order(self, sample):
        return grouped(sample)

    def read(self, sample, folder):
        return read_deeph(write_new_folder(folder / "dft", sample))


class TestDeepHWrittenHere(HamiltonianReaderContract):
    """OpenMX → write_deeph → read_deeph."""

    def atom_order(self, sample):
        return grouped(sample)

    def read(self, sample, folder):
        write_deeph(folder / "new", read_openmx(write_scfout(folder / "sample.scfout", sample)))
        return read_deeph(folder / "new")


def by_element(sample):
    """The sample with its atoms grouped by element, as ABACUS's STRU wants them."""
    order = grouped(sample)
    rank = np.argsort(order)
    pairs = sample.pairs.copy()
    pairs[:, 3:] = rank[pairs[:, 3:]]
    return dataclasses.replace(
        sample,
        numbers=sample.numbers[order],
        positions=sample.positions[order],
        forces=sample.forces[order],
        pairs=pairs,
    )


class TestAbacusOlder(HamiltonianReaderContract):
    layout = "older"

    def atom_order(self, sample):
        return grouped(sample)

    def read(self, sample, folder):
        return read_abacus(write_abacus(folder / "run", by_element(sample), self.layout))

    def test_energy_forces_and_radii(self, case):
        sample, structure = case
        assert structure.energy == pytest.approx(sample.energy, abs=1e-9)
        np.testing.assert_allclose(structure.forces, sample.forces[grouped(sample)], atol=1e-9)
        assert structure.basis.radii == pytest.approx(sample.radii)


class TestAbacusNewer(TestAbacusOlder):
    layout = "newer"


class TestSiesta(HamiltonianReaderContract):
    def atom_order(self, sample):
        return np.arange(len(sample.numbers))

    def read(self, sample, folder):
        return read_siesta(write_hsx(folder / "a.HSX", sample))

    def test_forces(self, case):
        sample, structure = case
        np.testing.assert_allclose(structure.forces, sample.forces, atol=1e-12)


class TestSiestaFirstFormat(HamiltonianReaderContract):
    def atom_order(self, sample):
        return np.arange(len(sample.numbers))

    def read(self, sample, folder):
        return read_siesta(write_hsx(folder / "a.HSX", sample, version=1))


class WithoutFermiEnergy(HamiltonianReaderContract):
    def atom_order(self, sample):
        return np.arange(len(sample.numbers))

    def test_structure_comes_back(self, case):
        sample, structure = case
        assert structure.fermi_energy is None
        known = dataclasses.replace(structure, fermi_energy=sample.fermi_energy)
        super().test_structure_comes_back((sample, known))


class TestDftio(WithoutFermiEnergy):
    def read(self, sample, folder):
        return read_dftio(write_dftio(folder / "C.0", sample))


class TestKMesh(WithoutFermiEnergy):
    """A mesh as wide as the range of the orbitals gives every block back."""

    def read(self, sample, folder):
        mesh = (11, 11, 1) if sample.name == "slide" else (7, 7, 7)
        return read_kmesh(write_kmesh(folder / "mesh", sample, mesh), 0)


def test_lattice_of_abacus_from_its_log(tmp_path):
    """An input that names its Bravais lattice has no vectors in STRU: the log prints them."""
    out = write_abacus(tmp_path / "run", by_element(slater_koster_sample()))
    expected = read_abacus(out).atoms.cell.array
    stru, log = out.parent / "STRU", out / "running_scf.log"
    before, rest = stru.read_text().split("LATTICE_VECTORS")
    rows, after = rest.split("ATOMIC_POSITIONS")
    stru.write_text(f"{before}LATTICE_PARAMETERS\n1.2 0.3\n\nATOMIC_POSITIONS{after}")
    vectors = "\n".join("  ".join(f"{float(w):+.10f}" for w in row.split()[:3])
                        for row in rows.strip().splitlines())  # fmt: skip
    title = " Lattice vectors: (Cartesian coordinate: in unit of a_0)\n"
    log.write_text(f"{title}{vectors}\n Reciprocal vectors:\n{log.read_text()}")
    np.testing.assert_allclose(read_abacus(out).atoms.cell.array, expected, atol=1e-8)


def test_a_mesh_too_coarse_for_its_orbitals_is_told(tmp_path):
    """Orbitals of carbon reach 6.35 Å, half of a 4×4 supercell 4.9 Å: by how much, what to do."""
    write_kmesh(tmp_path / "a", real_sample(), (4, 4, 1))
    with pytest.warns(UnusualDataWarning) as told:
        structure = read_kmesh(tmp_path / "a", 0)
    assert 1e-3 < structure.provenance["unusual"]["coarse_mesh"] < 0.1
    texts = [str(warning.message) for warning in told]
    [text] = [text for text in texts if "at the border of the k-mesh" in text]
    assert text.endswith("Take a denser mesh.")


@pytest.mark.parametrize(
    ("fock", "label"),
    [("fock.npy", "mesh_0"), ("fock_0_441.npy", "mesh_0"), ("E2g_fock_0.npy", "E2g_0")],
)
def test_names_of_matrices_on_a_mesh(tmp_path, fock, label):
    """A single frame needs no number, and a number may stand behind that of the frame."""
    folder = write_kmesh(tmp_path / "mesh", real_sample(), (4, 4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualDataWarning)
        expected = read_kmesh(folder, 0)
        (folder / "a_fock_0.npy").rename(folder / fock)
        (folder / "a_over_0.npy").rename(folder / fock.replace("fock", "over"))
        [source] = find_sources([folder])
        [found] = read_source(source)
        assert read_kmesh(folder, 0).name == label
    np.testing.assert_array_equal(found.hamiltonian_blocks, expected.hamiltonian_blocks)
    (folder / fock).rename(folder / "realfock_0.npy")
    with pytest.raises(DataError, match=r"no structure in it or below it|no labels"):
        read_source(find_sources([folder])[0])
