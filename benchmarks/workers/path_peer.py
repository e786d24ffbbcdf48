"""The path-by-path DeepH-E3 network as a worker.

Its edges are those of our graph and one from every atom to itself.
"""

from __future__ import annotations

import time
from typing import Any

import e3nn
import torch
from e3nn import o3
from path_network import PathNetwork, natural_irreps

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.structures.basis import OrbitalBasis
from workers.ours import LEARNING_RATE, read_structure
from workers.protocol import Job, serve


class PathJob(Job):
    """Hamiltonian blocks, or one training step, path by path."""

    network: torch.nn.Module | None = None

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the edges and, once, the network with its optimiser.

        Args:
            request: "size" (as in conf/size, electron), "cutoff" (Å), "basis"; "last" is "blocks"
                (published: the last edge update makes only what the blocks need) or "features" (it
                keeps the widths of the others, as ours does).
        """
        self.work, self.device = request["work"], request["device"]
        dtype = getattr(torch, request["dtype"])
        size = request["size"]
        basis = OrbitalBasis.from_dict(request["basis"])
        atoms = read_structure(request["structure"])
        elements = sorted(set(atoms.numbers.tolist()))
        start = time.perf_counter()
        self.edges = tuple(
            tensor.to(self.device)
            for tensor in self._edges(atoms, elements, request["cutoff"], dtype)
        )
        n_edges = len(self.edges[1])
        facts: dict[str, Any] = {"graph_seconds": time.perf_counter() - start, "n_edges": n_edges}
        facts["name"] = f"path by path, e3nn {e3nn.__version__}"
        if self.network is None:
            start = time.perf_counter()
            torch.manual_seed(0)
            pseudo = [
                (count, (l, -((-1) ** l)))
                for l, count in enumerate(size["pseudo_channels"])
                if count
            ]
            last = (
                natural_irreps(size["channels"]) + o3.Irreps(pseudo)
                if request["last"] == "features"
                else None
            )
            network = PathNetwork(
                n_elements=len(elements),
                shells=basis.shells[elements[0]],
                channels=size["channels"],
                embedding_channels=size["channels"][0],
                l_max=size["l_max"],
                num_layers=size["num_layers"],
                num_radial=size["num_radial"],
                radial_hidden=size["radial_hidden"],
                cutoff=request["cutoff"],
                last_irreps=last,
            ).to(self.device, dtype)
            training = self.work.endswith("train_step")
            self.network = network.train(training).requires_grad_(training)
            self.optimizer = (
                torch.optim.Adam(network.parameters(), lr=LEARNING_RATE) if training else None
            )
            facts["build_seconds"] = time.perf_counter() - start
        shape = (n_edges, basis.max_orbitals, basis.max_orbitals)
        self.label = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype).to(
            self.device
        )
        self.mask = torch.ones_like(self.label)
        return facts

    @staticmethod
    def _edges(
        atoms: Any, elements: list[int], cutoff: float, dtype: torch.dtype
    ) -> tuple[torch.Tensor, ...]:
        """Return elements of the atoms, sources, targets and vectors (Å) of all edges.

        Edges of atoms to themselves last.
        """
        graph = build_graph(atoms, dict.fromkeys(fields.RELATIONS, cutoff), dtype=dtype)
        positions, cell = graph[fields.ATOM][fields.POSITIONS], graph[fields.CELL][0]
        own = torch.arange(len(atoms))
        stores = [graph[fields.edge_type(relation)] for relation in fields.RELATIONS]
        source, target = torch.cat(
            [*(store[fields.EDGE_INDEX] for store in stores), torch.stack([own, own])], dim=1
        )
        shift = torch.cat(
            [*(store[fields.EDGE_CELL_SHIFT] for store in stores), own.new_zeros(len(atoms), 3)]
        ).to(dtype)
        species = torch.tensor([elements.index(number) for number in atoms.numbers])
        return species, source, target, positions[source] + shift @ cell - positions[target]

    def run(self) -> None:
        """Predict, or make one step with Adam on a masked mean square."""
        if self.optimizer is None:
            with torch.inference_mode():
                self.result = self.network(*self.edges)  # type: ignore[misc]
            return
        self.optimizer.zero_grad(set_to_none=True)
        blocks = self.network(*self.edges)  # type: ignore[misc]
        loss = ((blocks - self.label) * self.mask).square().sum() / self.mask.sum()
        loss.backward()
        self.optimizer.step()


if __name__ == "__main__":
    serve(PathJob)
