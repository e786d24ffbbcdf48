"""Every config file composes, names classes that exist, and gives them keys that they accept.

Every network instantiates.
"""

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from torch import nn

from mlepi.command_line import register_stages
from mlepi.graphs.build import build_graph
from mlepi.graphs.partitions import resolve_partition
from mlepi.structures import HamiltonianDataset, read_forces_dataset
from mlepi.training.facts import complete_model

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
PRIMARY = {
    **dict.fromkeys(
        ["model", "size", "task", "data", "graph", "optimizer", "trainer", "callbacks", "logger"],
        "train",
    ),
    "sampler": "infer",
    "engine": "infer",
    "dft": "label",
}
"""Config group → script that composes it; ``experiment`` and ``hydra`` belong to either.

Settings of stages, ``stage``, are compared with their classes in tests/contracts/stages.
"""

MODELS = [
    "mace",
    "mace_4layer",
    "hedgenet_phonon",
    "deeph",
    "deeph_exact",
    "deeph_e3",
    "deeph_e3_6layer",
    "deeph_e3_exact",
    "deeph_e3_phonon",
    "hedgenet_electron",
    "mace_hamiltonian",
    "hedgenet_mace_hamiltonian",
    "mace_wide",
    "mace_told",
    "hedgenet_phonon_shared",
    "hermnet_pair",
    "hermnet_vertex",
    "hermnet_triplet",
    "deeph_e3_wide",
    "deeph_e3_told",
    "hedgenet_electron_shared",
    "hedgenet_phonon_late",
    "hedgenet_electron_late",
    "deeph_e3_deep",
]
SIZES = ["small", "published"]
FILES = [
    path.relative_to(CONF).with_suffix("")
    for path in sorted(CONF.rglob("*.yaml"))
    if len(path.relative_to(CONF).parts) == 2
    and not path.name.startswith("_")
    and path.parent.name != "stage"
]
"""Choices of all groups, such as ``model/mace``; a leading underscore marks a part that other
choices include."""


