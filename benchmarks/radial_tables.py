"""Measure what tables of radial functions gain, by torch and by the kernels in C++, in turn.

``python benchmarks/radial_tables.py [--sizes small published] [--dtypes float32 float64]
[--atoms 64] [--rounds 20] [--hedgenet]``.

MACE with the widths of conf/size and random weights on AB bilayer graphene, rattled by 0.05 Å; one
thread, one process; energy and forces without tables, with tables, and with tables and
``compile=true``, in every round one after the other, in turning order. Times are processor seconds,
so that other jobs of the machine enter by the caches alone. Ratios are those to the exact network
within a round: median, and the quartiles in brackets; the ratio of the fastest rounds stands beside
it. Forces are compared with the exact network in float64. Memory is the highest resident size of
one run above that before it. The kernels are built before, unless they are in the cache.

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
SIDES = ("exact", "tables", "compiled")


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
    """Return the largest error of the forces of all sides, in units of the largest force."""
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
        rounds: of all sides in turn.
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
            "compiled": copy.deepcopy(tabulated).to(dtype),
        }
        networks["compiled"].compile_kernels()
        for network in networks.values():
            processor_seconds(network, graph)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(rounds):
            first = number % len(SIDES)
            for side in SIDES[first:] + SIDES[:first]:
                seconds[side].append(processor_seconds(networks[side], graph))
        ratios = {side: np.divide(seconds["exact"], seconds[side]) for side in SIDES[1:]}
        rows.append(
            {
                "model": model,
                "size": size,
                "n_atoms": n_atoms,
                "dtype": name,
                "rounds": rounds,
                "seconds": seconds,
                "ratios": {side: float(np.median(found)) for side, found in ratios.items()},
                "quartiles": {
                    side: [float(q) for q in np.percentile(found, (25, 75))]
                    for side, found in ratios.items()
                },
                "ratios_of_fastest": {
                    side: min(seconds["exact"]) / min(seconds[side]) for side in ratios
                },
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
        "| model | size | atoms | dtype | s (median; fastest) | exact / tables | "
        "exact / compiled | of the fastest | error of forces | memory, MB | tables, MB | "
        "making them, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        medians = [f"{np.median(row['seconds'][side]):.4f}" for side in SIDES]
        fastest = [f"{min(row['seconds'][side]):.4f}" for side in SIDES]
        ratios = [
            f"{row['ratios'][side]:.2f} ({row['quartiles'][side][0]:.2f}–"
            f"{row['quartiles'][side][1]:.2f})"
            for side in SIDES[1:]
        ]
        of_fastest = [f"{row['ratios_of_fastest'][side]:.2f}" for side in SIDES[1:]]
        errors = [f"{row['force_errors'][side]:.0e}" for side in SIDES]
        memory = ["–" if (m := row["memory_mb"][s]) is None else f"{m:.0f}" for s in SIDES]
        lines.append(
            f"| {row['model']} | {row['size']} | {row['n_atoms']} | {row['dtype']} | "
            f"{' / '.join(medians)}; {' / '.join(fastest)} | {' | '.join(ratios)} | "
            f"{' / '.join(of_fastest)} | {' / '.join(errors)} | "
            f"{' / '.join(memory)} | {row['tables_mb']:.1f} | {row['building_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Measure what tables of radial functions gain.")
    parser.add_argument("--sizes", nargs="+", default=["small", "published"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--atoms", nargs="+", type=int, default=[64])
    parser.add_argument("--rounds", type=int, default=20, help="of all sides in turn")
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
        f"forces, {chosen.rounds} rounds. Values of one column: exact / with tables / with tables "
        f"and `compile=true`.\n\n{table}\n"
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
