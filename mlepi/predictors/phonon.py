"""Energies, forces and stress from a trained phonon network, also as an ASE calculator."""

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

from mlepi.arithmetic import parse_dtype
from mlepi.errors import StructureError, message
from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.predictors.predictor import Predictor


class PhononPredictor(Predictor):
    """Potential energy surface of a trained phonon network. Arguments: ``Predictor``."""

    kind: ClassVar[str] = "phonon"

    def energy_and_forces(
        self,
        structures: Sequence[Atoms],
        *,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
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

    def hessian_rows(
        self,
        atoms: Atoms,
        indices: Sequence[int],
        *,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
    ) -> NDArray[np.float64]:
        """Differentiate the energy twice by automatic differentiation.

        One vector-Jacobian product of the forces per row.

        Args:
            atoms: structure; not modified.
            indices: atoms whose rows are wanted.
            batch_size: rows per product; so many copies of the structure are differentiated
                together, which pays on a GPU.
            device: where to compute.
            dtype: "float32" or "float64".

        Returns:
            (n_indices, 3, n_atoms, 3), eV/Å²; [a, α, b, β] = ∂²E/∂r_{aα}∂r_{bβ}.

        Raises:
            StructureError: an unknown element or atoms that are too close.
        """
        network: Any = self.network(device, dtype)
        self.check_elements(atoms.numbers)
        wanted = [(int(atom), axis) for atom in indices for axis in range(3)]
        n_copies = max(1, min(batch_size, len(wanted)))
        graph = self._build_graph(atoms, dtype)
        batch = Batch.from_data_list([graph] * n_copies).to(device)
        with torch.enable_grad():
            positions = batch[fields.ATOM][fields.POSITIONS].detach().clone().requires_grad_(True)
            energy = network.energy(batch, positions).sum()
            # a structure without edges has an energy that depends on nothing
            (gradient,) = torch.autograd.grad(
                energy + 0.0 * (positions**2).sum(), positions, create_graph=True
            )
        gradient = gradient.reshape(n_copies, len(atoms), 3)
        rows = []
        for start in range(0, len(wanted), n_copies):
            chunk = wanted[start : start + n_copies]
            chosen = torch.stack(
                [gradient[copy, atom, axis] for copy, (atom, axis) in enumerate(chunk)]
            ).sum()
            (products,) = torch.autograd.grad(chosen, positions, retain_graph=True)
            rows.append(
                products.detach()
                .reshape(n_copies, len(atoms), 3)[: len(chunk)]
                .cpu()
                .double()
                .numpy()
            )
        return np.concatenate(rows).reshape(len(indices), 3, len(atoms), 3)

    def calculator(
        self, device: str | torch.device = "cpu", dtype: str = "float64"
    ) -> PhononCalculator:
        """Return an ASE calculator (eV, eV/Å, eV/Å³), in float64 for finite differences."""
        self.network(device, dtype)
        return PhononCalculator(self, device=device, dtype=dtype)

    def _build_graph(self, atoms: Atoms, dtype: str) -> AtomGraph:
        """Build the graph of a structure, divided as the network wants it."""
        network: Any = self._model.network
        return build_graph(
            atoms, self.cutoffs, dtype=parse_dtype(dtype), partition=network.partition
        )

    def _evaluate(
        self,
        structures: Sequence[Atoms],
        device: str | torch.device,
        dtype: str,
        compute_stress: bool,
    ) -> dict[str, NDArray[np.float64]]:
        network = self.network(device, dtype)
        for atoms in structures:
            self.check_elements(atoms.numbers)
        graphs = [self._build_graph(atoms, dtype) for atoms in structures]
        results = network(
            Batch.from_data_list(graphs).to(device),
            compute_forces=True,
            compute_stress=compute_stress,
        )
        return {name: value.detach().cpu().double().numpy() for name, value in results.items()}


class PhononCalculator(Calculator):
    """ASE calculator of a phonon network: energy, forces and, where the cell has a volume, stress.

    Args:
        predictor: trained network.
        device: where to compute.
        dtype: "float32" or "float64".
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        predictor: PhononPredictor,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.device = device
        self.dtype = dtype

    def hessian_rows(self, atoms: Atoms, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return second derivatives of the energy, (n_indices, 3, n_atoms, 3), eV/Å².

        See ``PhononPredictor.hessian_rows``.
        """
        batch_size = 1 if torch.device(self.device).type == "cpu" else 3 * len(indices)
        return self.predictor.hessian_rows(
            atoms, indices, batch_size=batch_size, device=self.device, dtype=self.dtype
        )

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
            StructureError: an unknown element, atoms too close, or the stress of a structure
                without volume.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        structure: Atoms = self.atoms
        wants_stress = "stress" in properties
        if wants_stress and structure.cell.rank < 3:
            raise StructureError(
                message(
                    "stress",
                    "a cell without volume",
                    "three lattice vectors",
                    "Set the cell or do not ask for the stress.",
                )
            )
        results = self.predictor._evaluate([structure], self.device, self.dtype, wants_stress)
        energy = float(results["energy"][0])
        computed: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "forces": results["forces"],
        }
        if wants_stress:
            computed["stress"] = full_3x3_to_voigt_6_stress(results["stress"][0])
        self.results = computed
