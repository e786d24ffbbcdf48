"""mace-torch as a worker: a ScaleShiftMACE with random weights, in the environment of the peers.

Settings are the best of its normal ones: evaluation mode with frozen parameters and forces alone
for inference, reduced Clebsch–Gordan coefficients, no stress, batches made beforehand.
"""

from __future__ import annotations

import os

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = (
    "1"  # the pinned e3nn opens its own tables with an old torch.load
)

import time
from typing import Any

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import __version__, data, modules
from mace.tools import AtomicNumberTable, torch_geometric

from workers.protocol import Job, serve

LEARNING_RATE = 1e-3


def build_network(request: dict[str, Any], numbers: list[int]) -> torch.nn.Module:
    """Build the network with the widths of the request.

    Args:
        request: "size" (as in conf/size, phonon), "cutoff" (Å) and "mean_neighbours" (relation →
            edges per atom).
        numbers: atomic numbers.
    """
    size = request["size"]
    hidden = "+".join(
        f"{size['num_features']}x{l}{'eo'[l % 2]}" for l in range(size["l_max_hidden"] + 1)
    )
    residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    network: torch.nn.Module = modules.ScaleShiftMACE(
        r_max=request["cutoff"],
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=size["l_max"],
        interaction_cls_first=residual,
        interaction_cls=residual,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=sum(request["mean_neighbours"].values()),
        atomic_numbers=numbers,
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=list(size["radial_widths"]),
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        use_reduced_cg=True,
    )
    return network


def convert_network(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Return the same network with the kernels of cuEquivariance; ``ImportError`` without it."""
    import cuequivariance_torch  # noqa: F401 - mace-torch goes on without it, silently
    from mace.cli.convert_e3nn_cueq import run

    converted: torch.nn.Module = run(network, device=device, return_model=True)
    return converted


class MaceJob(Job):
    """Energy and forces, or one training step, by mace-torch."""

    network: torch.nn.Module | None = None

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the batch and, once, the network with its optimiser.

        Args:
            request: as for ours; "weights" is a file that its weights are written to, "cueq" asks
                for the kernels of cuEquivariance.
        """
        self.work, self.device = request["work"], request["device"]
        dtype = getattr(torch, request["dtype"])
        torch.set_default_dtype(dtype)
        with np.load(request["structure"]) as arrays:
            atoms = Atoms(
                arrays["numbers"], positions=arrays["positions"], cell=arrays["cell"], pbc=True
            )
        numbers = sorted(set(atoms.numbers.tolist()))
        start = time.perf_counter()
        entry = data.AtomicData.from_config(
            data.config_from_atoms(atoms),
            z_table=AtomicNumberTable(numbers),
            cutoff=request["cutoff"],
        )
        batch = next(iter(torch_geometric.dataloader.DataLoader([entry], batch_size=1)))
        facts: dict[str, Any] = {
            "graph_seconds": time.perf_counter() - start,
            "n_edges": batch.edge_index.shape[1],
        }
        facts["name"] = f"mace-torch {__version__}"
        if self.network is None:
            start = time.perf_counter()
            torch.manual_seed(0)
            training = self.work.endswith("train_step")
            network = build_network(request, numbers).to(self.device)
            if request.get("weights"):
                np.savez(
                    request["weights"],
                    **{name: value.cpu().numpy() for name, value in network.state_dict().items()},
                )
            if request.get("cueq"):
                network = convert_network(network, self.device)
            self.network = network.train(training).requires_grad_(training)
            self.optimizer = (
                torch.optim.Adam(network.parameters(), lr=LEARNING_RATE) if training else None
            )
            facts["build_seconds"] = time.perf_counter() - start
        self.batch = batch.to(self.device).to_dict()
        self.forces = torch.randn(
            len(atoms), 3, generator=torch.Generator().manual_seed(1), dtype=dtype
        ).to(self.device)
        return facts

    def run(self) -> None:
        """Predict, or make one step with Adam."""
        training = self.optimizer is not None
        if training:
            self.optimizer.zero_grad(set_to_none=True)
        self.result = self.network(self.batch, training=training, compute_force=True)
        if training:
            per_atom = self.result["energy"] / len(self.forces)
            loss = per_atom.square().mean() + (self.result["forces"] - self.forces).square().mean()
            self.result = None
            loss.backward()
            self.optimizer.step()

    def check(self) -> dict[str, Any]:
        """Return energy per atom (eV) and forces (eV/Å) of the last prediction."""
        if self.work != "energy_forces":
            return {}
        self.run()
        forces = self.result["forces"].detach().double().cpu()
        return {
            "energy": float(self.result["energy"].detach()) / len(forces),
            "forces": forces.tolist(),
        }


if __name__ == "__main__":
    serve(MaceJob)
