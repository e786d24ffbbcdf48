"""Training that starts from the weights of a checkpoint, and what may be resumed.

``init_from`` takes the network of a checkpoint: its architecture, cutoffs, normalisations and
weights, without the state of the optimizer. Elements and orbitals are those of the new data. Values
of an element (or of a pair of elements) that the checkpoint knows are taken over; those of another
one start as they would in a new training. Read-outs of other shells start afresh as a whole.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from mlepi.checkpoint import load_checkpoint
from mlepi.config_check import suggest
from mlepi.errors import ConfigError, message
from mlepi.graphs.partitions import DEFAULT, Partition
from mlepi.models.block_targets import BlockTargets
from mlepi.project_files import find_file

log = logging.getLogger(__name__)

OF_THE_DATA = ("elements", "atomic_energies", "shells", "basis")
"""Keys of a network's config that the new data fill in; all others stay those of the checkpoint."""

SUB_NETWORKS = "network.backbones."
"""Beginning of the names of the weights of sub-networks."""

BODY = "network."
"""Beginning of the names of all weights that are no read-out."""


@dataclass(frozen=True)
class InitialWeights:
    """The network of a checkpoint.

    Attributes:
        path: of the file, for messages.
        stamp: what the checkpoint says about itself.
        weights: of its network.
    """

    path: str
    stamp: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def elements(self) -> list[int]:
        """Atomic numbers in the order of the network."""
        return [int(z) for z in self.stamp["model"]["network"]["elements"]]

    @property
    def partition(self) -> Partition:
        """How its graphs are divided."""
        return Partition.from_dict(self.stamp["model"]["network"].get("partition"))

    def graph(self) -> dict[str, Any]:
        """Return the settings of its graphs, with a cutoff also for relations of new elements."""
        cutoffs = dict(self.stamp["cutoffs"])
        if self.partition.elements:
            cutoffs[DEFAULT] = max(cutoffs.values())
        kind, overlap = self.partition.kind, self.partition.overlap
        return {"partition": kind, "cutoffs": cutoffs, "shell_overlap": overlap or None}

    def model(self) -> dict[str, Any]:
        """Return the config of its network with nulls for what the data decide."""
        cleared: dict[str, Any] = _clear(self.stamp["model"], {*OF_THE_DATA, "partition"})
        if self.partition.elements:  # so do the relations
            same = {name: [name] for name in self.partition.relations}
            network = _clear(cleared["network"], {"cutoffs", "mean_neighbours"})
            seen_by = {name: list(seen) for name, seen in (network["relations"] or {}).items()}
            relations = None if seen_by == same else network["relations"]
            cleared["network"] = {**network, "relations": relations}
        return cleared

    def complete(self, model: dict[str, Any]) -> dict[str, Any]:
        """Return a config filled in from new data, with what it knows of elements and relations."""
        old, network = self.stamp["model"], model["network"]
        if self.partition.elements:
            neighbours = network["backbone"]["mean_neighbours"]
            known = old["network"]["backbone"]["mean_neighbours"]
            kept = {name: known.get(name, number) for name, number in neighbours.items()}
            backbone = {**network["backbone"], "mean_neighbours": kept}
            model = {**model, "network": {**network, "backbone": backbone}}
        if "atomic_energies" not in model:
            return model
        energies = dict(zip(self.elements, old["atomic_energies"], strict=True))
        new = zip(network["elements"], model["atomic_energies"], strict=True)
        return {**model, "atomic_energies": [energies.get(int(z), energy) for z, energy in new]}

    def load_into(self, network: nn.Module, model: Mapping[str, Any]) -> None:
        """Take over all weights that fit, and tell which start afresh.

        Args:
            network: built from ``model`` and prepared; modified.
            model: config of the network, completed.

        Raises:
            ConfigError: the body of the network does not fit.
        """
        elements = [int(z) for z in model["network"]["elements"]]
        relations = self._compare_relations(model)
        with torch.random.fork_rng():
            probe = instantiate(_add_element(model, elements), _convert_="all").state_dict()
        same_shells = _list_slots(model) == _list_slots(self.stamp["model"])
        state, fresh = network.state_dict(), []
        for name, value in state.items():
            found = self.weights.get(name) if same_shells or name.startswith(BODY) else None
            fits = found is not None and _copy(
                found, value, probe[name].shape, self.elements, elements
            )
            if not fits and name.startswith(BODY) and _sub_network(name) not in relations:
                shape = None if found is None else list(found.shape)
                raise ConfigError(
                    message(
                        "init_from",
                        f"{self.path} with {shape or 'nothing'} for {name}",
                        f"{list(value.shape)}",
                        "Use a checkpoint of this version, or train from the beginning.",
                    )
                )
            fresh += [] if fits or name.startswith(BODY) else [name]
        network.load_state_dict(state)
        self._tell(elements, relations, fresh)

    def _compare_relations(self, model: Mapping[str, Any]) -> list[str]:
        """Return the sub-networks of relations of elements that the checkpoint does not have.

        Raises:
            ConfigError: it has none of them.
        """
        if not self.partition.elements:
            return []
        known = [_sub_network(name) for name in self.weights]
        names = list(model["network"]["relations"])
        new = [name for name in names if name not in known]
        if new == names:
            raise ConfigError(
                message(
                    "init_from",
                    f"{self.path}, whose relations are {list(self.partition.relations)}",
                    f"one of {names}, those of the data",
                    "Use a checkpoint with elements of the data, or train from the beginning.",
                )
            )
        return new

    def _tell(
        self, elements: Sequence[int], relations: Sequence[str], fresh: Sequence[str]
    ) -> None:
        new = sorted(set(elements) - set(self.elements))
        log.info("network, cutoffs and weights of %s, elements %s", self.path, self.elements)
        if new:
            log.warning("init_from: elements %s are new; their values start afresh", new)
        if relations:
            log.warning("init_from: relations %s are new; they start afresh", list(relations))
        if fresh:
            parts = sorted({name.split(".")[0] for name in fresh})
            log.warning(
                "init_from: read-outs start afresh, other shells (%s): %d tensors of %s",
                self.path,
                len(fresh),
                ", ".join(parts),
            )


