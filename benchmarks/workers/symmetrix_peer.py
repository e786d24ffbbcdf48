"""Symmetrix-XL as a worker: mace-torch's network with the same random weights, as generated C++.

Its settings are its best ones on a processor: edges consumed as they are made ("direct"), the
profile that it chooses by itself, code generated for this network (its building is counted apart
and kept by it), OpenMP. The neighbour list is made beforehand, as on all sides.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from symmetrix import Symmetrix, selected_backend

from workers.mace_peer import build_network
from workers.protocol import Job, serve

PROPERTIES = ["energy", "forces"]


class SymmetrixJob(Job):
    """Energy and forces by Symmetrix-XL."""

    calculator: Any = None

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the neighbour list and, once, the network and its code.

        Args:
            request: as for mace-torch, energy and forces alone.
        """
        if request["work"] != "energy_forces" or request["device"] != "cpu":
            raise ValueError("Symmetrix takes part in energy and forces on a processor alone")
        with np.load(request["structure"]) as arrays:
            self.atoms = Atoms(
                arrays["numbers"], positions=arrays["positions"], cell=arrays["cell"], pbc=True
            )
        facts: dict[str, Any] = {}
        if self.calculator is None:
            start = time.perf_counter()
            self._make(request, sorted(set(self.atoms.numbers.tolist())))
            facts["build_seconds"] = time.perf_counter() - start
        start = time.perf_counter()
        self.inputs = self.calculator._mace_inputs(self.atoms)
        facts |= {"graph_seconds": time.perf_counter() - start, "n_edges": len(self.inputs[3])}
        backend = selected_backend()
        facts["name"] = (
            f"Symmetrix-XL {version('symmetrix-xl')}, backend {backend['selector']}, "
            f"code {self.calculator.jit_status}"
        )
        return facts

    def _make(self, request: dict[str, Any], numbers: list[int]) -> None:
        """Convert mace-torch's network and let Symmetrix generate and build its code."""
        torch.set_default_dtype(getattr(torch, request["dtype"]))
        torch.manual_seed(0)
        network = build_network(request, numbers)
        with tempfile.TemporaryDirectory() as scratch:
            model, converted = Path(scratch) / "mace.model", Path(scratch) / "mace.json"
            torch.save(network, model)
            tool = Path(sys.executable).parent / "symmetrix_extract_mace"
            command = [sys.executable, str(tool), "-m", str(model), "-o", str(converted)]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - of the peers
            self.calculator = Symmetrix(str(converted), dtype=request["dtype"], neighbor_skin=0)

    def run(self) -> None:
        """Predict: what its ``calculate`` does after the neighbour list."""
        generation = self.calculator._compute_mace(self.inputs, self.atoms)
        self.result = self.calculator._collect_mace_results(
            self.atoms, self.inputs, PROPERTIES, generation
        )

    def check(self) -> dict[str, Any]:
        """Return energy per atom (eV) and forces (eV/Å) of the last prediction."""
        self.run()
        forces = np.asarray(self.result["forces"], dtype=np.float64)
        return {"energy": float(self.result["energy"]) / len(forces), "forces": forces.tolist()}


if __name__ == "__main__":
    serve(SymmetrixJob)
