"""Relations, parameters and time of HermNet and HedgeNet beside one plain network.

    OMP_NUM_THREADS=1 python benchmarks/partitions.py

Toys: a rattled 3×3 bilayer whose sites hold one, two or three elements. Sub-networks are
``model=mace`` at ``size=small`` with random weights; every edge within 5 Å counts in all of them.
Energies, forces and the derivatives that a training step needs are timed in turn, in processor
seconds of one process; ratios are medians over the rounds. Writes
``benchmarks/results/partitions.md``.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.graphs.partitions import LAYERS, Partition
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import build_graphene
from mlepi.training.facts import count_neighbours, fill_facts

RESULT = Path(__file__).resolve().parent / "results" / "partitions.md"
CUTOFF = 5.0
ELEMENTS = {1: (6,), 2: (5, 7), 3: (5, 6, 7)}
ROUNDS = 3
PLAIN = "mace"
FORMULAS = {
    PLAIN: "1",
    "hedgenet_phonon": "2",
    "hermnet_vertex": "n",
    "hermnet_pair": "n(n+1)/2",
    "hermnet_triplet": "n²(n+1)/2",
}
"""Model → number of its sub-networks for n elements."""
READING = (
    "HermNet (Wang et al. 2022, npj Comput. Mater. 8, 53) has O(n), O(n²) and O(n³) sub-networks "
    "for centres, pairs and triplets, and as many times the parameters. Edges do not grow so: each "
    "is in one pair, has one centre and is in n triplets. The rest of the time is work on nodes, "
    "which every sub-network does for all atoms. Rows of n = 1 are the same computation four "
    "times and show the noise of the ratios.",
)
KINDS = {
    "hermnet_vertex": "vertices",
    "hermnet_pair": "element_pairs",
    "hermnet_triplet": "triplets",
}


def build_toy(n_elements: int) -> Atoms:
    """Build the rattled bilayer with its sites dealt out to the elements in turn."""
    atoms = build_graphene("AB").repeat((3, 3, 1))
    elements = ELEMENTS[n_elements]
    atoms.numbers = np.array([elements[k % n_elements] for k in range(len(atoms))])
    atoms.positions += np.random.default_rng(1).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def build_case(
    model: str, atoms: Atoms, sizes: tuple[str, ...] = ()
) -> tuple[nn.Module, AtomGraph]:
    """Build network and graph of a model for a toy.

    Args:
        model: key of ``FORMULAS``.
        atoms: the toy.
        sizes: overrides of the configuration.
    """
    elements = tuple(sorted({int(z) for z in atoms.numbers}))
    partition = Partition(KINDS[model], elements) if model in KINDS else LAYERS
    cutoffs = dict.fromkeys(partition.relations, CUTOFF)
    graph = build_graph(atoms, cutoffs, partition=partition)
    with initialize_config_dir(str(PROJECT_FOLDER / "conf"), version_base="1.3"):
        config = compose("train", [f"model={model}", "name=toy", *sizes])
    plain: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(config, ["model", "size", "graph"]), resolve=True
    )
    plain["model"]["network"]["backbone"]["cutoffs"] = cutoffs
    facts = {
        "elements": list(elements),
        "atomic_energies": [0.0] * len(elements),
        "energy_scale": 1.0,
        "mean_neighbours": count_neighbours([graph], partition),
        "partition": partition.to_dict(),
    }
    torch.manual_seed(1)
    return instantiate(fill_facts(plain["model"], facts), _convert_="all").train(), graph


def count_edges(graph: AtomGraph, network: Any) -> int:
    """Count the edges that all sub-networks see together."""
    return sum(
        graph[fields.edge_type(relation)][fields.EDGE_INDEX].shape[1]
        for seen in network.network.relations.values()
        for relation in seen
    )


def time_step(network: nn.Module, graph: AtomGraph) -> float:
    """Return the processor seconds of energies, forces and the gradient of their squares."""
    network.zero_grad()
    start = time.process_time()
    results = network(graph)
    (results["energy"].sum() + results["forces"].square().sum()).backward()
    return time.process_time() - start


def measure(
    n_elements: int, rounds: int = ROUNDS, sizes: tuple[str, ...] = ()
) -> dict[str, dict[str, float]]:
    """Measure all models on one toy.

    Returns:
        Model → "sub_networks", "edges" and "parameters" (both over those of the plain network),
        "seconds" of a step and their "ratio" to the plain network, median over the rounds.
    """
    atoms = build_toy(n_elements)
    cases: Mapping[str, Any] = {model: build_case(model, atoms, sizes) for model in FORMULAS}
    for network, graph in cases.values():
        time_step(network, graph)
    times = [{m: time_step(*case) for m, case in cases.items()} for _ in range(rounds)]
    plain, plain_graph = cases[PLAIN]
    parameters = {m: sum(p.numel() for p in n.parameters()) for m, (n, _) in cases.items()}
    edges = count_edges(plain_graph, plain)
    return {
        model: {
            "sub_networks": len(network.network.relations),
            "edges": count_edges(graph, network) / edges,
            "parameters": parameters[model] / parameters[PLAIN],
            "seconds": statistics.median(row[model] for row in times),
            "ratio": statistics.median(row[model] / row[PLAIN] for row in times),
        }
        for model, (network, graph) in cases.items()
    }


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    lines = [
        "# What dividing the edges costs",
        "",
        f"`python benchmarks/partitions.py`, {platform.machine()}, one core; 36 atoms, every edge "
        f"within {CUTOFF:g} Å, MACE at `size=small`, float32. Edges, parameters and time of a "
        "training step are over those of the plain network; edges are counted once for every "
        f"sub-network that sees them. Median of {ROUNDS} rounds.",
        "",
        "| elements n | model | sub-networks | | edges | parameters | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for n_elements in ELEMENTS:
        for model, row in measure(n_elements).items():
            lines.append(
                f"| {n_elements} | `{model}` | {row['sub_networks']} | {FORMULAS[model]} "
                f"| {row['edges']:.2f} | {row['parameters']:.2f} | {row['ratio']:.2f} |"
            )
    lines += ["", *READING]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
