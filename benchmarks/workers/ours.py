"""Our networks as a worker, from the package's configs at given widths, with random weights."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.models.mace_import import load_mace_weights
from mlepi.structures.basis import OrbitalBasis
from workers.protocol import Job, serve

CONF = Path(__file__).resolve().parents[2] / "conf"
LEARNING_RATE = 1e-3


def read_structure(path: str) -> Atoms:
    """Read a structure that the driver wrote."""
    with np.load(path) as arrays:
        atoms = Atoms(
            arrays["numbers"], positions=arrays["positions"], cell=arrays["cell"], pbc=True
        )
        atoms.arrays["layer"] = arrays["layer"]
    return atoms


def build_network(request: dict[str, Any], elements: list[int]) -> torch.nn.Module:
    """Build a network from its YAML.

    Args:
        request: "model" (name of a YAML in conf/model), "kind" ("phonon" or "electron"), "size"
            (widths of that kind, as in conf/size), "cutoff" (Å), "mean_neighbours" (relation →
            edges per atom) and, for electrons, "basis".
        elements: atomic numbers.
    """
    kind = request["kind"]
    overrides = [f"+model={request['model']}", "+size=published"]
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=overrides)
    OmegaConf.set_readonly(config, False)
    config.size[kind] = request["size"]
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    backbone = model["network"]["backbone"]
    cutoffs = dict.fromkeys(fields.RELATIONS, request["cutoff"])
    model["network"]["elements"] = backbone["elements"] = elements
    backbone["cutoffs"] = cutoffs
    backbone["mean_neighbours"] = request["mean_neighbours"]
    if kind == "electron":
        model["basis"], model["cutoffs"] = request["basis"], cutoffs
    else:
        model["atomic_energies"], model["energy_scale"] = [0.0] * len(elements), 1.0
    network: torch.nn.Module = instantiate(model, _convert_="all")
    return network


class OurJob(Job):
    """Inference or one training step of one of our networks."""

    network: torch.nn.Module | None = None

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build graph and, once, the network with its optimiser."""
        self.work, self.device = request["work"], request["device"]
        dtype = getattr(torch, request["dtype"])
        atoms = read_structure(request["structure"])
        start = time.perf_counter()
        graph = build_graph(atoms, dict.fromkeys(fields.RELATIONS, request["cutoff"]), dtype=dtype)
        facts: dict[str, Any] = {"graph_seconds": time.perf_counter() - start}
        counts = {
            r: graph[fields.edge_type(r)][fields.EDGE_INDEX].shape[1] for r in fields.RELATIONS
        }
        facts["n_edges"] = sum(counts.values())
        if self.network is None:
            start = time.perf_counter()
            self._make(request, sorted(set(atoms.numbers.tolist())), dtype)
            facts["build_seconds"] = time.perf_counter() - start
        self._label(graph, request, dtype)
        self.graph = graph.to(self.device)
        return facts

    def _make(self, request: dict[str, Any], elements: list[int], dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        network = build_network(request, elements)
        if request.get("weights"):
            with np.load(request["weights"]) as arrays:
                weights = {name: torch.as_tensor(arrays[name]) for name in arrays.files}
            load_mace_weights(network.double(), weights)  # type: ignore[arg-type]
        if request.get("tables"):  # as the pipeline prepares a network for inference
            network.double().tabulate_radial()  # type: ignore[operator]
        network = network.to(self.device, dtype)
        if request["compile"]:
            # a row of compiled code must not be plain code
            warnings.filterwarnings("error", message=r"compile \(")
            network.compile_kernels()  # type: ignore[operator]
        training = self.work.endswith("train_step")
        self.network = network.train(training).requires_grad_(training)
        self.optimizer = (
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE) if training else None
        )

    def _label(self, graph: Any, request: dict[str, Any], dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(1)
        if request["kind"] == "phonon":
            self.labels = [
                torch.randn(graph[fields.ATOM].num_nodes, 3, generator=generator, dtype=dtype).to(
                    self.device
                )
            ]
            return
        size = OrbitalBasis.from_dict(request["basis"]).max_orbitals
        counts = [graph[fields.ATOM].num_nodes]
        counts += [
            graph[fields.edge_type(relation)][fields.EDGE_INDEX].shape[1]
            for relation in fields.RELATIONS
        ]
        self.labels = [
            torch.randn(n, size, size, generator=generator, dtype=dtype).to(self.device)
            for n in counts
        ]
        self.masks = [torch.ones_like(label) for label in self.labels]

    def run(self) -> None:
        """Predict, or make one step with Adam."""
        if self.optimizer is None:
            with torch.inference_mode() if self.work == "hamiltonian" else torch.enable_grad():
                self.result = self.network(self.graph)  # type: ignore[misc]
            return
        self.differentiate()
        self.optimizer.step()

    def differentiate(self) -> None:
        """Leave the gradients of the loss of a training in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(self.network(self.graph)).backward()  # type: ignore[misc]

    def _loss(self, result: dict[str, Any]) -> Tensor:
        if "forces" in result:
            per_atom = result["energy"] / len(self.labels[0])
            return per_atom.square().mean() + (result["forces"] - self.labels[0]).square().mean()
        blocks = [
            result["onsite_blocks"],
            *(result["edge_blocks"][relation] for relation in fields.RELATIONS),
        ]
        total = sum(
            ((block - label) * mask).square().sum()
            for block, label, mask in zip(blocks, self.labels, self.masks, strict=True)
        )
        return total / sum(mask.sum() for mask in self.masks)

    def check(self) -> dict[str, Any]:
        """Return energy per atom (eV) and forces (eV/Å) of the last prediction."""
        if self.work != "energy_forces":
            return {}
        self.run()
        forces = self.result["forces"].double().cpu()
        return {"energy": float(self.result["energy"]) / len(forces), "forces": forces.tolist()}

    def kernels(self, names: list[str]) -> dict[str, list[float]]:
        """Time the modules of some classes during one run, CPU seconds of every call."""
        seconds: dict[str, list[float]] = {name: [] for name in names}
        starts: dict[torch.nn.Module, float] = {}

        def stop(name: str, module: torch.nn.Module) -> None:
            seconds[name].append(time.process_time() - starts[module])

        hooks = []
        for module in self.network.modules():  # type: ignore[union-attr]
            name = type(module).__name__
            if name in seconds:
                hooks.append(
                    module.register_forward_pre_hook(
                        lambda m, _: starts.update({m: time.process_time()})
                    )
                )
                hooks.append(
                    module.register_forward_hook(lambda m, _, __, name=name: stop(name, m))
                )
        self.run()
        for hook in hooks:
            hook.remove()
        return seconds


if __name__ == "__main__":
    serve(OurJob)