def read_initial_weights(init_from: str | None, kind: str) -> InitialWeights | None:
    """Read the checkpoint from which a training starts; None for a new training.

    Args:
        init_from: file, or None.
        kind: "phonon" or "electron", of the task.

    Raises:
        DataError: no such file.
        CheckpointError: it cannot be read.
        ConfigError: it is of the other kind.
    """
    if init_from is None:
        return None
    stamp, weights = load_checkpoint(find_file("init_from", init_from))
    _check_kind("init_from", init_from, stamp["kind"], kind)
    return InitialWeights(init_from, stamp, weights)


def check_resumed(path: str, stamp: Mapping[str, Any], network: nn.Module) -> None:
    """Refuse a checkpoint with which this training cannot go on.

    Args:
        path: of the checkpoint.
        stamp: of this training.
        network: of this training.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: it has no state of an optimizer, or is of another kind, of other elements or
            orbitals, or of another network.
    """
    old, weights = load_checkpoint(path)
    _check_kind("ckpt_path", path, old["kind"], stamp["kind"])
    fix = f"Use init_from={path} to start a new training from its weights."
    if "optimizer_states" not in torch.load(path, map_location="cpu", weights_only=True):
        got = f"{path}, which holds weights and no state of an optimizer"
        raise ConfigError(message("ckpt_path", got, "last.ckpt or best.ckpt of a training", fix))
    for what, read in READERS:
        theirs, ours = read(old), read(stamp)
        if theirs != ours:
            got = f"{path} with the {what} {theirs}"
            raise ConfigError(message("ckpt_path", got, f"{ours}, those of the data", fix))
    own = {name: value.shape for name, value in network.state_dict().items()}
    other = sorted(
        name for name in own.keys() | weights.keys()
        if name not in own or name not in weights or own[name] != weights[name].shape
    )  # fmt: skip
    if other:
        got = f"{path} of another network: {len(other)} tensors differ, {other[0]} among them"
        raise ConfigError(
            message("ckpt_path", got, "a training with this config", f"Give its config, or: {fix}")
        )


