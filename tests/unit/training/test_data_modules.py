import dataclasses
import json

import numpy as np
import pytest
import torch

from mlepi.errors import ConfigError, DataError
from mlepi.graphs import fields
from mlepi.physics.overlaps import compute_overlap_blocks
from mlepi.project_files import PROJECT_FOLDER, find_file
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.splits import write_split
from mlepi.training.data_modules import ForcesDataModule, HamiltonianDataModule, fit_overlaps

FORCES = {
    "path": "data/blg_openmx/forces.extxyz",
    "split": "data/blg_openmx/splits/forces_81_09_10.json",
}

WITH_OVERLAPS = PROJECT_FOLDER / "tests/references/openmx_overlaps.h5"
HAMILTONIANS = {
    "path": "data/blg_openmx/hamiltonians.h5",
    "split": "data/blg_openmx/splits/hamiltonian_622.json",
}

SETTINGS = {
    "extra": None,
    "batch_size": 2,
    "eval_batch_size": 1,
    "n_train": 4,
    "dtype": "float32",
    "seed": 1,
}

CUTOFFS = {"intra": 2.0, "inter": 4.0}


def test_missing_file_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data\.path: got 'nowhere\.h5', which does not exist"):
        find_file("data.path", "nowhere.h5")


def test_split_of_other_data_is_refused(tmp_path):
    split = {
        "format": "mlepi-split",
        "format_version": 1,
        "provenance": {},
        "split": {"train": ["a"], "val": ["b"], "test": ["c"]},
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    data = ForcesDataModule(
        path=FORCES["path"], split=str(tmp_path / "split.json"), cutoffs=CUTOFFS, **SETTINGS
    )
    with pytest.raises(DataError, match="Use the split made for this data set"):
        data.prepare()


def test_split_without_a_subset_is_refused(tmp_path):
    content = json.loads(find_file("data.split", FORCES["split"]).read_text())
    content["split"]["train"] += content["split"].pop("val")
    del content["sha256"]  # as who edits by hand is told
    (tmp_path / "split.json").write_text(json.dumps(content))
    data = ForcesDataModule(
        path=FORCES["path"], split=str(tmp_path / "split.json"), cutoffs=CUTOFFS, **SETTINGS
    )
    with pytest.raises(DataError, match=r"nothing in \['val'\]"):
        data.prepare()


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"data\.batch_size: got 0; expected at least 1"):
        ForcesDataModule(**FORCES, cutoffs=CUTOFFS, **{**SETTINGS, "batch_size": 0})
    with pytest.raises(ConfigError, match=r"data\.energy_zero: got 'vacuum'"):
        HamiltonianDataModule(
            **HAMILTONIANS, cutoffs=CUTOFFS, energy_zero="vacuum", overlap_table=None, **SETTINGS
        )
    with pytest.raises(ConfigError, match=r"graph\.partition: got 'rings'; expected one of"):
        ForcesDataModule(**FORCES, cutoffs=None, partition="rings", **SETTINGS)


def test_more_processes_than_structures_are_refused():
    data = ForcesDataModule(**FORCES, cutoffs=CUTOFFS, **SETTINGS)
    data.trainer = type("Trainer", (), {"world_size": 3, "global_rank": 0})()
    with pytest.raises(
        ConfigError, match=r"data\.batch_size: got a batch or subset of 2; expected at least 3"
    ):
        data.setup("fit")


def test_batches_carry_all_labels():
    data = ForcesDataModule(**FORCES, cutoffs=CUTOFFS, **SETTINGS)
    data.prepare()
    batch = next(iter(data.train_dataloader()))
    assert batch.num_graphs == 2
    assert batch[fields.ENERGY].shape == (2,)
    assert batch[fields.ATOM][fields.FORCES].shape == batch[fields.ATOM][fields.POSITIONS].shape
    assert len(data.graphs["train"]) == 4


