"""The shipped bilayer-graphene data are intact, consistent, and what their card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from shipped_data import SPLITS, shipped_labels

from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.structures import (
    HamiltonianDataset,
    assign_layers,
    build_graphene,
    read_forces_dataset,
    read_split,
)
from mlepi.structures.splits import read_named_subsets
from mlepi.structures.validation import check_hamiltonian_labels, check_two_centre_overlap
from mlepi.units import BOHR

FOLDER = Path(__file__).parents[3] / "data" / "blg_openmx"


@pytest.fixture(scope="module")
def dataset():
    return HamiltonianDataset(FOLDER / "hamiltonians.h5")


@pytest.fixture(scope="module")
def without_matrices(dataset):
    """All structures, read once: what else they say than H, which is most of them."""
    names = ("name", "atoms", "energy", "fermi_energy", "forces", "provenance")
    return [SimpleNamespace(**{name: getattr(one, name) for name in names}) for one in dataset]


def test_checksums_size_and_basis(dataset, without_matrices):
    dataset.verify()
    assert (FOLDER / "hamiltonians.h5").stat().st_size < 60e6
    assert dataset.basis.shells == {6: (0, 0, 1, 1)}
    assert dataset.basis.radii[6] == pytest.approx(6.0 * BOHR)
    kinds = [structure.provenance["kind"] for structure in without_matrices]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dataset.provenance["counts"]
    assert list(dataset.names) == sorted(dataset.names)


def test_card_tells_the_number_of_structures(dataset):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{len(dataset)} structures" in card
    for kind, count in dataset.provenance["counts"].items():
        assert f"| `{kind}` | {count} |" in card


def test_every_structure_is_valid(dataset):
    for structure in dataset:
        check_hamiltonian_labels(structure)
        assert np.array_equal(assign_layers(structure.atoms), structure.atoms.arrays["layer"])
        assert structure.overlap_blocks is None
    check_two_centre_overlap(shipped_labels(dataset.names[0])[0])


def test_forces_file_holds_the_same_structures(dataset, without_matrices):
    forces = read_forces_dataset(FOLDER / "forces.extxyz")
    assert [structure.name for structure in forces] == list(dataset.names)
    for text, binary in zip(forces, without_matrices, strict=True):
        assert text.energy == binary.energy
        assert text.fermi_energy == binary.fermi_energy
        assert text.provenance["energy_d2"] == binary.provenance["energy_d2"]
        assert np.abs(text.forces - binary.forces).max() <= 0.5e-8 * (1 + 1e-6)
        assert np.abs(text.atoms.positions - binary.atoms.positions).max() <= 0.5e-8 * (1 + 1e-6)
        assert np.array_equal(text.atoms.arrays["layer"], binary.atoms.arrays["layer"])


@pytest.mark.parametrize("name", SPLITS)
def test_splits_fit_the_data(dataset, without_matrices, name):
    path = FOLDER / "splits" / f"{name}.json"
    split = read_split(path, dataset.names)
    assert list(split) == ["train", "val", "test"]
    counts = np.array([len(members) for members in split.values()])
    assert np.abs(counts - np.array(SPLITS[name]) * counts.sum()).max() < 2.0
    kinds = {structure.name: structure.provenance["kind"] for structure in without_matrices}
    divided = {kinds[member] for members in split.values() for member in members}
    first = {"random3", "slide"}
    assert divided == (first if name.startswith(("ham", "for")) else first | {"thermal3", "shape"})


def test_first_splits_are_those_of_the_first_version():
    """Their digests, so that what was trained on 45 structures can be trained again."""
    digests = {}
    for name in ("hamiltonian_622", "forces_81_09_10"):
        content = json.loads((FOLDER / "splits" / f"{name}.json").read_text(encoding="utf-8"))
        text = json.dumps(content["split"], sort_keys=True)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digests == {
        "hamiltonian_622": "5ae94f32c93ae8c8",
        "forces_81_09_10": "9cec712b926ee4c7",
    }


def test_larger_cells_are_test_subsets_of_their_own(dataset):
    """No split trains on one of them."""
    named = read_named_subsets(FOLDER / "splits" / "shapes_622.json")
    apart = {"thermal4", "twist21", "twist13", "pair3", "sample6", "trilayer2"}
    assert apart | {"thermal3", "shape"} == set(named.test)
    assert set(named.val) == {"thermal3", "shape"}
    for name in SPLITS:
        split = read_split(FOLDER / "splits" / f"{name}.json", dataset.names)
        trained = set(split["train"]) | set(split["val"])
        assert not any(trained & set(named.test[kind]) for kind in apart)


def test_the_comparison_without_shapes_differs_in_nothing_else(dataset):
    with_shapes, without = (
        read_split(FOLDER / "splits" / f"{name}.json", dataset.names)
        for name in ("shapes_622", "no_shapes_622")
    )
    assert (without["val"], without["test"]) == (with_shapes["val"], with_shapes["test"])
    left = [member for member in with_shapes["train"] if not member.startswith("shape")]
    assert without["train"] == left


def test_ab_bilayer_has_its_dirac_point_at_the_fermi_energy():
    """At K the two middle bands touch (they are degenerate by symmetry) close to the Fermi energy.

    The outer two split by 2γ₁.
    """
    (structure,) = shipped_labels("slide_+0.000_+0.000_3.25")
    assert np.allclose(
        structure.atoms.positions, build_graphene("AB", spacing=3.25).positions, atol=1e-9
    )
    offsets = structure.basis.offsets(structure.atoms.numbers)
    h, s = (
        bloch_sum(
            blocks,
            structure.edge_index,
            structure.edge_cell_shift,
            offsets,
            np.array([[1 / 3, 2 / 3, 0.0]]),
        )[0]
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    eigenvalues = scipy.linalg.eigh(h, s, eigvals_only=True) - structure.fermi_energy
    lower, valence, conduction, upper = eigenvalues[6:10]
    assert abs(conduction - valence) < 1e-3
    assert abs(valence) < 0.05
    assert 0.5 < upper - lower < 1.2  # 2γ₁ ≈ 0.8 eV at 3.35 Å, more at 3.25 Å


def test_overlap_of_36_atoms_is_as_ill_conditioned_as_the_card_says():
    (structure,) = shipped_labels("random3_0000")
    offsets = structure.basis.offsets(structure.atoms.numbers)
    s = bloch_sum(
        structure.overlap_blocks,
        structure.edge_index,
        structure.edge_cell_shift,
        offsets,
        np.zeros((1, 3)),
    )[0]
    assert scipy.linalg.eigvalsh(s)[0] == pytest.approx(9e-4, rel=0.3)