def freeze_parts(network: nn.Module, parts: Sequence[str]) -> None:
    """Keep the parameters of some parts of a network as they are.

    Args:
        network: modified.
        parts: names of modules or parameters, such as "network.backbones.intra"; * stands for
            anything.

    Raises:
        ConfigError: a part has no parameters, or nothing is left to train.
    """
    names = dict(network.named_parameters())
    for part in parts:
        chosen = [
            name
            for name in names
            if fnmatch.fnmatchcase(name, part) or fnmatch.fnmatchcase(name, f"{part}.*")
        ]
        if not chosen:
            known = {".".join(n.split(".")[:depth]) for n in names for depth in (1, 2, 3)}
            raise ConfigError(
                message("freeze", repr(part), "a part of the network", suggest(part, known))
            )
        for name in chosen:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise ConfigError(
            message("freeze", f"{list(parts)}, which is everything", "a part", "Freeze less.")
        )


def _check_kind(key: str, path: str, found: str, kind: str) -> None:
    if found != kind:
        raise ConfigError(
            message(
                key,
                f"{path}, a checkpoint of kind {found!r}",
                f"{kind!r}, as the model of this training",
                f"Choose a model of {found} networks, or another checkpoint.",
            )
        )


def _elements(stamp: Mapping[str, Any]) -> list[int]:
    return [int(z) for z in stamp["model"]["network"]["elements"]]


def _shells(stamp: Mapping[str, Any]) -> dict[int, list[int]] | None:
    shells = stamp.get("basis", {}).get("shells")
    return None if shells is None else {int(z): list(ls) for z, ls in shells.items()}


READERS: tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("elements", _elements),
    ("shells", _shells),
)


def _sub_network(name: str) -> str | None:
    """Return the name of the sub-network of a weight; None of others."""
    rest = name.removeprefix(SUB_NETWORKS)
    return None if rest == name else rest.split(".")[0]


def _clear(config: Any, keys: Collection[str]) -> Any:
    if isinstance(config, Mapping):
        return {k: None if k in keys else _clear(v, keys) for k, v in config.items()}
    return [_clear(value, keys) for value in config] if isinstance(config, list) else config


def _add_element(config: Any, elements: Sequence[int]) -> Any:
    """Return the config of a network that knows one element more, like the last one."""
    extra = next(z for z in range(1, 119) if z not in elements)
    if isinstance(config, list):
        return [_add_element(value, elements) for value in config]
    if not isinstance(config, Mapping):
        return config
    longer: dict[str, Any] = {}
    for key, value in config.items():
        if key == "partition":  # relations have configs of their own
            longer[key] = value
        elif key == "elements":
            longer[key] = [*value, extra]
        elif key == "atomic_energies":
            longer[key] = [*value, value[-1]]
        elif key in ("shells", "radii", "names") and isinstance(value, Mapping):
            longer[key] = {**value, type(next(iter(value)))(extra): list(value.values())[-1]}
        else:
            longer[key] = _add_element(value, elements)
    return longer


def _list_slots(model: Mapping[str, Any]) -> Any:
    """Return the layout of the blocks that a network reads out; None without blocks."""
    if "basis" not in model:
        return None
    return list(BlockTargets(model["network"]["elements"], model["basis"]["shells"]).slots)


def _copy(
    source: Tensor,
    target: Tensor,
    probe: Sequence[int],
    known: Sequence[int],
    elements: Sequence[int],
) -> bool:
    """Copy what belongs to known elements; return whether the shapes allow it.

    Args:
        source: of the checkpoint.
        target: of the new network; modified.
        probe: shape with one element more, which shows the axis of elements or of their pairs.
        known: atomic numbers of the checkpoint.
        elements: atomic numbers of the network.
    """
    n, axes = len(elements), [a for a, m in enumerate(probe) if m != target.shape[a]]
    if not axes:
        if source.shape != target.shape:
            return False
        target.copy_(source)
        return True
    axis = axes[0]
    paired = target.shape[axis] == n**2 and probe[axis] == (n + 1) ** 2
    expected = list(target.shape)
    expected[axis] = len(known) ** 2 if paired else len(known)
    if len(axes) > 1 or list(source.shape) != expected:
        return False
    shared = [(i, known.index(z)) for i, z in enumerate(elements) if z in known]
    places = (
        [(i * n + j, a * len(known) + b) for i, a in shared for j, b in shared]
        if paired
        else shared
    )
    for new, old in places:
        target.select(axis, new).copy_(source.select(axis, old))
    return True