def test_fermi_energy_becomes_zero_on_request(tmp_path):
    shipped = HamiltonianDataset(find_file("data", HAMILTONIANS["path"]))
    names = [name for name in shipped.names if name.startswith("slide")][:3]
    slides = [shipped[name] for name in names]
    write_hamiltonian_dataset(tmp_path / "slides.h5", slides, {}, quantum=2.0**-14)
    subsets = dict(zip(("train", "val", "test"), ([name] for name in names), strict=True))
    write_split(tmp_path / "split.json", subsets, {})
    data_set = {"path": str(tmp_path / "slides.h5"), "split": str(tmp_path / "split.json")}
    parts = {
        "cutoffs": {"intra": None, "inter": None},
        "overlap_table": "data/blg_openmx/overlap_C6.0-s2p2.h5",
        **SETTINGS,
        "n_train": 1,
        "dtype": "float64",
    }
    plain = HamiltonianDataModule(**data_set, energy_zero="as_computed", **parts)
    aligned = HamiltonianDataModule(**data_set, energy_zero="fermi", **parts)
    for data in (plain, aligned):
        data.prepare()
    structure = plain.structures["train"][0]
    before, after = plain.graphs["train"][0], aligned.graphs["train"][0]
    for store, shifted in (
        (before[fields.ATOM], after[fields.ATOM]),
        (before[fields.edge_type("inter")], after[fields.edge_type("inter")]),
    ):
        expected = (
            store[fields.HAMILTONIAN_BLOCKS] - structure.fermi_energy * store[fields.OVERLAP_BLOCKS]
        )
        torch.testing.assert_close(shifted[fields.HAMILTONIAN_BLOCKS], expected)
    assert np.isclose(plain.cutoffs["intra"], 2.0 * plain.basis.max_radius)


@pytest.fixture
def openmx_overlaps(tmp_path):
    """Structures with the overlaps of OpenMX, and a split that trains on two of them."""
    first, *names = HamiltonianDataset(WITH_OVERLAPS).names
    subsets = {"train": names[:2], "val": names[2:3], "test": [*names[3:], first]}
    write_split(tmp_path / "split.json", subsets, {})
    return {"path": str(WITH_OVERLAPS), "split": str(tmp_path / "split.json")}


def test_potentials_of_layers_are_added_to_the_labels(tmp_path):
    shipped = HamiltonianDataset(find_file("data", HAMILTONIANS["path"]))
    names = ["slide_+0.000_+0.000_3.50", "slide_+0.083_+0.083_3.50", "slide_+0.250_+0.100_3.00"]
    write_hamiltonian_dataset(tmp_path / "some.h5", [shipped[name] for name in names], {})
    subsets = dict(zip(("train", "val", "test"), ([name] for name in names), strict=True))
    write_split(tmp_path / "split.json", subsets, {})
    stored = {name: {"potentials": [0.01, -0.01]} for name in names}
    (tmp_path / "potentials.json").write_text(json.dumps({"structures": stored}))
    parts = {
        "path": str(tmp_path / "some.h5"),
        "split": str(tmp_path / "split.json"),
        "cutoffs": {"intra": None, "inter": None},
        "energy_zero": "as_computed",
        "overlap_table": "data/blg_openmx/overlap_C6.0-s2p2.h5",
        **SETTINGS,
        "n_train": 1,
        "dtype": "float64",
    }
    potentials = str(tmp_path / "potentials.json")
    plain = HamiltonianDataModule(**parts)
    raised = HamiltonianDataModule(**parts, layer_potentials=potentials)
    for data in (plain, raised):
        data.prepare()
    before, after = (data.structures["train"][0] for data in (plain, raised))
    own = np.all(before.edge_cell_shift == 0, axis=1)
    own &= before.edge_index[0] == before.edge_index[1]
    change = (after.hamiltonian_blocks - before.hamiltonian_blocks)[own]
    signs = np.where(before.atoms.arrays["layer"] == 0, 0.01, -0.01)[before.edge_index[0][own]]
    np.testing.assert_allclose(np.einsum("nii->ni", change), signs[:, None] * np.ones(8), atol=1e-6)
    with pytest.raises(DataError, match=r"data\.layer_potentials"):
        HamiltonianDataModule(**parts, layer_potentials="nowhere.json")


