"""Measure what tables of radial functions gain: energy and forces with and without, in turn.

``python benchmarks/radial_tables.py [--sizes small published] [--dtypes float32 float64]
[--atoms 64] [--rounds 20] [--hedgenet]``.

MACE with the widths of conf/size and random weights on AB bilayer graphene, rattled by 0.05 Å; one
thread, one process, both networks after each other in every round, first the one, then the other.
Times are processor seconds, so that other jobs of the machine enter by the
caches alone. Ratios are exact / tables within a round: median, and the quartiles in brackets; the
ratio of the fastest rounds stands beside it. Forces and force constants are compared in float64
with the exact network, and in float32 as well. Memory is the highest resident size of one run above
that before it.

Writes ``results/radial_tables.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed_settings import (
    CUTOFFS,
    MEAN_NEIGHBOURS,
    MODELS,
    build_structure,
    describe_machine,
    read_sizes,
)
from workers.ours import build_network
from workers.protocol import read_status, reset_peak, return_free_memory

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.memory import keep_freed_memory
from mlepi.project_files import find_commit

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SIDES = ("exact", "tables")


def processor_seconds(network: torch.nn.Module, graph: Any) -> float:
    """Return the processor seconds of energy and forces."""
    start = time.process_time()
    network(graph)
    return time.process_time() - start


def measure_memory(network: torch.nn.Module, graph: Any) -> float | None:
    """Return the memory of one run, MB; None where the system does not tell."""
    return_free_memory()
    before = read_status("VmRSS")
    if not reset_peak() or before is None:
        return None
    network(graph)
    peak = read_status("VmHWM")
    return None if peak is None else peak - before


def compare_forces(networks: dict[str, torch.nn.Module], graph: Any, exact: Any) -> dict[str, Any]:
    """Return the largest error of the forces of both sides, in units of the largest force."""
    largest = exact.abs().max()
    return {
        side: float((network(graph)["forces"].double() - exact).abs().max() / largest)
        for side, network in networks.items()
    }


def measure(
    size: str, n_atoms: int, dtypes: list[str], rounds: int, model: str
) -> list[dict[str, Any]]:
    """Measure one network in some precisions.

    Args:
        size: "small" or "published".
        n_atoms: of the structure.
        dtypes: "float32", "float64".
        rounds: of both sides in turn.
        model: name in conf/model.

    Returns:
        One row per precision.
    """
    atoms = build_structure(n_atoms)
    cutoffs = dict.fromkeys(fields.RELATIONS, CUTOFFS["phonon"])
    request = {
        "model": model,
        "kind": "phonon",
        "size": read_sizes()[size]["phonon"],
        "cutoff": CUTOFFS["phonon"],
        "mean_neighbours": MEAN_NEIGHBOURS["phonon"],
    }
    torch.manual_seed(0)
    exact: Any = build_network(request, sorted(set(atoms.numbers.tolist())))
    exact = exact.double().eval().requires_grad_(False)
    tabulated = copy.deepcopy(exact)
    start = time.process_time()
    tabulated.tabulate_radial()
    building = time.process_time() - start
    reference = exact(build_graph(atoms, cutoffs, dtype=torch.float64))["forces"]
    backbone = next(iter(tabulated.network.sub_networks.values()))
    rows = []
    for name in dtypes:
        dtype = getattr(torch, name)
        graph = build_graph(atoms, cutoffs, dtype=dtype)
        networks = {
            "exact": copy.deepcopy(exact).to(dtype),
            "tables": copy.deepcopy(tabulated).to(dtype),
        }
        for network in networks.values():
            processor_seconds(network, graph)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(rounds):
            for side in SIDES if number % 2 else SIDES[::-1]:
                seconds[side].append(processor_seconds(networks[side], graph))
        ratios = np.divide(seconds["exact"], seconds["tables"])
        rows.append(
            {
                "model": model,
                "size": size,
                "n_atoms": n_atoms,
                "dtype": name,
                "rounds": rounds,
                "seconds": seconds,
                "ratio": float(np.median(ratios)),
                "quartiles": [float(q) for q in np.percentile(ratios, (25, 75))],
                "ratio_of_fastest": min(seconds["exact"]) / min(seconds["tables"]),
                "force_errors": compare_forces(networks, graph, reference),
                "memory_mb": {s: measure_memory(networks[s], graph) for s in SIDES},
                "intervals": backbone.radial_tables.num_intervals,
                "building_seconds": building,
                "tables_mb": sum(
                    t.numel() * dtype.itemsize / 2**20
                    for b in tabulated.network.sub_networks.values()
                    for t in b.radial_tables.buffers()
                ),
            }
        )
    return rows


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| model | size | atoms | dtype | exact / tables, s (median; fastest) | exact / tables | "
        "of the fastest | error of forces, exact / tables | memory, exact / tables, MB | "
        "tables, MB | building, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        medians = [f"{np.median(row['seconds'][side]):.4f}" for side in SIDES]
        fastest = [f"{min(row['seconds'][side]):.4f}" for side in SIDES]
        low, high = row["quartiles"]
        errors = [f"{row['force_errors'][side]:.0e}" for side in SIDES]
        memory = ["–" if (m := row["memory_mb"][s]) is None else f"{m:.0f}" for s in SIDES]
        lines.append(
            f"| {row['model']} | {row['size']} | {row['n_atoms']} | {row['dtype']} | "
            f"{' / '.join(medians)}; {' / '.join(fastest)} | {row['ratio']:.2f} ({low:.2f}–"
            f"{high:.2f}) | {row['ratio_of_fastest']:.2f} | {' / '.join(errors)} | "
            f"{' / '.join(memory)} | {row['tables_mb']:.1f} | {row['building_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Measure what tables of radial functions gain.")
    parser.add_argument("--sizes", nargs="+", default=["small", "published"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--atoms", nargs="+", type=int, default=[64])
    parser.add_argument("--rounds", type=int, default=20, help="of both sides in turn")
    parser.add_argument("--hedgenet", action="store_true", help="two sub-networks, not one")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = MODELS["phonon"][int(chosen.hedgenet)]
    rows = [
        row
        for size in chosen.sizes
        for n_atoms in chosen.atoms
        for row in measure(size, n_atoms, chosen.dtypes, chosen.rounds, model)
    ]
    command = " ".join(["python benchmarks/radial_tables.py", *sys.argv[1:]])
    machine = describe_machine()
    table = tabulate(rows)
    print(table)
    text = (
        f"# What tables of radial functions gain\n\n`{command}`, {machine['processor']}, one core, "
        f"other jobs on the machine, torch {torch.__version__}; processor seconds of energy and "
        f"forces, both sides in turn, {chosen.rounds} rounds.\n\n{table}\n"
    )
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "radial_tables.md").write_text(text, encoding="utf-8")
    record = {
        "command": command,
        "commit": find_commit(ROOT / "mlepi"),
        "machine": machine,
        "rows": rows,
    }
    (chosen.output / "radial_tables.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
