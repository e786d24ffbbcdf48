"""Time the loss in the metric of S beside a whole training step.

``python benchmarks/metric_loss.py [--model MODEL] [--size SIZE] [--rounds N]``.

Forward and backward of one structure, one thread, fastest of a few rounds, for the largest training
structure of the shipped data; the preparation (Cholesky factor, or eigenvectors where states count
differently) happens once per structure and k-point.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import OmegaConf

from mlepi.graphs import fields
from mlepi.training.losses import BlockErrors, compute_block_errors, global_loss
from mlepi.training.metric_loss import MEASURING, MetricLoss
from mlepi.training.run import build_data, build_task

CONF = Path(__file__).resolve().parents[1] / "conf"
KINDS: dict[str, dict[str, Any]] = {
    "Cholesky": {},
    "eigenvectors, damped": {"damping": 5.0, "low": 10.0, "high": 0.1},
}


def find_fastest(function: Callable[[], Any], rounds: int) -> float:
    """Return the shortest time of some calls, s."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure(overrides: list[str], rounds: int) -> dict[str, float]:
    """Measure the times of a step without the term, of the term and of its preparation.

    Args:
        overrides: of the configuration of a training.
        rounds: calls of which the fastest counts.

    Returns:
        "n_atoms", "step" (s) and for every kind its "preparation" (s) and "term" (s).
    """
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = hydra.compose("train", ["name=benchmark", *overrides])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    data = build_data(plain)
    task = build_task(plain, data)
    sizes = [graph[fields.ATOM].num_nodes for graph in data.graphs["train"]]
    data.graphs["val"] = [data.graphs["train"][sizes.index(max(sizes))]]
    graph = next(iter(data.batches("val")))
    mask: Any = task.orbital_mask

    def predict() -> BlockErrors:
        return compute_block_errors(task.model(graph), graph, mask)

    def step() -> None:
        task.zero_grad()
        global_loss(task.loss(predict())).backward()

    step()
    found = {"n_atoms": float(max(sizes)), "step": find_fastest(step, rounds)}
    errors = predict()
    leaves = {name: value.detach().requires_grad_() for name, value in errors.difference.items()}
    leaf_errors = BlockErrors(leaves, errors.overlap, errors.mask, errors.graph, errors.n_graphs)
    for kind, settings in KINDS.items():
        metric = MetricLoss(**{**MEASURING, "weight": 1.0, **settings})
        begin = time.perf_counter()
        metric.find_frames(leaf_errors, graph, 0)
        found[f"{kind}: preparation"] = time.perf_counter() - begin
        found[f"{kind}: term"] = find_fastest(
            lambda metric=metric: global_loss(metric(leaf_errors, graph, 0)).backward(), rounds
        )
    return found


def main() -> None:
    """Read the command line and print the times."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="hedgenet_electron")
    parser.add_argument("--size", default="small")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = measure([f"model={chosen.model}", f"size={chosen.size}"], chosen.rounds)
    print(f"{chosen.model}, {chosen.size}, {found['n_atoms']:.0f} atoms")
    print(f"training step without the term: {found['step']:.3f} s")
    for kind in KINDS:
        term, preparation = found[f"{kind}: term"], found[f"{kind}: preparation"]
        print(
            f"{kind}: {term:.3f} s, {100.0 * term / found['step']:.1f} % of a step; "
            f"prepared once per k-point in {preparation:.2f} s"
        )


if __name__ == "__main__":
    main()
