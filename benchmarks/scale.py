"""Large runs and large data sets: what grows with their number, and how fast.

``python benchmarks/scale.py samples 2000 10000 100000``: an ensemble whose samples are there
already, as copies of a real one: time and memory to finish it, to come back to it, and to report
it. ``python benchmarks/scale.py data 2000 10000``: a generated set of Hamiltonians of 64 atoms that
stays in its file: memory of the training process and of its worker, and how long a step waits for
data.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ATOMS = (4, 4, 1)
"""Supercell of the generated data: 64 atoms of bilayer graphene."""


def run_samples(n_samples: int, folder: Path) -> dict[str, float]:
    """Finish, revisit and report a run with so many samples."""
    from mlepi.command_line import compose_config
    from mlepi.observables import all_stages
    from mlepi.pipeline import infer
    from mlepi.report import write_report
    from mlepi.results.parts import PartFile

    stages, found = all_stages(), {}

    def run(n: int) -> None:
        arguments = ["phonon=toy", "electron=toy", "stage=gap", "supercell=[3,3,1]"]
        arguments += ["temperature=300", f"n_samples={n}", f"folder={folder}"]
        with contextlib.redirect_stdout(io.StringIO()):
            infer(compose_config(ROOT / "conf", "infer", arguments), folder, stages)

    run(4)
    [path] = (folder / "parts").glob("gap.*.part")
    part = PartFile(path, "")
    header, places = part.header(), part.places()
    own = PartFile(path, header.inputs, header.code)
    arrays = [own.load(place) for place in places.values()]
    sync, os.fsync = os.fsync, lambda descriptor: None
    begin = time.process_time()
    for n in range(4, n_samples):
        own.append((n, 300.0), arrays[n % 4])
    os.fsync = sync
    found["append_ms"] = 1e3 * (time.process_time() - begin) / n_samples
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, action in (
        ("finish_ms", lambda: run(n_samples)),
        ("again_ms", lambda: run(n_samples)),
        ("report_ms", lambda: write_report(folder, stages)),
    ):
        begin = time.process_time()
        action()
        found[name] = 1e3 * (time.process_time() - begin) / n_samples
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found |= {"rss_mb": after / 1e3, "rss_growth_mb": (after - before) / 1e3}
    found["files"] = sum(path.is_file() for path in folder.rglob("*"))
    return found


def write_data(n_structures: int, path: Path) -> None:
    """Write a set of labelled structures: one prediction, under many names."""
    from mlepi.pipeline.sources import Source, load_electron
    from mlepi.structures import build_graphene
    from mlepi.structures.dataset_writer import write_hamiltonian_dataset
    from mlepi.structures.labelled_structure import LabelledStructure

    atoms = build_graphene(stacking="AB", spacing=3.35).repeat(ATOMS)
    atoms.rattle(0.03, seed=1)
    checkpoint = str(ROOT / "data" / "checkpoints" / "hedgenet_electron.ckpt")
    model = load_electron(Source("electron", checkpoint), (), False)
    hamiltonian = model.hamiltonian(atoms).symmetrised()
    overlap = model.overlap(atoms).symmetrised()
    place = {edge: k for k, edge in enumerate(_list_edges(overlap))}
    order = [place[edge] for edge in _list_edges(hamiltonian)]
    one = LabelledStructure(
        name="s",
        atoms=atoms,
        fermi_energy=0.0,
        energy=None,
        forces=None,
        provenance={},
        basis=hamiltonian.basis,
        edge_index=hamiltonian.edge_index,
        edge_cell_shift=hamiltonian.edge_cell_shift,
        hamiltonian_blocks=hamiltonian.blocks,
        overlap_blocks=overlap.blocks[order],
    )
    write_hamiltonian_dataset(path, (replace(one, name=f"s{n}") for n in range(n_structures)), {})


def _list_edges(matrix: Any) -> list[tuple[int, ...]]:
    """Return first atom, second atom and cell of every pair."""
    return list(zip(*matrix.edge_index.tolist(), *matrix.edge_cell_shift.T.tolist(), strict=True))


def run_data(n_structures: int, folder: Path, in_memory: bool = False) -> dict[str, float]:
    """Go through an epoch of a data set, with a worker and a step of half a second."""
    from mlepi.training import HamiltonianDataModule

    path = folder / f"{n_structures}.h5"
    begin = time.process_time()
    write_data(n_structures, path)
    found = {"write_ms": 1e3 * (time.process_time() - begin) / n_structures}
    before = _memory("VmRSS")
    begin = time.process_time()
    data = HamiltonianDataModule(
        path=str(path), split=[0.8, 0.1, 0.1], extra=None, batch_size=1, eval_batch_size=1,
        n_train=None, cutoffs=None, dtype="float32", seed=1, energy_zero="as_computed",
        overlap_table=None, check_units=False, in_memory=in_memory, workers=0 if in_memory else 1,
    )  # fmt: skip
    data.prepare()
    found["prepare_ms"] = 1e3 * (time.process_time() - begin) / n_structures
    step, waited, n_steps = 0.5, 0.0, 12
    batches = iter(data.train_dataloader())
    next(batches)
    for _ in range(n_steps):
        begin = time.monotonic()
        next(batches)
        waited += time.monotonic() - begin
        time.sleep(step)
    found["busy"] = n_steps * step / (n_steps * step + waited)
    found["grown_mb"] = (_memory("VmRSS") - before) / 1e3
    workers = getattr(batches, "_workers", [])
    found["worker_mb"] = max((_memory("VmRSS", w.pid) for w in workers), default=0.0) / 1e3
    begin = time.process_time()
    for n in range(5):
        data.build_graph(data.structures["train"][n])
    found["read_and_build_ms"] = 1e3 * (time.process_time() - begin) / 5
    found["file_mb_each"] = path.stat().st_size / n_structures / 1e6
    return found


def _memory(name: str, pid: int | str = "self") -> float:
    """Return a line of the status of a process, kB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


KINDS: dict[str, Callable[..., Any]] = {"samples": run_samples, "data": run_data}


def main() -> None:
    """Measure every size in a process of its own, so that memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("sizes", nargs="+", type=int)
    parser.add_argument("--in-memory", action="store_true", help="of data: keep everything")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.one:
        for size in arguments.sizes:
            extra = ["--in-memory"] * arguments.in_memory
            command = [sys.executable, __file__, arguments.kind, str(size), "--one", *extra]
            subprocess.run(command, check=True)  # noqa: S603 - this script itself
        return
    options = {"in_memory": True} if arguments.in_memory else {}
    with tempfile.TemporaryDirectory() as folder:
        found = KINDS[arguments.kind](arguments.sizes[0], Path(folder), **options)
    rounded = {name: round(value, 3) for name, value in found.items()}
    print(json.dumps({arguments.kind: arguments.sizes[0], **rounded}), flush=True)


if __name__ == "__main__":
    main()
