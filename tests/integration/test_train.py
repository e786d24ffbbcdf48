"""The training command.

Configurations compose, both tasks run, checkpoints load, processes agree, errors are one message.
"""

import json
import os
import subprocess
import sys

import hydra
import numpy as np
import pytest
import torch
import warm_python
from hydra.utils import instantiate
from omegaconf import OmegaConf
from recorded_service import record_into
from small_run import FIRST_SPLITS, TINY_NETWORKS
from tiny_networks import FACTS

import mlepi
from mlepi.errors import ConfigError
from mlepi.graphs.partitions import Partition
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import build_graphene
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.training.facts import fill_facts
from mlepi.training.run import KNOWN_KEYS, SUPPLIED, check_config, train

CONFIG_FOLDER = PROJECT_FOLDER / "conf"
PHONON_MODELS = [
    "mace",
    "mace_4layer",
    "mace_wide",
    "mace_told",
    "hedgenet_phonon",
    "hedgenet_phonon_shared",
    "hedgenet_phonon_late",
    "deeph_e3_phonon",
    "hermnet_pair",
    "hermnet_vertex",
    "hermnet_triplet",
]
ELECTRON_MODELS = [
    "deeph",
    "deeph_exact",
    "deeph_e3",
    "deeph_e3_6layer",
    "hedgenet_electron",
    "mace_hamiltonian",
    "hedgenet_mace_hamiltonian",
    "deeph_e3_wide",
    "deeph_e3_told",
    "hedgenet_electron_shared",
    "hedgenet_electron_late",
    "deeph_e3_deep",
]
TINY = {
    "phonon": [*TINY_NETWORKS["phonon"], FIRST_SPLITS["phonon"], "data.n_train=5"],
    "electron": [
        *TINY_NETWORKS["electron"],
        "model.network.backbone.embedding_channels=4",
        FIRST_SPLITS["electron"],
        "data.batch_size=2",
        "data.n_train=4",
        "task.level_shift=off",
    ],
}


def compose(*overrides):
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        return hydra.compose("train", ["name=test", *overrides])


