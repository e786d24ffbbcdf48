"""Networks on a GPU: inference and training steps, the large cell, and mace-torch beside ours."""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_settings import BACKBONES, WORKS, Notes, Scale
from speed_results import Row
from speed_settings import (
    BASIS,
    CUTOFFS,
    MEAN_NEIGHBOURS,
    MODELS,
    ROOT,
    build_twisted,
    write_structure,
)
from torch import Tensor
from workers.client import Worker, WorkerError
from workers.ours import OurJob
from workers.protocol import Job, Measurement

import mlepi
from mlepi.arithmetic import float32_precision
from mlepi.graphs.build import build_graph

CHECKPOINT = ROOT / "data" / "checkpoints" / "hedgenet_electron.ckpt"
EXACT = 1e-5
"""Largest relative error at which TF32 would be used: what Hamiltonians need, docs/speed.md."""

PRECISIONS = {"float32": False, "tf32": True}


def measure_runs(measurement: Measurement, seconds: float) -> Row:
    """Time a prepared job: median seconds of a run, and its peak memory, MB."""
    measurement.run()
    start, walls = time.perf_counter(), []
    while len(walls) < 3 or (time.perf_counter() - start < seconds and len(walls) < 50):
        walls.append(measurement.run()["wall"])
    return {"seconds": statistics.median(walls), "rounds": len(walls), **measurement.memory()}


def collect_outputs(job: OurJob) -> Tensor:
    """Return what precision changes: forces, blocks, or the gradients of a training step."""
    if job.optimizer is not None:
        job.differentiate()
        parameters = job.network.parameters()  # type: ignore[union-attr]
        found = [p.grad for p in parameters if p.grad is not None]
    else:
        job.run()
        result = job.result
        found = (
            [result["forces"]]
            if "forces" in result
            else [result["onsite_blocks"], *result["edge_blocks"].values()]
        )
    values = torch.cat([part.detach().double().flatten() for part in found]).cpu()
    job.release()
    return values


def compare(values: Tensor, reference: Tensor) -> float:
    """Return the largest deviation in units of the largest reference value."""
    return float((values - reference).abs().max() / reference.abs().max())


def make_request(work: str, kind: str, model: str, device: str, scale: Scale) -> Row:
    """Return the request of a worker, without the structure."""
    return {
        "work": work,
        "kind": kind,
        "model": model,
        "size": scale.sizes[kind],
        "cutoff": CUTOFFS[kind],
        "mean_neighbours": MEAN_NEIGHBOURS[kind],
        "basis": BASIS,
        "dtype": "float32",
        "device": device,
        "compile": False,
    }


def measure_network(request: Row, seconds: float) -> Row:
    """Measure one network at one size in both precisions."""
    job = OurJob()
    measurement = Measurement(job)
    with float32_precision(False):
        facts = measurement.prepare({**request, "warmup": 2})
    row: Row = {"n_edges": facts["n_edges"], "graph_seconds": facts["graph_seconds"]}
    outputs = {}
    for name, tf32 in PRECISIONS.items():  # before the timed steps of a training move the weights
        with float32_precision(tf32):
            outputs[name] = collect_outputs(job)
    for name, tf32 in PRECISIONS.items():
        with float32_precision(tf32):
            row[name] = measure_runs(measurement, seconds)
    row["deviation"] = compare(outputs["tf32"], outputs["float32"])
    row["used"] = "tf32" if row["deviation"] <= EXACT else "float32"
    return row


