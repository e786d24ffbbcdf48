"""Measure speed and memory beside the peers, in turn, on equal terms.

``make bench``, ``make bench-quick``.

Four works: energy and forces, and a training step, against mace-torch, the former against
Symmetrix-XL too; Hamiltonian blocks, and a training step, against a path-by-path DeepH-E3 network
in e3nn (``path_network.py``). Structures are AB bilayer graphene n×n at 3.35 Å, rattled by 0.05 Å
with a fixed seed; widths are those of conf/size; weights are random (those of mace-torch are copied
into ours, so that both can be seen to compute the same). Each side is a process of its own
(``workers/``) with the same threads and allocator settings; after the warm-up they run in turn, so
that a disturbance of the machine meets both. Neighbour lists are not counted on either side. Times
are medians over the rounds, ratios medians of the ratios within the rounds, peer / ours.

Writes ``latest.json`` (short), ``details.json`` (everything), ``latest.md`` (tables) and figures as
rows come in.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kernel_floors import FLOOR_ATOMS, measure_floors
from rich.console import Console
from rich.table import Table
from speed_figures import plot_growth, plot_labels
from speed_results import (
    LABELS,
    Row,
    choose_clock,
    describe,
    main_table,
    number,
    read_details,
    summarise_sides,
    write_results,
)
from speed_settings import (
    BASIS,
    BENCHMARKS,
    CUTOFFS,
    LARGE,
    MEAN_NEIGHBOURS,
    MODELS,
    PEERS,
    ROOT,
    Settings,
    describe_machine,
    kind_of,
    parse,
    write_structure,
)
from workers.client import ALLOCATOR, Worker, WorkerError, measure_in_turn

from mlepi.errors import ConfigError, MlepiError, message
from mlepi.project_files import find_commit


@dataclass
class Side:
    """One process of a comparison and what is known about it.

    Attributes:
        worker: module in ``workers``.
        request: what every "prepare" of it says.
        atoms: sizes at which it takes part; None for all.
        history: (n_atoms, seconds of a run, peak memory in MB or None) of the sizes so far.
    """

    worker: str
    request: dict[str, Any]
    atoms: tuple[int, ...] | None = None
    history: list[tuple[int, float, float | None]] = field(default_factory=list)

    def expect(self, n_atoms: int) -> tuple[float, float]:
        """Return seconds and MB to expect at a size, in proportion to the last one."""
        if not self.history:
            return 0.0, 0.0
        last, seconds, peak = self.history[-1]
        return seconds * n_atoms / last, (peak or 0.0) * n_atoms / last


class Benchmark:
    """One run of the benchmark.

    Args:
        settings: what to measure.
        command: shown with the results.
        details: of an earlier run to be continued; its rows of the same commit and those not
            covered now are kept.
        console: for the progress.
    """

    def __init__(
        self,
        settings: Settings,
        command: str,
        details: Row | None = None,
        console: Console | None = None,
    ) -> None:
        self.settings, self.console = settings, console or Console()
        unknown = [work for work in settings.works if work not in LABELS]
        if unknown:
            raise ConfigError(
                message(
                    "--works",
                    ", ".join(unknown),
                    f"some of {', '.join(LABELS)}",
                    "Separate them by spaces, or leave --works out for all.",
                )
            )
        if (
            any(kind_of(work) == "phonon" for work in settings.works)
            and not settings.peers_python.exists()
        ):
            fix = "`make bench` makes it; or choose --works hamiltonian electron_train_step."
            raise ConfigError(
                message(
                    "--peers",
                    f"no interpreter {settings.peers_python}",
                    "the environment of mace-torch",
                    fix,
                )
            )
        self.scratch = Path()  # structures and shared weights, while it runs
        commit = find_commit(ROOT / "mlepi")
        earlier = (details or {}).get("rows", [])
        kept = [row for row in earlier if row["commit"] == commit or not settings.covers(row)]
        for row in kept:
            row.setdefault("processor", (details or {})["machine"]["processor"])
        self.details: Row = {
            "command": command,
            "commit": commit,
            "machine": describe_machine(),
            "allocator": ALLOCATOR,
            "versions": {
                name: importlib.metadata.version(name) for name in ("torch", "e3nn", "numpy")
            },
            "notes": [],
            "rows": kept,
            "floors": (details or {}).get("floors"),
        }

    def run(self) -> Row:
        """Measure everything, write after every row, and return the details."""
        with tempfile.TemporaryDirectory() as scratch:
            self.scratch = Path(scratch)
            self._measure_all()
        write_results(self.details, self.settings.folder)
        return self.details

    def _measure_all(self) -> None:
        chosen = self.settings
        for threads in chosen.threads:
            for work in chosen.works:
                self._compare_peer(work, threads, chosen.atoms)
        if chosen.small_atoms and "energy_forces" in chosen.works:
            self._compare_peer("energy_forces", 1, chosen.small_atoms, "small")
        for work in chosen.works:
            if chosen.hedgenet_atoms:
                backbone, hedgenet = (
                    self._side("ours", work, model=model) for model in MODELS[kind_of(work)]
                )
                self._series(
                    work,
                    "hedgenet",
                    1,
                    chosen.hedgenet_atoms,
                    {"backbone": backbone, "hedgenet": hedgenet},
                )
        if chosen.large and "hamiltonian" in chosen.works:
            sides = {"ours": self._side("ours", "hamiltonian", size="small")}
            self._series("hamiltonian", "peer", 1, (LARGE,), sides, size="small")
        if chosen.floors:
            requests = {
                work: self._side("ours", work).request for work in ("energy_forces", "hamiltonian")
            }
            self.details["floors"] = measure_floors(
                requests, self._structure(FLOOR_ATOMS), FLOOR_ATOMS
            )

    def _side(
        self, worker: str, work: str, size: str = "published", model: str | None = None, **more: Any
    ) -> Side:
        kind, chosen = kind_of(work), self.settings
        request = {
            "work": work,
            "kind": kind,
            "model": model or MODELS[kind][0],
            "size": chosen.sizes[size][kind],
        }
        request |= {"cutoff": CUTOFFS[kind], "mean_neighbours": MEAN_NEIGHBOURS[kind]}
        request |= {"basis": BASIS, "dtype": chosen.dtype, "device": chosen.device}
        tables = work == "energy_forces" and chosen.device == "cpu"
        request |= {"compile": False, "last": "blocks", "tables": tables}
        return Side(worker, {**request, **more})

    def _compare_peer(
        self, work: str, threads: int, atoms: Sequence[int], size: str = "published"
    ) -> None:
        """Measure a work at some numbers of atoms against its peer.

        On request our compiled network takes part, and Symmetrix where it can.
        """
        shared = str(self.scratch / "weights.npz") if work == "energy_forces" else None
        sides = {
            "peer": self._side(PEERS[kind_of(work)], work, size, weights=shared),
            "ours": self._side("ours", work, size, weights=shared),
        }
        chosen = self.settings
        beside_symmetrix = chosen.symmetrix and work == "energy_forces"
        if beside_symmetrix:
            sides["symmetrix"] = self._side("symmetrix_peer", work, size)
        if beside_symmetrix or (chosen.compiled_atoms and threads == 1):
            sides["compiled"] = self._side("ours", work, size, weights=shared, compile=True)
            sides["compiled"].atoms = None if beside_symmetrix else chosen.compiled_atoms
        self._series(work, "peer", threads, atoms, sides, size)

    def _series(
        self,
        work: str,
        comparison: str,
        threads: int,
        atoms: Sequence[int],
        sides: dict[str, Side],
        size: str = "published",
    ) -> None:
        """Measure some sides at ascending sizes; each keeps its process and its network."""
        workers: dict[str, Worker] = {}
        key = {
            "work": work,
            "comparison": comparison,
            "threads": threads,
            "dtype": self.settings.dtype,
            "size": size,
        }
        try:
            for n_atoms in sorted(atoms):
                if any(
                    {**key, "n_atoms": n_atoms}.items() <= row.items()
                    for row in self.details["rows"]
                ):
                    continue
                self._measure_row({**key, "n_atoms": n_atoms}, sides, workers)
        finally:
            for worker in workers.values():
                worker.close()

    def _measure_row(self, key: Row, sides: dict[str, Side], workers: dict[str, Worker]) -> None:
        clock = choose_clock(key["threads"], self.settings.device)
        prepared, facts = self._prepare(key, sides, workers)
        if not prepared:
            return
        each = sum(seconds for found in facts.values() for seconds in found["warmup_seconds"][-1:])
        rounds = min(self.settings.rounds, max(3, int(self.settings.budget / each))) if each else 1
        try:
            samples = measure_in_turn(prepared, rounds)
        except WorkerError as error:
            self._note(f"{describe(key)}: {error}")
            for name in prepared:
                self._drop(name, key, "the round in which it took part failed", sides, workers)
            return
        measured, ratios = summarise_sides(
            samples, clock, "backbone" if key["comparison"] == "hedgenet" else "peer"
        )
        for name, found in measured.items():
            found |= facts[name]
            sides[name].history.append((key["n_atoms"], found["seconds"], found["peak_mb"]))
        row = {
            **key,
            "clock": clock,
            "commit": self.details["commit"],
            "processor": self.details["machine"]["processor"],
            "peer": facts.get("peer", {}).get("name"),
        }
        row |= {"sides": measured, "ratios": ratios, "agreement": compare_results(prepared)}
        if "symmetrix" in measured:
            row["symmetrix_ratios"] = summarise_sides(samples, clock, "symmetrix")[1]
        self.details["rows"].append(row)
        write_results(self.details, self.settings.folder)
        parts = [f"{name} {number(found['seconds'])} s" for name, found in measured.items()]
        parts += [f"{name} ×{number(ratio)}" for name, ratio in ratios.items()]
        self.console.print(f"{describe(key)}: {', '.join(parts)}", highlight=False, soft_wrap=True)

    def _prepare(
        self, key: Row, sides: dict[str, Side], workers: dict[str, Worker]
    ) -> tuple[dict[str, Worker], dict[str, dict[str, Any]]]:
        """Start the processes that are missing, and give all the structure.

        The peer first, because ours take its weights.
        """
        structure = self._structure(key["n_atoms"])
        warmup = 0 if key["n_atoms"] >= LARGE else 2
        prepared: dict[str, Worker] = {}
        facts: dict[str, dict[str, Any]] = {}
        for name in sorted(self._affordable(key, sides), key=lambda name: name != "peer"):
            side = sides[name]
            request = {**side.request, "structure": str(structure), "warmup": warmup}
            if name != "peer" and "peer" not in workers:
                request["weights"] = None
            try:
                if name not in workers:
                    theirs = side.worker in ("mace_peer", "symmetrix_peer")
                    python = self.settings.peers_python if theirs else sys.executable
                    workers[name] = Worker(side.worker, key["threads"], python)
                facts[name] = workers[name].ask("prepare", **request)
                prepared[name] = workers[name]
            except WorkerError as error:
                self._drop(name, key, str(error), sides, workers)
        return prepared, facts

    def _structure(self, n_atoms: int) -> Path:
        return write_structure(n_atoms, self.scratch / f"{n_atoms}.npz")

    def _affordable(self, key: Row, sides: Mapping[str, Side]) -> list[str]:
        """Choose the sides that can be expected to fit into memory and patience.

        Ours first, then the rest.
        """
        chosen, total = [], 0.0
        for name in sorted(sides, key=lambda name: name not in ("ours", "backbone")):
            side = sides[name]
            if side.atoms is not None and key["n_atoms"] not in side.atoms:
                continue
            seconds, peak = side.expect(key["n_atoms"])
            if seconds > self.settings.patience or total + peak > self.settings.memory_mb:
                self._note(
                    f"{describe(key)}: {name} left out, about {number(seconds)} s and "
                    f"{number(peak)} MB expected."
                )
                continue
            chosen.append(name)
            total += peak
        return chosen

    def _drop(
        self, name: str, key: Row, reason: str, sides: dict[str, Side], workers: dict[str, Worker]
    ) -> None:
        """Leave out a side from now on."""
        self._note(f"{describe(key)}: {name} left out from here on. {reason}")
        sides[name].atoms = ()
        if name in workers:
            workers.pop(name).close()

    def _note(self, text: str) -> None:
        self.details["notes"].append(text)
        self.console.print(text, style="yellow", highlight=False, soft_wrap=True)


def compare_results(workers: Mapping[str, Worker]) -> dict[str, dict[str, float]]:
    """Compare what both sides predict, where they have the same weights.

    Returns:
        Side → "energy" (largest difference from the peer, eV/atom) and "forces" (in units of the
        peer's largest force).
    """
    if "peer" not in workers:
        return {}
    reference = workers["peer"].ask("check")
    if not reference:
        return {}
    forces = np.array(reference["forces"])
    result = {}
    for name, worker in workers.items():
        if name != "peer":
            own = worker.ask("check")
            difference = np.abs(np.array(own["forces"]) - forces).max() / np.abs(forces).max()
            result[name] = {
                "energy": abs(own["energy"] - reference["energy"]),
                "forces": float(difference),
            }
    return result


def main() -> None:
    """Measure, print the table and draw the figures."""
    settings, resume = parse()
    console = Console(width=None if sys.stdout.isatty() else 140)
    command = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    try:
        earlier = read_details(settings.folder / "details.json") if resume else None
        details = Benchmark(settings, command, earlier, console).run()
    except MlepiError as error:
        sys.exit(f"error: {error}")
    for quantity in ("seconds", "peak_mb"):
        plot_growth(details["rows"], quantity, settings.folder)
    plot_labels(details["rows"], BENCHMARKS / "label_seconds.json", settings.folder)
    header, cells = main_table(details["rows"])
    shown = Table(*header, title=f"Medians of interleaved rounds; commit {details['commit'][:12]}")
    shown.columns[0].no_wrap = True
    for line in cells:
        shown.add_row(*line)
    console.print(shown)


if __name__ == "__main__":
    main()
