"""The shipped data of boron nitride and MoS2 are intact, consistent, and what their cards say."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.overlaps import read_overlap_table, tabulate_files
from mlepi.structures import (
    HamiltonianDataset,
    OrbitalBasis,
    assign_layers,
    read_forces_dataset,
    read_split,
)
from mlepi.structures.labelled_structure import reverse_edges
from mlepi.structures.openmx_labels import read_label_file
from mlepi.structures.openmx_sets import OpenmxSet, alternate
from mlepi.structures.splits import read_named_subsets
from mlepi.structures.validation import check_hamiltonian_labels, check_two_centre_overlap
from mlepi.units import BOHR

DATA = Path(__file__).parents[3] / "data"
SHARED = Path(__file__).parents[4] / "shared" / "data"
GAMMA, K = (0.0, 0.0, 0.0), (1 / 3, 2 / 3, 0.0)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a card says of a set."""

    folder: str
    table: str
    labels: str
    size: float  # bytes
    shells: dict[int, tuple[int, ...]]
    radii: dict[int, float]  # Bohr
    counts: dict[str, int]
    ideal: tuple[str, ...]
    chosen: tuple[str, ...]  # structures that are looked at
    splits: dict[str, list[float]]


HBN = Facts(
    folder="hbn_openmx",
    table="overlap_B7.0-s2p2_N6.0-s2p2.h5",
    labels="openmx-hbn",
    size=4.5e6,
    shells={5: (0, 0, 1, 1), 7: (0, 0, 1, 1)},
    radii={5: 7.0, 7: 6.0},
    counts={"hbn1": 1, "hbn3": 21},
    ideal=("hbn1_ideal",),
    chosen=("hbn1_ideal", "hbn3_000", "hbn3_025"),
    splits={
        "hamiltonian_622": [0.6, 0.2, 0.2],
        "forces_81_09_10": [0.81, 0.09, 0.10],
        "hamiltonian_81_09_10": [0.81, 0.09, 0.10],
    },
)
MOS2 = Facts(
    folder="mos2_openmx",
    table="overlap_Mo7.0-s3p2d2_S7.0-s2p2d1.h5",
    labels="openmx-mos2",
    size=4.2e6,
    shells={16: (0, 0, 1, 1, 2), 42: (0, 0, 0, 1, 1, 2, 2)},
    radii={16: 7.0, 42: 7.0},
    counts={"mos2b1": 1, "mos2b2": 9, "mos2m1": 1, "mos2m3": 3},
    ideal=("mos2b1_ideal", "mos2m1_ideal"),
    chosen=("mos2b1_ideal", "mos2b2_000", "mos2m3_002"),
    splits={"displaced_9_1_2": [0.75, 0.08, 0.17]},
)


@pytest.fixture(scope="module", params=[HBN, MOS2], ids=lambda facts: facts.folder)
def facts(request):
    return request.param


@pytest.fixture(scope="module")
def dataset(facts):
    return HamiltonianDataset(DATA / facts.folder / "hamiltonians.h5")


@pytest.fixture(scope="module")
def table(facts):
    return read_overlap_table(DATA / facts.folder / facts.table)


def test_checksums_size_and_basis(facts, dataset):
    dataset.verify()
    files = (DATA / facts.folder).rglob("*.*")
    assert sum(path.stat().st_size for path in files) < facts.size
    assert not list((DATA / facts.folder).rglob("*.pao"))  # of OpenMX, under the GPL
    assert dataset.quantum == 2.0**-15
    assert dataset.basis.shells == facts.shells
    assert dataset.basis.radii == pytest.approx({z: r * BOHR for z, r in facts.radii.items()})
    assert dataset.provenance["counts"] == facts.counts


def test_card_tells_the_number_of_structures(facts, dataset):
    card = (DATA / facts.folder / "README.md").read_text(encoding="utf-8")
    assert f"{len(dataset)} structures" in card
    for kind, count in dataset.provenance["counts"].items():
        assert f"| `{kind}` | {count} |" in card


def test_structures_are_valid_and_files_agree(facts, dataset, table):
    forces = {one.name: one for one in read_forces_dataset(DATA / facts.folder / "forces.extxyz")}
    assert list(forces) == list(dataset.names)
    for name in facts.chosen:
        structure = complete_overlaps(dataset[name], table)
        check_hamiltonian_labels(dataset[name])
        check_two_centre_overlap(structure)
        reverse = reverse_edges(structure.edge_index, structure.edge_cell_shift)
        turned = structure.overlap_blocks[reverse].transpose(0, 2, 1)
        assert np.abs(turned - structure.overlap_blocks).max() < 1e-12
        assert np.array_equal(assign_layers(structure.atoms), structure.atoms.arrays["layer"])
        assert forces[name].energy == structure.energy
        assert np.abs(forces[name].forces - structure.forces).max() <= 0.5e-8 * (1 + 1e-6)


def test_splits_fit_the_data(facts, dataset):
    n_displaced = len(dataset) - len(facts.ideal)
    for name, fractions in facts.splits.items():
        path = DATA / facts.folder / "splits" / f"{name}.json"
        split = read_split(path, dataset.names)
        counts = np.array([len(members) for members in split.values()])
        assert np.abs(counts - np.array(fractions) * n_displaced).max() < 1.0
        assert read_named_subsets(path).test == {"ideal": list(facts.ideal)}


def test_the_first_structures_of_a_training_subset_have_both_numbers_of_layers():
    split = json.loads((DATA / "mos2_openmx/splits/displaced_9_1_2.json").read_text())["split"]
    assert [[name[:6] for name in split["train"][:n]].count("mos2m3") for n in (4, 9)] == [1, 2]
    assert [name[:6] for name in split["test"]] == ["mos2b2", "mos2m3"]
    kinds = dict(zip("abcdef", "xxxxyy", strict=True))
    assert alternate("abcdef", kinds) == ["a", "e", "b", "c", "f", "d"]