def measure_networks(part: str, notes: Notes, device: str, scale: Scale) -> None:
    """Measure networks at their sizes; one that fails leaves its error and the next one goes on."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for n_atoms in scale.atoms[part]:
            structure = str(write_structure(n_atoms, Path(folder) / f"{n_atoms}.npz"))
            for model in scale.models[part]:
                kind = "electron" if model in MODELS["electron"] else "phonon"
                request = make_request(WORKS[part][kind], kind, model, device, scale)
                row = {"work": request["work"], "model": model, "n_atoms": n_atoms}
                try:
                    row |= measure_network({**request, "structure": structure}, scale.seconds)
                except Exception as error:  # recorded, and raised at the end
                    row["error"] = f"{type(error).__name__}: {error}"
                rows.append(row)
                notes.add(rows=rows)
    failed = [f"{row['model']}, {row['n_atoms']} atoms" for row in rows if "error" in row]
    if failed:
        raise RuntimeError(f"not measured: {'; '.join(failed)}")


class LargeCell(Job):
    """The Hamiltonian of a twisted bilayer from the shipped network."""

    def prepare(self, request: Row) -> Row:
        """Build the structure, read the network and put it onto the device."""
        self.device = request["device"]
        self.atoms = build_twisted(request["twist"])
        self.model: Any = mlepi.load_model(CHECKPOINT, kind="electron")
        self.network = self.model.network(self.device, "float32")
        start = time.perf_counter()
        self.graph = build_graph(self.atoms, self.model.cutoffs, dtype=torch.float32)
        seconds = time.perf_counter() - start
        return {"n_atoms": len(self.atoms), "graph_seconds": seconds}

    def run(self) -> None:
        """Predict all blocks, from the structure to arrays in double precision."""
        self.result = self.model.hamiltonian(self.atoms, device=self.device, dtype="float32")


class LargeNetwork(LargeCell):
    """The network of the large cell alone, its graph on the device."""

    def prepare(self, request: Row) -> Row:
        """Prepare, and move the graph."""
        facts = super().prepare(request)
        self.graph = self.graph.to(self.device)
        return facts

    def run(self) -> None:
        """Evaluate the network."""
        with torch.no_grad():
            self.result = self.network(self.graph)


def measure_large_cell(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure H of the magic-angle cell, and compare TF32 and the processor with it."""
    request = {"device": device, "twist": scale.twist, "warmup": 1}
    measurement = Measurement(LargeCell())
    with float32_precision(False):
        notes.add(**measurement.prepare(request))
        notes.add(**measure_runs(measurement, scale.seconds))
        job: Any = measurement.job
        job.run()
        blocks = torch.from_numpy(job.result.blocks)
        job.release()
    with float32_precision(True):
        notes.add(tf32=measure_runs(measurement, scale.seconds))
        job.run()
        found = torch.from_numpy(job.result.blocks)
        notes.add(tf32_deviation_mev=1e3 * float((found - blocks).abs().max()))
    with float32_precision(False):
        network = Measurement(LargeNetwork())
        network.prepare(request)
        notes.add(network_alone=measure_runs(network, scale.seconds))
    start = time.perf_counter()
    here = torch.from_numpy(job.model.hamiltonian(job.atoms, dtype="float32").blocks)
    notes.add(
        processor_seconds=time.perf_counter() - start,
        deviation_from_processor_mev=1e3 * float((here - blocks).abs().max()),
    )


def measure_peer(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure energy and forces of mace-torch, plain and with cuEquivariance, beside ours.

    All have the same weights.
    """
    try:
        notes.add(mace_torch=importlib.metadata.version("mace-torch"))
    except importlib.metadata.PackageNotFoundError:
        notes.add(absent="mace-torch is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.npz")
        for n_atoms in scale.atoms["forward"]:
            structure = str(write_structure(n_atoms, Path(folder) / f"{n_atoms}.npz"))
            request = make_request("energy_forces", "phonon", BACKBONES[0], device, scale)
            request |= {"structure": structure, "weights": weights, "warmup": 3}
            row: Row = {}
            for side, worker, more in (
                ("mace", "mace_peer", {}),
                ("ours", "ours", {}),
                ("mace_cueq", "mace_peer", {"cueq": True, "weights": None}),
            ):
                row[side] = measure_side(worker, {**request, **more}, scale.seconds)
                notes.add(**{f"atoms_{n_atoms}": row})
    if "error" in row["mace"]:
        raise RuntimeError(row["mace"]["error"])


def measure_side(worker: str, request: Row, seconds: float) -> Row:
    """Measure one worker process, or return why it could not be measured."""
    try:
        with Worker(worker, torch.get_num_threads()) as process:
            facts = process.ask("prepare", **request)
            n = max(3, min(50, int(seconds / max(facts["warmup_seconds"][-1], 1e-4))))
            walls = [process.ask("run")["wall"] for _ in range(n)]
            energy = process.ask("check")["energy"]
            memory = process.ask("memory")
    except WorkerError as error:
        return {"error": str(error)}
    found = {"name": facts.get("name"), "energy_per_atom": energy}
    return {"seconds": statistics.median(walls), "rounds": n, **memory, **found}