def test_overlap_table_can_be_fitted_to_the_training_subset(openmx_overlaps):
    """The fit gives the overlaps of a structure that it has seen."""
    parts = {
        "cutoffs": {"intra": None, "inter": None},
        "overlap_table": "fit",
        **SETTINGS,
        "n_train": 2,
    }
    data = HamiltonianDataModule(**openmx_overlaps, energy_zero="as_computed", **parts)
    data.prepare()
    table = data.stamp_parts()["overlap_table"]
    structure = data.structures["train"][0]
    source, target = structure.edge_index
    atoms = structure.atoms
    vectors = (
        atoms.positions[source]
        + structure.edge_cell_shift @ atoms.cell.array
        - atoms.positions[target]
    )
    blocks = compute_overlap_blocks(table, atoms.numbers, structure.edge_index, vectors, 8)
    np.testing.assert_allclose(blocks, structure.overlap_blocks, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_structures_left_in_the_file_give_the_batches_of_those_in_memory(openmx_overlaps, workers):
    parts = {
        "cutoffs": {"intra": None, "inter": None},
        "overlap_table": "fit",
        "energy_zero": "fermi",
        **SETTINGS,
        "n_train": 2,
    }
    kept = HamiltonianDataModule(**openmx_overlaps, **parts)
    stored = HamiltonianDataModule(**openmx_overlaps, **parts, in_memory=False, workers=workers)
    for data in (kept, stored):
        data.prepare()
    assert stored.cutoffs == kept.cutoffs
    assert not isinstance(stored.graphs["train"], list)
    for name in ("train_dataloader", "val_dataloader"):
        loaders = [getattr(data, name)() for data in (kept, stored)]
        n_batches = 0
        for one, other in zip(*loaders, strict=True):
            n_batches += 1
            for store, same in zip(one.stores, other.stores, strict=True):
                assert set(store.keys()) == set(same.keys())
                for key, value in store.items():
                    if isinstance(value, torch.Tensor):
                        assert torch.equal(value, same[key]), key
        assert n_batches == 1
    assert [s.name for s in stored.sample_structures()] == [
        s.name for s in kept.structures["train"]
    ]


def test_overlaps_are_needed_for_a_fit():
    data = HamiltonianDataset(HAMILTONIANS["path"])
    bare = dataclasses.replace(data[0], overlap_blocks=None)
    with pytest.raises(DataError, match="no overlaps; expected overlap blocks to fit"):
        fit_overlaps([bare], data.basis)


@pytest.fixture
def bare_data(tmp_path):
    """Three structures of OpenMX without their overlaps, and their split."""
    data = HamiltonianDataset(WITH_OVERLAPS)
    chosen = [dataclasses.replace(data[name], overlap_blocks=None) for name in data.names[-3:]]
    write_hamiltonian_dataset(tmp_path / "bare.h5", chosen, {}, quantum=2.0**-14)
    subsets = dict(zip(("train", "val", "test"), ([s.name] for s in chosen), strict=True))
    write_split(tmp_path / "split.json", subsets, {})
    return {"path": str(tmp_path / "bare.h5"), "split": str(tmp_path / "split.json")}


def test_overlaps_that_the_file_lacks_come_from_the_table(bare_data):
    parts = {"cutoffs": {"intra": None, "inter": None}, **SETTINGS, "n_train": 1}
    table = "data/blg_openmx/overlap_C6.0-s2p2.h5"
    data = HamiltonianDataModule(
        **bare_data, energy_zero="as_computed", overlap_table=table, **parts
    )
    data.prepare()
    (structure,) = data.structures["train"]
    computed = HamiltonianDataset(WITH_OVERLAPS)[structure.name]
    assert len(structure.overlap_blocks) == len(computed.overlap_blocks)
    sorted_blocks = (np.sort(s.overlap_blocks, axis=None) for s in (structure, computed))
    np.testing.assert_allclose(*sorted_blocks, atol=2e-5)


@pytest.mark.parametrize("table", [None, "fit"])
def test_hamiltonians_without_overlaps_need_a_table(bare_data, table):
    parts = {"cutoffs": {"intra": None, "inter": None}, **SETTINGS}
    data = HamiltonianDataModule(
        **bare_data, energy_zero="as_computed", overlap_table=table, **parts
    )
    with pytest.raises(DataError, match=r"Hamiltonians without overlaps.*data\.overlap_table"):
        data.prepare()
