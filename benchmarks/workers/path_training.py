"""The path-by-path DeepH-E3 network in our training: ``train.py`` with this network for its own.

``python -m workers.path_training FOLDER OVERRIDES…``: the overrides are those of a training with
``model=deeph_e3``, whose sizes the network takes. A command that was killed goes on when it is
given again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from path_network import PathNetwork
from torch import Tensor, nn

from mlepi import checkpoint
from mlepi.command_line.composition import compose_config
from mlepi.graphs import fields
from mlepi.memory import keep_freed_memory
from mlepi.project_files import CONFIG_FOLDER
from mlepi.training.jobs import run_job

TARGET = "workers.path_training.PathModel"


class PathModel(nn.Module):
    """``PathNetwork`` on our graphs, one structure at a time.

    Args:
        network: "elements", atomic numbers, and the sizes of ``PathNetwork``.
        shells: atomic number → angular momenta, the same for all elements.
        cutoffs: relation → Å, the same for all relations.
    """

    def __init__(
        self,
        *,
        network: Mapping[str, Any],
        shells: Mapping[int, Sequence[int]],
        cutoffs: Mapping[str, float],
    ) -> None:
        super().__init__()
        sizes = dict(network)
        self.elements: list[int] = list(sizes.pop("elements"))
        (own,) = {tuple(ls) for ls in shells.values()}
        (cutoff,) = set(cutoffs.values())
        self.network = PathNetwork(
            n_elements=len(self.elements), shells=own, cutoff=cutoff, **sizes
        )

    def forward(self, graph: Any) -> dict[str, Any]:
        """Return "onsite_blocks" and "edge_blocks" as ``mlepi.models.ElectronNetwork`` does, eV."""
        atoms, (cell,) = graph[fields.ATOM], graph[fields.CELL]
        numbers = torch.tensor(self.elements, device=cell.device)
        species = torch.searchsorted(numbers, atoms[fields.NUMBERS])
        own = torch.arange(len(species), device=cell.device)
        stores = [graph[fields.edge_type(relation)] for relation in fields.RELATIONS]
        indices = [*(store[fields.EDGE_INDEX] for store in stores), torch.stack([own, own])]
        shifts = [*(store[fields.EDGE_CELL_SHIFT] for store in stores), own.new_zeros(len(own), 3)]
        source, target = torch.cat(indices, dim=1)
        positions: Tensor = atoms[fields.POSITIONS]
        shift = torch.cat([each.to(positions.dtype) for each in shifts])
        vectors = positions[source] + shift @ cell.to(positions.dtype) - positions[target]
        blocks = self.network(species, source, target, vectors)
        *parts, on_site = blocks.split([index.shape[1] for index in indices])
        return {
            "onsite_blocks": on_site,
            "edge_blocks": dict(zip(fields.RELATIONS, parts, strict=True)),
        }


def replace_network(config: DictConfig) -> None:
    """Put the path-by-path network with the sizes of ``model=deeph_e3`` in its place."""
    size = config.size.electron
    config.name = "path_by_path"
    network = {
        "elements": None,
        "channels": list(size.channels),
        "embedding_channels": size.channels[0],
        "l_max": size.l_max,
        "num_layers": size.num_layers,
        "num_radial": size.num_radial,
        "radial_hidden": list(size.radial_hidden),
    }
    config.model = {"_target_": TARGET, "network": network, "shells": None, "cutoffs": None}


def main(arguments: Sequence[str]) -> None:
    """Train.

    Args:
        arguments: run folder, then overrides of ``train.py``.
    """
    keep_freed_memory()
    checkpoint.list_backbones = lambda: {TARGET}  # what an installed plug-in would do
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder, overrides = Path(arguments[0]), list(arguments[1:])
    config = compose_config(CONFIG_FOLDER, "train", [*overrides, "name=path_by_path"])
    replace_network(config)
    run_job(config, folder, overrides)


if __name__ == "__main__":
    main(sys.argv[1:])
