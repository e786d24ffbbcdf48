"""What faults of the file system are thrown at: whole runs, trainings, and everything that writes.

A run must end with one message, or as if nothing had happened, and be the undisturbed one once it
is started again. What a writer replaces must be the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk
from faulty_files import CRASH, CRASHED, FAULTS, LIMIT, FaultyFiles, Point, limit_file_size
from forks import HANG, RAW, Ended, call
from small_files import labelled_chain
from stored_small_record import Numbers
from tiny_networks import build_config, build_network, gaussian_overlap_table
from toy_infer import TOY_RUN
from toy_infer import run as run_toys

from mlepi.checkpoint import export_checkpoint, save_checkpoint, stamp
from mlepi.command_line import run_script
from mlepi.faults import explain_fault
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.litter import remove_litter
from mlepi.physics.overlaps import write_overlap_table
from mlepi.project_files import write_json
from mlepi.results import ResultsStore, write_hamiltonian
from mlepi.structures import (
    OrbitalBasis,
    write_extxyz,
    write_hamiltonian_dataset,
    write_split,
)
from mlepi.training.checkpoint_files import WholeCheckpoints

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("stage.phonon.dos_mesh=[6,6,1]", "stage.phonon.n_points=10", "supercell=[2,2,1]")
"""Of a run that takes little time."""
PATIENCE = 120.0
"""Seconds after which a process counts as hanging."""


@dataclass(frozen=True)
class Scenario:
    """Something that writes files.

    Attributes:
        name: of it.
        act: does it in a folder; ends its process as a command does.
        look: digest of what is in the folder.
        prepare: what is there before.
        goes_on: whether it is started again after a fault; otherwise the old files or the new ones
            must be there.
    """

    name: str
    act: Callable[[Path], object]
    look: Callable[[Path], str]
    prepare: Callable[[Path], object] = lambda folder: None
    goes_on: bool = False


@dataclass(frozen=True)
class FaultOutcome:
    """What came of one fault.

    Attributes:
        scenario: name.
        fault: what went wrong.
        point: where.
        result: "same" (it did no harm), "told" (one message) or "crash", all three with the right
            content in the end; "silent" (exit status 0 and other content), "raw" (a traceback),
            "hang", "lost" (other content, or no way to go on) or "litter" (half-written files
            stay).
        detail: message.
    """

    scenario: str
    fault: str
    point: str
    result: str
    detail: str

    @property
    def is_fine(self) -> bool:
        """Whether nothing was lost, and the user was told."""
        return self.result in ("same", "told", "crash")


def throw(
    scenario: Scenario, folder: Path, rng: np.random.Generator, n: int | None = None
) -> Iterator[FaultOutcome]:
    """Throw faults at a scenario, each at a folder of its own.

    Args:
        scenario: what is disturbed.
        folder: empty.
        rng: source of randomness.
        n: number of faults, evenly of all kinds; None throws every one at every point.

    Yields:
        What came of each.
    """
    start, whole = folder / "start", folder / "whole"
    start.mkdir(parents=True)
    ended = call(lambda: scenario.prepare(start), PATIENCE)
    if ended.status:
        raise RuntimeError(f"{scenario.name} cannot begin: {ended.text}")
    shutil.copytree(start, whole)
    old = scenario.look(whole)
    layer = FaultyFiles(whole)
    points: list[Point] = []

    def count() -> None:
        with layer.inside():
            scenario.act(whole)

    def report() -> None:
        try:
            count()
        finally:
            (folder / "points").write_text(json.dumps([vars(p) for p in layer.points]))

    ended = call(report, PATIENCE)
    if ended.status:
        raise RuntimeError(f"{scenario.name} fails by itself: {ended.text}")
    points = [Point(**p) for p in json.loads((folder / "points").read_text())]
    new = scenario.look(whole)
    cases = [(f, p) for f, calls in FAULTS.items() for p in points if p.call in calls]
    sizes = [p.stat().st_size for p in whole.rglob("*") if p.is_file()]
    limits = rng.integers(1, max(sizes), size=max(2, len(cases) // 8)) if max(sizes) > 1 else []
    cases += [(LIMIT, Point(int(size), "size", "any file")) for size in limits]
    if n is not None and n < len(cases):
        cases = _choose(cases, rng, n)
    for number, (fault, point) in enumerate(cases):
        place = folder / str(number)
        shutil.copytree(start, place)
        found = _disturb(scenario, place, fault, point)
        result, detail = _judge(scenario, place, fault, found, {old, new}, new)
        where = f"{point.call} {point.name} (call {point.number})"
        shutil.rmtree(place)
        yield FaultOutcome(scenario.name, fault, where, result, detail)


def _choose(
    cases: list[tuple[str, Point]], rng: np.random.Generator, n: int
) -> list[tuple[str, Point]]:
    """Choose cases, of every kind of fault as many."""
    kinds = {fault: [case for case in cases if case[0] == fault] for fault in (*FAULTS, LIMIT)}
    turns = [list(kinds)[k] for k in rng.permutation(len(kinds))]
    orders = {fault: list(rng.permutation(len(kinds[fault]))) for fault in turns}
    chosen: list[tuple[str, Point]] = []
    while len(chosen) < n:
        for fault, order in orders.items():
            if order and len(chosen) < n:
                chosen.append(kinds[fault][order.pop()])
    return chosen


def _disturb(scenario: Scenario, folder: Path, fault: str, point: Point) -> Ended:
    def act() -> None:
        if fault == LIMIT:
            with limit_file_size(point.number):
                scenario.act(folder)
            return
        with FaultyFiles(folder, point.number, fault).inside():
            scenario.act(folder)

    return call(act, PATIENCE)


def _judge(
    scenario: Scenario, folder: Path, fault: str, found: Ended, allowed: set[str], new: str
) -> tuple[str, str]:
    """Say what came of a fault, and repeat what was disturbed."""
    text = found.text[-600:]
    if found.status == HANG:
        return "hang", text
    if found.status == RAW or found.has_traceback:
        return "raw", text
    if found.status == 0 and scenario.look(folder) != new:
        return "silent", text
    if found.status not in (0, 1, CRASHED):
        return "raw", f"status {found.status}: {text}"
    if found.status == 1 and "error: " not in found.text:
        return "raw", f"no message: {text}"
    if not scenario.goes_on and scenario.look(folder) not in allowed:
        return "lost", f"neither the old files nor the new ones: {_list(folder)}"
    again = call(lambda: scenario.act(folder), PATIENCE)
    if again.status or scenario.look(folder) != new:
        return "lost", f"the second try: status {again.status}, {again.text[-600:]}"
    if not scenario.goes_on:
        call(lambda: remove_litter(folder))
    litter = [name for name in _list(folder) if Path(name).name.startswith(".")]
    litter = [name for name in litter if not name.startswith(".hydra")]
    if litter:
        return "litter", ", ".join(litter)
    return {0: "same", 1: "told", CRASHED: CRASH}[found.status], text


def _list(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def hash_files(folder: Path) -> str:
    """Digest the names and contents of the files of a folder that are not hidden."""
    names = [name for name in _list(folder) if not Path(name).name.startswith(".")]
    return repr({n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names})


def hash_records(folder: Path) -> str:
    """Digest the records of a run."""
    store = ResultsStore(folder)
    return repr({name: store.content(name) for name in store.stages()})


# What is disturbed.


def infer_toys(folder: Path, *overrides: str) -> None:
    """Run ``infer.py`` with the toys, in this process."""
    sys.argv[:] = ["infer", *TOY_RUN, f"hydra.run.dir={folder}", *overrides]
    run_script(run_toys, config_folder=ROOT / "conf", config_name="infer")


def explained(act: Callable[[Path], object]) -> Callable[[Path], object]:
    """Explain errors of the machine as the commands do."""

    def acting(folder: Path) -> None:
        try:
            act(folder)
        except Exception as error:
            explanation = explain_fault(error, folder)
            if explanation is None:
                raise
            raise explanation from error

    return acting


def writer(name: str, write: Callable[[Path, int], object]) -> Scenario:
    """Return the scenario of something that replaces a file of version 0 by version 1."""
    return Scenario(
        name,
        explained(lambda folder: write(folder, 1)),
        hash_files,
        lambda folder: write(folder, 0),
    )


def list_writers() -> list[Scenario]:
    """Return everything that replaces a file, in turn."""
    network, table = build_network("phonon"), gaussian_overlap_table()

    def checkpoint(folder: Path, k: int) -> None:
        described = stamp("phonon", build_config("phonon"), {"intra": 3.0}, metadata={"epoch": k})
        save_checkpoint(folder / "network.ckpt", described, network.state_dict())

    def exported(folder: Path, k: int) -> None:
        if not (folder / "best.ckpt").exists():
            described = stamp("phonon", build_config("phonon"), {"intra": 3.0})
            save_checkpoint(folder / "best.ckpt", described, network.state_dict())
        export_checkpoint(folder / "best.ckpt", folder / "small.ckpt", metadata={"note": k})

    def matrix(folder: Path, k: int) -> None:
        basis = OrbitalBasis({14: (0,)}, {14: 2.0}, {})
        edges, shift = np.zeros((2, 1), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
        one = BlockMatrix(np.array([14]), basis, edges, shift, np.ones((1, 1, 1)))
        write_hamiltonian(folder / "matrix.h5", bulk("Si")[:1], one, one, {"seed": k})

    def records(folder: Path, k: int) -> None:
        record = Numbers(np.arange(5.0) + k, "text", 0.5)
        ResultsStore(folder).write("phonon", record, "inputs", {"seed": k}, code="code")

    def last(folder: Path, k: int) -> None:
        WholeCheckpoints().save_checkpoint({"epoch": k, "w": torch.zeros(99)}, folder / "last.ckpt")

    def data_set(folder: Path, k: int, **options: float) -> None:
        chain = [labelled_chain(f"chain_{k}")]
        write_hamiltonian_dataset(folder / "data.h5", chain, {"note": k}, **options)

    return [
        writer("data set", data_set),
        writer("packed data set", lambda folder, k: data_set(folder, k, quantum=2**-15)),
        writer(
            "overlap table",
            lambda folder, k: write_overlap_table(folder / "table.h5", table, {"note": k}),
        ),
        writer(
            "extxyz", lambda folder, k: write_extxyz(folder / "a.xyz", [labelled_chain(f"c{k}")])
        ),
        writer(
            "split",
            lambda folder, k: write_split(folder / "split.json", {"train": [f"c{k}"]}, {}),
        ),
        writer("checkpoint", checkpoint),
        writer("exported checkpoint", exported),
        writer("Hamiltonian file", matrix),
        writer("records", records),
        writer("checkpoint of a training", last),
        writer("JSON of a job", lambda folder, k: write_json(folder / "job.json", {"state": k})),
    ]


def list_runs() -> list[Scenario]:
    """Return whole inferences: a new one, and one that goes on with more samples."""
    store = ("stage.hamiltonian.store=true", *QUICK)
    more = (*store, "n_samples=4")
    return [
        Scenario("inference", lambda f: infer_toys(f, *store), hash_records, goes_on=True),
        Scenario(
            "larger inference",
            lambda folder: infer_toys(folder, *more),
            hash_records,
            lambda folder: infer_toys(folder, *store),
            goes_on=True,
        ),
    ]