def run_command(folder, *overrides, run=warm_python.run):
    command = [
        sys.executable,
        str(PROJECT_FOLDER / "train.py"),
        f"hydra.run.dir={folder}",
        "logger=csv",
        "trainer.accelerator=cpu",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return run(
        [*command, *overrides],
        capture_output=True,
        text=True,
        cwd=PROJECT_FOLDER,
        env=environment,
        timeout=300,
    )


@pytest.mark.parametrize("size", ["small", "published"])
@pytest.mark.parametrize("model", PHONON_MODELS + ELECTRON_MODELS)
def test_every_model_composes_and_instantiates(model, size):
    config = compose(f"model={model}", f"size={size}")
    check_config(config, KNOWN_KEYS, SUPPLIED)
    kind = "phonon" if model in PHONON_MODELS else "electron"
    assert config.task._target_ == f"mlepi.training.{kind.capitalize()}Task"
    assert (
        config.data._target_
        == {
            "phonon": "mlepi.training.ForcesDataModule",
            "electron": "mlepi.training.HamiltonianDataModule",
        }[kind]
    )
    plain = OmegaConf.to_container(config.model, resolve=False)
    plain = OmegaConf.to_container(
        OmegaConf.create({**OmegaConf.to_container(config), "model": plain}), resolve=True
    )["model"]
    partition = Partition(config.graph.partition, (6,) if model.startswith("hermnet") else ())
    facts = {**FACTS, "partition": partition.to_dict()}
    if model.startswith("hermnet"):
        plain["network"]["backbone"]["cutoffs"] = dict.fromkeys(partition.relations, 5.0)
        facts["mean_neighbours"] = dict.fromkeys(partition.relations, 40.0)
    network = instantiate(fill_facts(plain, facts), _convert_="all")
    assert sum(parameter.numel() for parameter in network.parameters()) > 1000


@pytest.mark.parametrize(
    "group", ["optimizer", "task", "trainer", "callbacks", "logger", "experiment"]
)
def test_every_choice_of_every_group_is_accepted(group):
    for path in sorted(
        (CONFIG_FOLDER / group).glob("ablation_*.yaml" if group == "experiment" else "[!_]*.yaml")
    ):
        model = "hedgenet_electron" if "electron" in path.stem else "hedgenet_phonon"
        check_config(compose(f"model={model}", f"{group}={path.stem}"), KNOWN_KEYS, SUPPLIED)


def test_phonon_training_leaves_a_checkpoint_that_reproduces_its_table(tmp_path):
    config = compose(
        "model=hedgenet_phonon",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=3",
        *TINY["phonon"],
    )
    metrics = train(config, tmp_path)
    table = json.loads((tmp_path / "test_metrics.json").read_text())
    assert table["metrics"] == pytest.approx(metrics)
    for name in (
        "config.yaml",
        "csv/metrics.csv",
        "parity_forces.png",
        "parity_energy.png",
        "checkpoints/last.ckpt",
    ):
        assert (tmp_path / name).is_file()
    run = json.loads((tmp_path / "run.json").read_text())
    assert {"commit", "versions", "seed", "config"} <= set(run)
    predictor = mlepi.load_model(tmp_path / "checkpoints/best.ckpt", kind="phonon")
    names = json.loads(
        (PROJECT_FOLDER / "data/blg_openmx/splits/forces_81_09_10.json").read_text()
    )["split"]["test"]
    structures = {
        s.name: s for s in read_forces_dataset(PROJECT_FOLDER / "data/blg_openmx/forces.extxyz")
    }
    calculator = predictor.calculator()
    absolute, count = 0.0, 0
    for name in names:
        atoms = structures[name].atoms.copy()
        atoms.calc = calculator
        difference = atoms.get_forces() - structures[name].forces
        absolute, count = absolute + abs(difference).sum(), count + difference.size
    assert 1e3 * absolute / count == pytest.approx(metrics["forces_mae_mev_per_angstrom"], rel=1e-4)


@pytest.mark.parametrize("model", ["deeph_e3_phonon", "hedgenet_mace_hamiltonian"])
def test_the_other_backbone_trains_and_its_checkpoint_opens(tmp_path, model):
    sizes = [
        "phonon.num_features=2",
        "phonon.l_max=2",
        "phonon.radial_widths=[4]",
        "electron.channels=[4,3,2]",
        "electron.pseudo_channels=[0,2]",
        "electron.l_max=2",
        "electron.num_radial=6",
        "electron.radial_hidden=[4]",
    ]
    config = compose(
        f"model={model}",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        "data.n_train=4",
        FIRST_SPLITS["phonon" if model.endswith("phonon") else "electron"],
        "test=false",
        *(f"size.{size}" for size in sizes),
    )
    metrics = train(config, tmp_path)
    assert np.isfinite(metrics["val/loss"])
    atoms = build_graphene(stacking="AB")
    predictor = mlepi.load_model(tmp_path / "checkpoints/best.ckpt")
    if predictor.kind == "phonon":
        atoms.calc = predictor.calculator()
        assert np.isfinite(atoms.get_forces()).all()
    else:
        assert np.isfinite(predictor.hamiltonian(atoms).blocks).all()


def test_electron_training_leaves_a_checkpoint_that_reproduces_its_table(tmp_path):
    config = compose(
        "model=hedgenet_electron",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        *TINY["electron"],
    )
    metrics = train(config, tmp_path)
    for part in ("", "onsite_", "intra_", "inter_"):
        raw = metrics[f"hamiltonian_{part}mae_mev"]
        free = metrics[f"hamiltonian_{part}gauge_free_mae_mev"]
        assert raw > 0.0
        assert free > 0.0
    assert metrics["hamiltonian_gauge_free_mae_mev"] <= metrics["hamiltonian_mae_mev"]
    predictor = mlepi.load_model(tmp_path / "checkpoints/best.ckpt", kind="electron")
    assert predictor.overlap_table is not None
    names = json.loads(
        (PROJECT_FOLDER / "data/blg_openmx/splits/hamiltonian_622.json").read_text()
    )["split"]["test"]
    dataset = HamiltonianDataset(PROJECT_FOLDER / "data/blg_openmx/hamiltonians.h5")
    absolute, count = 0.0, 0
    for name in names:
        label = dataset[name]
        predicted = predictor.hamiltonian(label.atoms, dtype="float64")
        keys = {
            (*pair, *shift): e
            for e, (pair, shift) in enumerate(
                zip(
                    predicted.edge_index.T.tolist(), predicted.edge_cell_shift.tolist(), strict=True
                )
            )
        }
        order = [
            keys[(*pair, *shift)]
            for pair, shift in zip(
                label.edge_index.T.tolist(), label.edge_cell_shift.tolist(), strict=True
            )
        ]
        difference = predicted.blocks[order] - label.hamiltonian_blocks
        absolute, count = absolute + abs(difference).sum(), count + difference.size
    assert 1e3 * float(absolute) / count == pytest.approx(metrics["hamiltonian_mae_mev"], rel=1e-3)


def test_deeph_learns_from_slides_and_its_checkpoint_gives_derivatives(tmp_path):
    """The 4-atom structures alone: equally far neighbours are the worst case of its frames."""
    source = PROJECT_FOLDER / "data/blg_openmx/splits/hamiltonian_622.json"
    content = json.loads(source.read_text())
    del content["sha256"]  # as who edits by hand is told
    names = sorted(name for part in content["split"].values() for name in part)
    slides = [name for name in names if name.startswith("slide")]
    others = [name for name in names if name not in slides]
    content["split"] = {"train": slides[::2], "val": slides[1::4], "test": slides[3::4] + others}
    (tmp_path / "split.json").write_text(json.dumps(content))
    config = compose(
        "model=deeph",
        "task=electron_deeph",
        "callbacks=no_ema",
        "logger=csv",
        "trainer.accelerator=cpu",
        f"data.split={tmp_path / 'split.json'}",
        "optimizer.optimizer.lr=0.01",
        "optimizer.schedule.epochs=[1,2]",
        "optimizer.schedule.factors=[0.5,0.5]",
        "trainer.max_epochs=4",
        "test=false",
        "size.electron.channels=[8,8,4]",
        "size.deeph.num_layers=2",
        "size.deeph.node_features=8",
        "size.deeph.edge_features=24",
        "size.deeph.hidden=16",
    )
    train(config, tmp_path)
    rows = (tmp_path / "csv/metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("train/loss")
    losses = [float(row.split(",")[place]) for row in rows[1:] if row.split(",")[place]]
    assert losses[-1] < 0.5 * losses[0]
    stored = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["schedule"]
    assert stored["applied"] == 2
    assert stored["best_weights"]
    predictor = mlepi.load_model(tmp_path / "checkpoints/best.ckpt", kind="electron")
    atoms = build_graphene(stacking="AB")
    moves = np.random.default_rng(0).normal(size=(1, 4, 3))
    change = predictor.derivatives(atoms, moves).hamiltonian.values
    assert np.isfinite(change).all()
    assert np.abs(change).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["phonon", "electron"])
def test_two_processes_train_the_same_weights_as_one(tmp_path, kind):
    weights, tables = [], []
    metric = ["weight=1.0", "start=0.0", "form=log", "damping=5.0"] if kind == "electron" else []
    for name, trainer in (("one", "trainer=default"), ("two", "trainer=ddp_cpu")):
        overrides = [
            f"model=hedgenet_{kind}",
            trainer,
            "dtype=float64",
            "trainer.max_epochs=3",
            *TINY[kind],
            *(f"task.loss.metric.{setting}" for setting in metric),
        ]
        result = run_command(tmp_path / name, *overrides)
        assert result.returncode == 0, result.stderr
        assert "UserWarning" not in result.stderr
        content = torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        weights.append(content["training_weights"])
        tables.append(json.loads((tmp_path / name / "test_metrics.json").read_text())["metrics"])
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-6, atol=1e-8)
    assert tables[1] == pytest.approx(tables[0], rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ["+typo=1"],
            "error: typo: got an unknown key; expected a key of conf/train.yaml. Did you mean "
            "'dtype'?",
        ),
        (
            ["trainer.max_epoch=3"],
            "error: trainer.max_epoch: got an unknown key; expected a key of trainer. Did you "
            "mean 'max_epochs'?",
        ),
        (
            ["model=macee"],
            "error: model: got 'macee'; expected one of ['deeph', 'deeph_e3', 'deeph_e3_6layer', ",
        ),
        (["+data.batchsize=1"], "Did you mean 'batch_size'?"),
        (
            ["data.path=nowhere.extxyz"],
            "error: data.path: got 'nowhere.extxyz', which does not exist",
        ),
        (
            ["data=blg_hamiltonians"],
            "error: data: got electron data; expected data for the phonon task of this model.",
        ),
    ],
)
def test_errors_are_one_message(tmp_path, overrides, text):
    result = run_command(tmp_path / "run", "model=mace", *overrides)
    assert result.returncode == 1
    assert text in result.stderr
    assert "Traceback (most recent call last)" not in result.stderr


