"""Energies, forces and stress from a trained phonon network, for many structures or as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch_geometric.data import Batch

from mlepi.errors import StructureError, message
from mlepi.graphs.build import build_graph
from mlepi.predictors.predictor import DTYPES, Predictor


class PhononPredictor(Predictor):
    """Potential energy surface of a trained phonon network. Arguments: ``Predictor``."""

    kind: ClassVar[str] = "phonon"

    def energy_and_forces(
        self, structures: Sequence[Atoms], *, batch_size: int = 8, device: str | torch.device = "cpu", dtype: str = "float64"
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Predict energies and forces of many structures.

        Args:
            structures: structures; none is modified.
            batch_size: structures evaluated at once.
            device: where to compute.
            dtype: "float32" or "float64".

        Returns:
            Energies (n_structures,), eV, and the forces of each structure, (n_atoms, 3), eV/Å.

        Raises:
            StructureError: a structure holds an unknown element or atoms that are too close.
        """
        energies: list[NDArray[np.float64]] = []
        forces: list[NDArray[np.float64]] = []
        for start in range(0, len(structures), batch_size):
            part = structures[start : start + batch_size]
            results = self._evaluate(part, device, dtype, compute_stress=False)
            energies.append(results["energy"])
            forces += np.split(results["forces"], np.cumsum([len(atoms) for atoms in part])[:-1])
        return np.concatenate(energies) if energies else np.empty(0), forces

    def calculator(self, device: str | torch.device = "cpu", dtype: str = "float64") -> PhononCalculator:
        """Return an ASE calculator: eV, eV/Å, eV/Å³; float64 by default, as finite differences of forces need."""
        self.network(device, dtype)
        return PhononCalculator(self, device=device, dtype=dtype)

    def _evaluate(
        self, structures: Sequence[Atoms], device: str | torch.device, dtype: str, compute_stress: bool
    ) -> dict[str, NDArray[np.float64]]:
        network = self.network(device, dtype)
        for atoms in structures:
            self.check_elements(atoms.numbers)
        graphs = [build_graph(atoms, self.cutoffs, dtype=DTYPES[dtype]) for atoms in structures]
        results = network(Batch.from_data_list(graphs).to(device), compute_forces=True, compute_stress=compute_stress)
        return {name: value.detach().cpu().double().numpy() for name, value in results.items()}


class PhononCalculator(Calculator):
    """ASE calculator of a phonon network: energy, forces and, where the cell has a volume, stress.

    Args:
        predictor: trained network.
        device: where to compute.
        dtype: "float32" or "float64".
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]  # type: ignore[misc]

    def __init__(self, predictor: PhononPredictor, *, device: str | torch.device = "cpu", dtype: str = "float64") -> None:
        super().__init__()
        self.predictor = predictor
        self.device = device
        self.dtype = dtype

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation, the layer of the atoms included."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        if self.atoms is not None and not changes:
            before, now = self.atoms.arrays.get("layer"), atoms.arrays.get("layer")
            same = before is now if before is None or now is None else np.array_equal(before, now)
            changes = [] if same else ["layer"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute energy and forces, and the stress when it is asked for.

        Raises:
            StructureError: an unknown element, atoms too close, or the stress of a structure without volume.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        structure: Atoms = self.atoms
        wants_stress = "stress" in properties
        if wants_stress and structure.cell.rank < 3:
            raise StructureError(
                message("stress", "a cell without volume", "three lattice vectors", "Set the cell or do not ask for the stress.")
            )
        results = self.predictor._evaluate([structure], self.device, self.dtype, wants_stress)
        energy = float(results["energy"][0])
        computed: dict[str, Any] = {"energy": energy, "free_energy": energy, "forces": results["forces"]}
        if wants_stress:
            computed["stress"] = full_3x3_to_voigt_6_stress(results["stress"][0])
        self.results = computed