def levels(folder, name, kpoint):
    """Return the levels of an undisplaced cell less its Fermi energy, eV."""
    dataset = HamiltonianDataset(DATA / folder.folder / "hamiltonians.h5")
    table = read_overlap_table(DATA / folder.folder / folder.table)
    structure = complete_overlaps(dataset[name], table)
    offsets = dataset.basis.offsets(structure.atoms.numbers)
    index, shift = structure.edge_index, structure.edge_cell_shift
    h, s = (
        bloch_sum(blocks, index, shift, offsets, np.array([kpoint]))[0]
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    return scipy.linalg.eigvalsh(h, s) - structure.fermi_energy


def test_boron_nitride_is_an_insulator():
    """16 electrons fill eight bands; PBE's gap is 4 to 5 eV, and smallest around K."""
    at_k, at_gamma = (levels(HBN, "hbn1_ideal", k) for k in (K, GAMMA))
    assert at_k[7] < 0.0 < at_k[8]
    assert at_k[8] - at_k[7] == pytest.approx(4.64, abs=0.01)  # as the card says
    assert at_gamma[7] < at_k[7] < at_k[8] < at_gamma[8]


@pytest.mark.parametrize(
    ("name", "n_bands", "at_k", "indirect"),
    [("mos2m1_ideal", 13, 1.770, 1.809), ("mos2b1_ideal", 26, 1.739, 1.302)],
)
def test_one_layer_has_a_direct_gap_and_two_an_indirect_one(name, n_bands, at_k, indirect):
    """13 pairs of electrons per MoS2; numbers of the card, Γ–K in the second place."""
    k, gamma = (levels(MOS2, name, point) for point in (K, GAMMA))
    assert k[n_bands - 1] < 0.0 < k[n_bands]
    assert k[n_bands] - k[n_bands - 1] == pytest.approx(at_k, abs=1e-3)
    assert k[n_bands] - gamma[n_bands - 1] == pytest.approx(indirect, abs=1e-3)


def test_overlaps_of_the_table_are_those_of_the_calculation(facts, dataset, table):
    name = facts.chosen[1]
    path = SHARED / facts.labels / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the labels are not part of the project")
    labels = read_label_file(path, dataset.basis)
    found = complete_overlaps(dataset[name], table)
    row = find_pairs(*(list_pairs(s.edge_index, s.edge_cell_shift) for s in (found, labels)))
    assert len(row) == len(found.overlap_blocks)
    assert np.abs(found.overlap_blocks[row] - labels.overlap_blocks).max() < 5e-5
    difference = found.hamiltonian_blocks[row] - labels.hamiltonian_blocks
    assert np.abs(difference).max() <= 2.0**-16


def test_the_table_of_sulphur_is_made_of_its_orbitals(tmp_path):
    path = SHARED / "pao" / "S7.0.pao"
    if not path.is_file():
        pytest.skip("needs OpenMX's S7.0.pao, which is not shipped")
    made = tabulate_files([path], ["s2p2d1"], tmp_path / "table.h5", "here.py", n_grid=129)
    shipped = read_overlap_table(DATA / MOS2.folder / MOS2.table)
    assert made.names[16] == shipped.names[16]
    np.testing.assert_allclose(made.values[16, 16], shipped.values[16, 16], atol=1e-12)


def test_a_set_is_rebuilt_from_its_labels(tmp_path, monkeypatch, capsys):
    chosen, kept = tmp_path / "labels", tmp_path / "set"
    chosen.mkdir()
    kept.mkdir()
    for name in ("mos2m1_ideal", "mos2m3_000", "mos2m3_001", "mos2m3_002"):
        path = SHARED / MOS2.labels / f"{name}.npz"
        if not path.is_file():
            pytest.skip("the labels are not part of the project")
        (chosen / path.name).symlink_to(path)
    names = {16: "S7.0-s2p2d1", 42: "Mo7.0-s3p2d2"}
    basis = OrbitalBasis(MOS2.shells, {z: r * BOHR for z, r in MOS2.radii.items()}, names)
    thirds = {"train": 0.34, "val": 0.33, "test": 0.33}
    described = OpenmxSet(
        folder=kept,
        basis=basis,
        title="some of it",
        pseudopotentials={"S": "S_PBE19", "Mo": "Mo_PBE19"},
        k_mesh={"mos2m3": (3, 3, 1)},
        overlap_table="overlap.h5",
        splits={"thirds": thirds},
        seed=1,
        ideal=("mos2m1",),
    )
    monkeypatch.setattr(sys, "argv", ["make.py", str(chosen)])
    described.run()
    assert "4 structures written to" in capsys.readouterr().out
    again = HamiltonianDataset(kept / "hamiltonians.h5")["mos2m3_001"]
    stored = HamiltonianDataset(DATA / MOS2.folder / "hamiltonians.h5")["mos2m3_001"]
    assert np.array_equal(again.hamiltonian_blocks, stored.hamiltonian_blocks)
    split = json.loads((kept / "splits" / "thirds.json").read_text())["split"]
    assert {subset: len(names) for subset, names in split.items()} == dict.fromkeys(thirds, 1)
    monkeypatch.setattr(sys, "argv", ["make.py"])
    with pytest.raises(SystemExit, match=r"usage: python data/set/make\.py FOLDER"):
        described.run()
    monkeypatch.setattr(sys, "argv", ["make.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no \.npz files"):
        described.run()