def compose_plain(primary, *overrides):
    """Compose a script's config as the script does and resolve all interpolations.

    Hydra's own node is left out.
    """
    register_stages(CONF)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(primary, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # ${hydra:…} refers to it
    keys = [key for key in config if key != "hydra"]
    return OmegaConf.to_container(
        OmegaConf.masked_copy(config, keys), resolve=True, throw_on_missing=True
    )


def network_of(file):
    """Choose a network for which the config file of another group makes sense."""
    if file.parts[0] == "graph" and file.name not in ("electron", "phonon"):
        return "model=hermnet_pair"
    return (
        "model=hedgenet_electron"
        if "electron" in file.name or "hamiltonian" in file.name
        else "model=hedgenet_phonon"
    )


def compose_choice(file):
    group, choice = file.parts
    if group in ("experiment", "hydra"):
        text = (CONF / file).with_suffix(".yaml").read_text(encoding="utf-8")
        primaries = (
            ["train"]
            if group == "hydra"
            else [name for name in ("train", "infer") if f"{name}.py" in text]
        )
        if "sweeper: optuna" in text:
            pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
        assert primaries, "an experiment says in its first comment how it is run"
        return [compose_plain(primary, f"{group}={choice}") for primary in primaries]
    overrides = [f"{group}={choice}"]
    if choice in ("forces", "hamiltonians"):
        overrides.append("data.path=labels")
    if PRIMARY[group] == "train" and group != "model":
        overrides.append(network_of(file))
    return [compose_plain(PRIMARY[group], *overrides)]


def nodes_with_target(node, path=""):
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from nodes_with_target(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from nodes_with_target(value, f"{path}[{position}]")


def check_keys(path, node):
    """List what is wrong with one node.

    Keys that its class does not take, or a constructor that is no schema.
    """
    target = get_object(node["_target_"])
    parameters = dict(inspect.signature(target).parameters)
    if node["_target_"].startswith("mlepi.") and inspect.isclass(target):
        loose = [
            name for name, p in parameters.items() if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)
        ]
        # HeteroNetwork calls a backbone with the sub-network's name
        supplied = 1 if node.get("_partial_") else 0
        yield from (
            f"{path}: {node['_target_']} takes {name!r} by position" for name in loose[supplied:]
        )
    names = set(parameters)
    for ancestor in target.__mro__ if inspect.isclass(target) else ():
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and "__init__" in vars(
            ancestor
        ):
            names |= set(inspect.signature(ancestor.__init__).parameters)
    given = {
        key
        for key in node
        if key not in ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
    }
    yield from (f"{path}: {node['_target_']} takes no {key!r}" for key in sorted(given - names))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_config_file_composes_and_fits_its_classes(file):
    for plain in compose_choice(file):
        nodes = list(nodes_with_target(plain))
        assert nodes
        assert not [problem for path, node in nodes for problem in check_keys(path, node)]


@pytest.mark.parametrize(
    ("primary", "override"),
    [
        ("train", "experiment=typo"),
        ("infer", "experiment=typo"),
        ("train", "model=typo"),
    ],
)
def test_unknown_choice_is_refused(primary, override):
    with pytest.raises(HydraException, match="typo"):
        compose_plain(primary, override)


def test_every_group_is_covered():
    assert {file.parts[0] for file in FILES} - {"experiment", "hydra"} <= set(PRIMARY)
    assert {f"model/{name}" for name in MODELS} == {
        str(file) for file in FILES if file.parts[0] == "model"
    }
    assert {f"size/{name}" for name in SIZES} == {
        str(file) for file in FILES if file.parts[0] == "size"
    }


@cache
def training_subset(kind):
    data = ROOT / "data" / "blg_openmx"
    if kind == "electron":
        dataset = HamiltonianDataset(data / "hamiltonians.h5")
        return [dataset[name] for name in dataset.names if name.startswith("slide")][:2]
    return [
        structure
        for structure in read_forces_dataset(data / "forces.extxyz")
        if len(structure.atoms) == 4
    ][:2]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", MODELS)
def test_every_network_instantiates_at_every_size(model, size):
    plain = compose_plain("train", f"model={model}", f"size={size}")
    kind = plain["model"]["_target_"].removeprefix("mlepi.models.").removesuffix("Network").lower()
    structures = training_subset(kind)
    cutoffs = {
        relation: 2.0 * structures[0].basis.max_radius if cutoff is None else cutoff
        for relation, cutoff in plain["graph"]["cutoffs"].items()
    }
    partition, cutoffs = resolve_partition(plain["graph"]["partition"], cutoffs, [6])
    graphs = [build_graph(one.atoms, cutoffs, partition=partition) for one in structures]
    filled = complete_model(kind, plain["model"], structures, graphs, cutoffs, partition)
    network = instantiate(filled, _convert_="all")
    assert isinstance(network, nn.Module)
    expected = {"hedgenet": {"intra", "inter"}, "hermnet": set(partition.relations)}
    backbones = set(network.network.backbones)
    assert backbones == expected.get(model.split("_")[0], {"all"})
    assert all(parameter.isfinite().all() for parameter in network.parameters())


SWEPT = [
    path.stem
    for path in (CONF / "experiment").glob("*.yaml")
    if re.search(r"^    dir: runs/.*\$\{hydra", path.read_text("utf-8"), re.MULTILINE)
]
"""Experiments that name the folder of their sweep by what is chosen."""


@pytest.mark.parametrize("name", SWEPT)
def test_the_folder_of_a_sweep_is_known_before_its_first_job(name, monkeypatch):
    """Hydra asks for it when ``${hydra:…}`` cannot be resolved yet."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    register_stages(CONF)
    setup_globals()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"experiment={name}"], return_hydra_config=True)
    assert config.hydra.sweep.dir == f"runs/{name}_small"
