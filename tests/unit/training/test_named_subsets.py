"""Named subsets: from the split to the table of a training, with an extra data set and without."""

import json
import logging

import pytest
import torch
from small_run import TINY_ELECTRON, TINY_PHONON, run_training

from mlepi.checkpoint import load_checkpoint
from mlepi.errors import DataError
from mlepi.graphs import fields
from mlepi.project_files import find_file
from mlepi.structures import (
    HamiltonianDataset,
    NamedSubsets,
    read_forces_dataset,
    read_named_subsets,
    read_split,
    write_extxyz,
    write_hamiltonian_dataset,
    write_split,
)
from mlepi.training import ForcesDataModule, HamiltonianDataModule

SLIDES = [f"slide_{a}_{d}" for a in ("+0.000_+0.000", "+0.083_+0.083") for d in ("3.00", "3.25")]
SPLIT = {"train": SLIDES[:1], "val": SLIDES[1:3], "test": SLIDES[3:]}
PAIR = ("pair_p", "pair_m")
NAMED = NamedSubsets(
    test={"far": ["random3_0001"], "pairs": [*PAIR, SLIDES[3]]}, val={"first": SLIDES[1:2]}
)


def renamed(structures):
    """Slides of a small data set, two of them under the names of a pair; and a larger cell."""
    found = {structure.name: structure for structure in structures}
    pair = (found["slide_+0.167_+0.167_3.00"], found["slide_+0.167_+0.167_3.25"])
    chosen = [found[name] for name in SLIDES]
    chosen += [
        type(one)(**{**vars(one), "name": name}) for one, name in zip(pair, PAIR, strict=True)
    ]
    return chosen, [found["random3_0001"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("named")
    forces = read_forces_dataset(find_file("data", "data/blg_openmx/forces.extxyz"))
    hamiltonians = HamiltonianDataset(find_file("data", "data/blg_openmx/hamiltonians.h5"))
    for structures, write, ending in (
        (forces, write_extxyz, "extxyz"),
        (hamiltonians, lambda p, s: write_hamiltonian_dataset(p, s, {}), "h5"),
    ):
        for name, part in zip(("main", "extra"), renamed(structures), strict=True):
            write(path / f"{name}.{ending}", part)
    write_split(path / "split.json", SPLIT, {}, NAMED)
    return path


def data_module(folder, extra="extra.extxyz", split="split.json"):
    return ForcesDataModule(
        path=str(folder / "main.extxyz"),
        split=str(folder / split),
        extra=None if extra is None else str(folder / extra),
        batch_size=1,
        eval_batch_size=2,
        n_train=None,
        cutoffs={"intra": 2.0, "inter": 4.0},
        dtype="float32",
        seed=1,
    )


def test_every_structure_has_a_number_and_is_tested_once(folder):
    data = data_module(folder)
    data.prepare()
    assert data.number_subsets() == {
        "val": {"val": [1, 2], "first": [1]},
        "test": {"test": [3], "far": [4], "pairs": [5, 6, 3]},
    }
    assert data.n_structures == 7
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    numbers = torch.cat([batch[fields.STRUCTURE] for batch in batches]).tolist()
    assert sorted(numbers) == [3, 4, 5, 6]
    for name, (structure, graph) in data.evaluated().items():
        assert structure.name == name
        torch.testing.assert_close(
            graph[fields.ATOM][fields.POSITIONS],
            torch.as_tensor(structure.atoms.positions, dtype=torch.float32),
        )
    assert data.describe()["test_subsets"] == {"far": 1, "pairs": 3}


@pytest.mark.parametrize(
    ("extra", "why"), [(None, "data.extra is null"), ("none.extxyz", "does not exist")]
)
def test_what_has_no_file_is_left_out_with_one_line(folder, caplog, extra, why):
    data = data_module(folder, extra=extra)
    with caplog.at_level(logging.WARNING):
        data.prepare()
    [line] = [record.getMessage() for record in caplog.records]
    assert why in line
    assert "1 structures of the test subsets far are left out" in line
    assert set(data.number_subsets()["test"]) == {"test", "pairs"}
    assert len(data.test_dataloader()) == 2


@pytest.mark.parametrize(
    ("named", "text"),
    [
        (NamedSubsets(test={"x": [SLIDES[0]]}), "test subset 'x' with .* of train or val"),
        (NamedSubsets(val={"x": [SLIDES[0]]}), "val subset 'x' with .* outside val"),
        (NamedSubsets(test={"val": ["pair_p"]}), "a further subset named 'val'"),
        (NamedSubsets(test={"x": ["nothing"]}), "a test subset with 'nothing'"),
    ],
)
def test_subsets_that_cannot_be_used(folder, named, text):
    named.test["rest"] = [*PAIR]
    write_split(folder / "wrong.json", SPLIT, {}, named)
    with pytest.raises(DataError, match=text):
        data_module(folder, split="wrong.json").prepare()


def test_a_split_without_named_subsets_is_written_as_before(folder):
    write_split(folder / "a.json", SPLIT, {})
    write_split(folder / "b.json", SPLIT, {}, NamedSubsets())
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    assert set(json.loads((folder / "a.json").read_text())) == {
        "format",
        "format_version",
        "provenance",
        "sha256",
        "split",
    }


def run(folder, output, kind, ending, more):
    return run_training(
        output,
        [
            *{"phonon": TINY_PHONON, "electron": TINY_ELECTRON}[kind],
            f"data.path={folder / f'main.{ending}'}",
            f"data.extra={folder / f'extra.{ending}'}",
            f"data.split={folder / 'split.json'}",
            "data.n_train=null",
            "trainer.max_epochs=1",
            *more,
        ],
    )


def test_forces_by_subset_and_size(folder, tmp_path):
    metrics = run(
        folder, tmp_path, "phonon", "extxyz", ["task.monitor=val/first/forces_mae_mev_per_angstrom"]
    )
    content = json.loads((tmp_path / "test_metrics.json").read_text())
    subsets, sizes = content["subsets"], content["sizes"]
    assert {name: row["n_structures"] for name, row in subsets.items()} == {
        "test": 1,
        "far": 1,
        "pairs": 3,
    }
    assert list(sizes) == ["4 atoms", "36 atoms"]
    key = "forces_mae_mev_per_angstrom"
    assert subsets["test"]["metrics"][key] == pytest.approx(metrics[key], rel=1e-6)
    assert subsets["far"]["metrics"] == sizes["36 atoms"]["metrics"]
    assert subsets["pairs"]["metrics"][key] == pytest.approx(sizes["4 atoms"]["metrics"][key])
    header = (tmp_path / "csv/metrics.csv").read_text().splitlines()[0]
    assert f"val/first/{key}" in header


def test_hamiltonians_by_subset_with_levels_and_slopes(folder, tmp_path):
    more = [
        "trainer.limit_val_batches=null",
        "trainer.limit_test_batches=null",
        "task.test_kpoints=2",
        "task.level_shift={threshold:0.01,strength:0.5}",
        "task.loss.metric.weight=1.0",
        "task.loss.metric.start=0.0",
        "task.loss.metric.damping=5.0",
        "task.loss.metric.form=log",
    ]
    metrics = run(folder, tmp_path, "electron", "h5", more)
    content = json.loads((tmp_path / "test_metrics.json").read_text())
    assert metrics["slope_intra_error"] > 0.0
    for row in (*content["subsets"].values(), *content["sizes"].values()):
        found = row["metrics"]
        assert found["hamiltonian_s_metric_rms_mev"] > found["hamiltonian_gauge_free_rmse_mev"]
        assert found["bands_2ev_aligned_rms_mev"] > 0.0
        assert (found["ghosts_per_1000_k"] == 0.0) or found["form_bound_mean"] > 0.5
        assert found["shifted_bands_2ev_rms_mev"] > 0.0
        assert found["shifted_ghosts_per_1000_k"] <= found["ghosts_per_1000_k"]
        assert found["shifted_soft_states_per_1000_k"] <= found["soft_states_per_1000_k"]
    metadata = load_checkpoint(tmp_path / "checkpoints/best.ckpt")[0]["metadata"]
    assert metadata["level_shift"] == {"threshold": 0.01, "strength": 0.5, "offset": 0.0}
    assert 1.0 < metadata["largest_norm"] < 3.0


def test_structures_may_be_left_unused(folder):
    write_split(folder / "unused.json", SPLIT, {}, NamedSubsets(unused=[*PAIR]))
    names = [*SLIDES, *PAIR]
    assert read_split(folder / "unused.json", names) == SPLIT
    assert read_named_subsets(folder / "unused.json").unused == [*PAIR]
    module = data_module(folder, split="unused.json")
    module.prepare()
    assert module.n_structures == len(SLIDES)


def test_what_is_trained_on_cannot_be_unused(folder):
    write_split(folder / "both.json", SPLIT, {}, NamedSubsets(unused=[SLIDES[0]]))
    with pytest.raises(DataError, match="of train or val left unused"):
        read_named_subsets(folder / "both.json")


def test_only_what_is_used_is_read_and_once(folder, monkeypatch):
    """Of Hamiltonians, whose blocks take long to unpack: those of a split, and then its others."""
    read = []
    usual = HamiltonianDataset._read

    def note(self, item, with_blocks):
        read.append((self.path.stem, self.names[item] if isinstance(item, int) else item))
        return usual(self, item, with_blocks)

    monkeypatch.setattr(HamiltonianDataset, "_read", note)
    data = HamiltonianDataModule(
        path=str(folder / "main.h5"),
        split=str(folder / "split.json"),
        extra=str(folder / "extra.h5"),
        batch_size=1,
        eval_batch_size=1,
        n_train=None,
        cutoffs=None,
        dtype="float32",
        seed=1,
        energy_zero="as_computed",
        overlap_table="data/blg_openmx/overlap_C6.0-s2p2.h5",
    )
    data.prepare()
    assert sorted(read) == sorted(("main", name) for name in SLIDES)
    assert data.n_structures == 7
    read.clear()
    data.prepare_further()
    assert sorted(read) == [("extra", "random3_0001"), *(("main", name) for name in sorted(PAIR))]
    assert len(data.further_graphs) == 3