def test_help_is_quick_to_import():
    code = "import sys, mlepi.command_line; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_FOLDER).returncode == 0


def test_failing_wandb_does_not_stop_a_run(tmp_path, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("no service")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", fail)
    config = compose(
        "model=mace",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "test=false",
        *TINY["phonon"],
    )
    train(config, tmp_path)
    assert (
        caplog.text.count(
            "wandb failed (RuntimeError: no service); the run continues, and its folder has "
            "everything"
        )
        == 1
    )
    assert (tmp_path / "csv/metrics.csv").is_file()


@pytest.mark.slow
def test_services_get_curves_table_plots_bands_and_the_checkpoint(tmp_path, monkeypatch):
    service, jobs = record_into(monkeypatch, "mlepi.training.loggers")
    overrides = ["logger=wandb", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    limits = ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "seed=3"]
    config = compose("model=hedgenet_electron", *overrides, *limits, *TINY["electron"])
    metrics = train(config, tmp_path / "seed=3", "some sweep")
    [(settings, job)] = jobs
    assert settings["wandb"]["offline"] is True
    assert (job.name, job.sweep, job.kind) == ("seed=3", "some sweep", "train")
    assert job.config["seed"] == 3
    assert {"train/loss", "val/loss"} <= set().union(*(values for _, values in service.values))
    header, rows = service.tables["test/table"]
    assert header == ["metric", "value"]
    assert dict(rows) == pytest.approx(metrics, nan_ok=True)
    assert set(service.summary) == {f"test/{name}" for name in metrics}
    parity = {name for name in service.images if name.startswith("parity/")}
    assert parity == {"parity/H onsite", "parity/H intra", "parity/H inter"}
    [bands] = set(service.images) - parity
    assert bands.startswith("bands/")
    checkpoint = tmp_path / "seed=3" / "checkpoints" / "best.ckpt"
    assert service.files == {"checkpoint": (checkpoint, "model")}
    assert service.closed


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("hermnet_pair", ["B-B", "B-N", "N-N"]),
        ("hermnet_triplet", ["B_B-B", "B_B-N", "B_N-N", "N_B-B", "N_B-N", "N_N-N"]),
    ],
)
def test_a_hermnet_of_boron_nitride_is_trained_and_loaded(tmp_path, model, names):
    config = compose(
        f"model={model}",
        "data=hbn_forces",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        "graph.cutoffs.default=2.0",
        "+graph.cutoffs.B-B=2.8" if model == "hermnet_pair" else "+graph.cutoffs.B_B-B=2.8",
        *[text for text in TINY["phonon"] if not text.startswith(("graph", "data.split"))],
    )
    metrics = train(config, tmp_path)
    predictor = mlepi.load_model(tmp_path / "checkpoints" / "best.ckpt")
    assert list(predictor.cutoffs) == names
    assert predictor.cutoffs[names[0]] == 2.8
    assert predictor.elements == (5, 7)
    split = json.loads((PROJECT_FOLDER / config.data.split).read_text())["split"]["test"]
    labels = {s.name: s for s in read_forces_dataset(PROJECT_FOLDER / config.data.path)}
    chosen = [labels[name] for name in split]
    _, forces = predictor.energy_and_forces([one.atoms for one in chosen])
    error = np.mean([np.abs(f - one.forces).mean() for f, one in zip(forces, chosen, strict=True)])
    assert 1000 * error == pytest.approx(metrics["forces_mae_mev_per_angstrom"], rel=1e-3)


def test_a_network_of_boron_nitride_blocks_is_trained(tmp_path):
    config = compose(
        "model=hedgenet_electron",
        "data=hbn_hamiltonians",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
        "task.test_kpoints=0",
        *[text for text in TINY["electron"] if not text.startswith("data.split")],
    )
    metrics = train(config, tmp_path)
    assert 0.0 < metrics["hamiltonian_gauge_free_mae_mev"] < 200.0
    predictor = mlepi.load_model(tmp_path / "checkpoints" / "best.ckpt")
    assert predictor.basis.names == {5: "B7.0-s2p2", 7: "N6.0-s2p2"}


def test_blocks_of_other_relations_than_layers_are_refused(tmp_path):
    config = compose("model=hedgenet_electron", "graph.partition=vertices", "logger=csv")
    with pytest.raises(ConfigError, match=r"graph\.partition: got 'vertices' with blocks"):
        train(config, tmp_path)


def test_cutoffs_of_another_partition_are_refused(tmp_path):
    config = compose("model=mace", "graph.partition=vertices", "logger=csv", *TINY["phonon"])
    with pytest.raises(ConfigError, match=r"graph\.cutoffs: got \['inter', 'intra'\]"):
        train(config, tmp_path)
