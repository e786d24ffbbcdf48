"""Hamiltonian and overlap matrices of any structure from a trained electron network and a radial overlap table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import nn

from mlepi.errors import DataError, message
from mlepi.graphs import fields
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.build import build_graph
from mlepi.graphs.neighbours import find_edges
from mlepi.physics.overlaps import OverlapTable, compute_overlap_blocks
from mlepi.predictors.predictor import DTYPES, Predictor
from mlepi.structures.basis import OrbitalBasis

RADIUS_TOLERANCE = 1e-3
"""Largest accepted difference of the orbital radii of basis and overlap table, Å."""


class ElectronPredictor(Predictor):
    """Hamiltonian in local orbitals of a trained electron network, and the overlap of its orbitals.

    Args:
        model: trained network.
        basis: orbitals of the data it was trained on.
        cutoffs: relation → cutoff of the graph, Å; blocks of the Hamiltonian vanish beyond.
        overlap_table: radial overlap functions of the basis; without it only Hamiltonians can be predicted.
        metadata: where the network comes from; plain Python data.

    Raises:
        DataError: the overlap table belongs to another basis.
    """

    kind: ClassVar[str] = "electron"

    def __init__(
        self,
        model: nn.Module,
        *,
        basis: OrbitalBasis,
        cutoffs: Mapping[str, float],
        overlap_table: OverlapTable | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, elements=basis.elements, cutoffs=cutoffs, metadata=metadata)
        self.basis = basis
        self.overlap_table = overlap_table
        if overlap_table is not None:
            check_overlap_table(basis, overlap_table)

    def hamiltonian(self, atoms: Atoms, *, device: str | torch.device = "cpu", dtype: str = "float32") -> BlockMatrix:
        """Predict the Hamiltonian of a structure.

        Args:
            atoms: structure; not modified.
            device: where the network runs.
            dtype: precision of the network; the blocks are returned in float64.

        Returns:
            On-site blocks in the order of the atoms, then the blocks of every relation, eV.

        Raises:
            StructureError: an unknown element or atoms that are too close.
        """
        network = self.network(device, dtype)
        self.check_elements(atoms.numbers)
        graph = build_graph(atoms, self.cutoffs, dtype=DTYPES[dtype]).to(device)
        with torch.no_grad():
            predicted = network(graph)
        edge_index, shift = _onsite_edges(len(atoms))
        indices, shifts, blocks = [edge_index], [shift], [_to_numpy(predicted["onsite_blocks"])]
        for relation, values in predicted["edge_blocks"].items():
            store = graph[fields.edge_type(relation)]
            indices.append(store[fields.EDGE_INDEX].cpu().numpy())
            shifts.append(store[fields.EDGE_CELL_SHIFT].cpu().numpy())
            blocks.append(_to_numpy(values))
        return BlockMatrix(
            numbers=np.asarray(atoms.numbers, dtype=np.int64),
            basis=self.basis,
            edge_index=np.concatenate(indices, axis=1),
            edge_cell_shift=np.concatenate(shifts),
            blocks=np.concatenate(blocks),
        )

    def overlap(self, atoms: Atoms, table: OverlapTable | None = None) -> BlockMatrix:
        """Compute the overlap matrix of a structure: all pairs closer than the sum of their orbital radii.

        Args:
            atoms: structure; not modified.
            table: used instead of the checkpoint's own table.

        Raises:
            DataError: there is no table, or it belongs to another basis.
            StructureError: an unknown element or atoms that are too close.
            PhysicsError: a fitted table has not seen one of the distances.
        """
        if table is not None:
            check_overlap_table(self.basis, table)
        used = self.overlap_table if table is None else table
        if used is None:
            raise DataError(
                message(
                    "electron checkpoint",
                    "no overlap table",
                    "one, or a table passed to overlap()",
                    "Read one with mlepi.physics.overlaps.read_overlap_table, or export the checkpoint with it.",
                )
            )
        self.basis.check_elements(atoms.numbers)
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        edge_index, shift = find_edges(atoms, max(used.cutoff(a, b) for a, b in used.values))
        vectors = atoms.positions[edge_index[0]] + shift @ atoms.cell.array - atoms.positions[edge_index[1]]
        radii = np.array([used.radii[int(z)] for z in numbers])
        close = np.linalg.norm(vectors, axis=1) < radii[edge_index[0]] + radii[edge_index[1]]
        onsite_index, onsite_shift = _onsite_edges(len(atoms))
        edge_index = np.concatenate([onsite_index, edge_index[:, close]], axis=1)
        vectors = np.concatenate([np.zeros((len(atoms), 3)), vectors[close]])
        return BlockMatrix(
            numbers=numbers,
            basis=self.basis,
            edge_index=edge_index,
            edge_cell_shift=np.concatenate([onsite_shift, shift[close]]),
            blocks=compute_overlap_blocks(used, numbers, edge_index, vectors, self.basis.max_orbitals),
        )


def check_overlap_table(basis: OrbitalBasis, table: OverlapTable) -> None:
    """Raise ``DataError`` when an overlap table lacks the orbitals of a basis or has others."""
    for z in basis.elements:
        found = (table.shells.get(z), table.radii.get(z, 0.0))
        if found[0] != basis.shells[z] or abs(found[1] - basis.radii[z]) > RADIUS_TOLERANCE:
            raise DataError(
                message(
                    f"overlap table, element {z}",
                    f"shells {found[0]} within {found[1]:.3f} Å",
                    f"{basis.shells[z]} within {basis.radii[z]:.3f} Å, the basis of the Hamiltonian",
                    "Use the table of this basis.",
                )
            )


def _onsite_edges(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``edge_index`` (2, n_atoms) and ``edge_cell_shift`` (n_atoms, 3) of the on-site blocks."""
    return np.tile(np.arange(n_atoms, dtype=np.int64), (2, 1)), np.zeros((n_atoms, 3), dtype=np.int64)


def _to_numpy(values: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().cpu().double().numpy()
    return array
