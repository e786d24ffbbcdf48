"""Energy and forces from a heterogeneous network of any backbone.

E = Σ_i [E0(element_i) + scale · Σ_layers (readout(h_i) − readout(h_vacuum))]: every layer's
invariant features have a linear read-out, the last layer's a small network, and the value of an
isolated atom is subtracted, so that a free atom has exactly its reference energy, which is counted
once however many sub-networks there are. Forces are −∂E/∂r. With ``dispersion: d2`` Grimme's D2
term is added in closed form, so that only the rest is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.build import number_structures
from mlepi.models.backbone import Backbone
from mlepi.models.compilation import Backend, first_derivatives_alone
from mlepi.models.dispersion import CHOICES, GrimmeD2
from mlepi.models.hedgenet import HeteroNetwork
from mlepi.models.radial import RadialMLP


class PhononNetwork(nn.Module):
    """HedgeNet-Phonon: potential energy surface of a layered material.

    Args:
        network: the heterogeneous combination.
        atomic_energies: energy of a free atom of each element in ``network.elements``, or the mean
            energy per atom of the training set, eV.
        energy_scale: unit of the network's output, eV; e.g. the root mean square force times 1 Å.
        readout_width: hidden size of the last layer's read-out.
        dispersion: "none", or "d2" to add Grimme's D2 (PBE) of all pairs; the network then learns
            energies and forces less this term, and ``atomic_energies`` are of the rest as well.
        dispersion_cutoff: of the pairs of the dispersion term, Å.

    Raises:
        ConfigError: a setting that does not fit, or an element without D2 parameters.
    """

    def __init__(
        self,
        *,
        network: HeteroNetwork,
        atomic_energies: Sequence[float],
        energy_scale: float,
        readout_width: int = 16,
        dispersion: Literal["none", "d2"] = "none",
        dispersion_cutoff: float = 14.0,
    ) -> None:
        super().__init__()
        if len(atomic_energies) != len(network.elements):
            raise ConfigError(
                message(
                    "model.atomic_energies",
                    f"{len(atomic_energies)} values",
                    f"one per element of {network.elements}",
                    "Let training fill them from the train split.",
                )
            )
        if not energy_scale > 0.0:
            raise ConfigError(
                message(
                    "model.energy_scale",
                    f"{energy_scale}",
                    "a positive energy in eV",
                    "Edit the config.",
                )
            )
        for name, seen in network.relations.items():
            if len(seen) == 1 and name != seen[0]:
                raise ConfigError(
                    message(
                        "model.network.relations",
                        f"{name}: {list(seen)}",
                        f"the name {seen[0]!r}",
                        "Name it after its relation.",
                    )
                )
        if dispersion not in CHOICES:
            raise ConfigError(
                message(
                    "model.dispersion", repr(dispersion), f"one of {CHOICES}", "Edit the config."
                )
            )
        self.dispersion = (
            GrimmeD2(elements=network.elements, cutoff=float(dispersion_cutoff))
            if dispersion == "d2"
            else None
        )
        self.network = network
        self.atomic_energies = tuple(float(energy) for energy in atomic_energies)
        self.energy_scale = float(energy_scale)
        backbone = next(iter(network.backbones.values()))
        if not isinstance(backbone, Backbone):
            raise ConfigError(
                message(
                    "model.network.backbone",
                    type(backbone).__name__,
                    "a Backbone",
                    "Edit the config.",
                )
            )
        sizes = [backbone.num_scalars(layer) for layer in range(network.num_layers)]
        self.backbone_scalars = backbone.scalars
        self.readouts = nn.ModuleList([RadialMLP([size, 1]) for size in sizes[:-1]])
        self.readouts.append(RadialMLP([sizes[-1], readout_width, 1]))

    def forward(
        self, graph: Any, compute_forces: bool = True, compute_stress: bool = False
    ) -> dict[str, Tensor]:
        """Return the energy of every graph in a batch, and its derivatives.

        Args:
            graph: (batched) ``HeteroData`` with the fields of ``mlepi.graphs.fields``; not
                modified.
            compute_forces: add "forces"; in training mode they can be differentiated further.
            compute_stress: add "stress".

        Returns:
            "energy" (n_graphs,) float64, eV; "forces" (n_atoms, 3), eV/Å; "stress" (n_graphs, 3,
            3), eV/Å³, the derivative of the energy with respect to strain per cell volume.
        """
        if not (compute_forces or compute_stress):
            final = not self.training and not torch.is_grad_enabled()
            with first_derivatives_alone() if final else nullcontext():
                return {"energy": self.energy(graph, graph[fields.ATOM][fields.POSITIONS])}
        with torch.enable_grad():
            positions = graph[fields.ATOM][fields.POSITIONS].detach().clone().requires_grad_(True)
            leaves, deformed_graph, deformed = [positions], graph, positions
            if compute_stress:
                cell = graph[fields.CELL].reshape(-1, 3, 3)
                strain = torch.zeros_like(cell).requires_grad_(True)
                leaves.append(strain)
                deformed_graph, deformed = self._strain(graph, positions, cell, strain)
            with nullcontext() if self.training else first_derivatives_alone():
                energy = self.energy(deformed_graph, deformed)
            # without edges nothing depends on the leaves, and their derivative is zero
            total = energy.sum() + 0.0 * torch.stack([leaf.sum() for leaf in leaves]).sum()
            gradients = torch.autograd.grad(total, leaves, create_graph=self.training)
        results = {"energy": energy if self.training else energy.detach()}
        if compute_forces:
            results["forces"] = -gradients[0]
        if compute_stress:
            results["stress"] = gradients[1] / torch.linalg.det(cell).abs()[:, None, None]
        return results

    def energy(self, graph: Any, positions: Tensor) -> Tensor:
        """Return the energy of every graph at the given positions (n_atoms, 3).

        (n_graphs,) float64, eV.
        """
        species, per_atom = self._readout(self._add_free_atoms(graph), positions)
        num_elements = len(self.network.elements)
        bound, free = per_atom[:-num_elements], per_atom[-num_elements:]
        species = species[:-num_elements]
        interaction = self.energy_scale * (bound - free.index_select(0, species)).double()
        reference = torch.tensor(
            self.atomic_energies, dtype=torch.float64, device=interaction.device
        )
        n_graphs = graph[fields.CELL].reshape(-1, 3, 3).shape[0]
        total = interaction.new_zeros(n_graphs)
        total = total.index_add(0, number_structures(graph), interaction + reference[species])
        return total if self.dispersion is None else total + self.dispersion(graph, positions)

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the inner functions of all sub-networks, for energies, forces and training.

        See ``compilation``.

        Parameters stay as they are; copies of the network share the compiled code.

        Args:
            backend: compiler of torch.compile.

        Raises:
            ConfigError: the backbone has no compiled kernels.
        """
        self.network.compile_kernels(backend)

    def tabulate_radial(self) -> None:
        """Make tables of the radial functions of all sub-networks, for inference in float64.

        Convert the network to the precision that is wanted afterwards; see ``radial_table``.
        Backbones without tables stay as they are.
        """
        self.network.tabulate_radial()

    def free_atom_readouts(self) -> Tensor:
        """Return the sum of read-outs of an atom without neighbours.

        (n_elements,), in units of ``energy_scale``.
        """
        parameter = next(self.parameters())
        empty = HeteroData()
        empty[fields.CELL] = torch.eye(3, dtype=parameter.dtype, device=parameter.device)[None]
        empty[fields.ATOM][fields.NUMBERS] = torch.zeros(
            0, dtype=torch.long, device=parameter.device
        )
        for relation in self.network.partition.relations:
            store = empty[fields.edge_type(relation)]
            store[fields.EDGE_INDEX] = torch.zeros(2, 0, dtype=torch.long, device=parameter.device)
            store[fields.EDGE_CELL_SHIFT] = torch.zeros(
                0, 3, dtype=torch.long, device=parameter.device
            )
        return self._readout(self._add_free_atoms(empty), parameter.new_zeros(0, 3))[1]

    def _readout(self, graph: Any, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return species and the sum of read-outs of every atom, both (n_atoms,).

        The sum is in units of ``energy_scale``.
        """
        free_positions = positions.new_zeros(len(self.network.elements), 3)
        features = self.network(graph, torch.cat([positions, free_positions]))
        parts = [
            readout(self.backbone_scalars(layer, nodes)).squeeze(1)
            for layer, (readout, nodes) in enumerate(
                zip(self.readouts, features.nodes, strict=True)
            )
        ]
        return features.species, torch.stack(parts).sum(0)

    def _add_free_atoms(self, graph: Any) -> Any:
        """Return a copy of the graph with one atom of every element, without edges, appended."""
        atoms = graph[fields.ATOM]
        numbers = atoms[fields.NUMBERS]
        extended = copy.copy(graph)
        store = extended[fields.ATOM]
        store[fields.NUMBERS] = torch.cat([numbers, numbers.new_tensor(self.network.elements)])
        if "batch" in atoms:
            store.batch = torch.cat(
                [atoms.batch, atoms.batch.new_zeros(len(self.network.elements))]
            )
        return extended

    def _strain(
        self, graph: Any, positions: Tensor, cell: Tensor, strain: Tensor
    ) -> tuple[Any, Tensor]:
        """Deform positions and cells by 1 + the symmetric part of a strain (n_graphs, 3, 3)."""
        deformation = torch.eye(3, dtype=cell.dtype, device=cell.device) + 0.5 * (
            strain + strain.transpose(1, 2)
        )
        deformed = copy.copy(graph)
        deformed[fields.CELL] = cell @ deformation
        of_atom = deformation.index_select(0, number_structures(graph))
        return deformed, (positions.unsqueeze(1) @ of_atom).squeeze(1)
