"""H and S of any structure from a trained electron network and a radial overlap table."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import nn
from torch_geometric.data import Batch

from mlepi.arithmetic import parse_dtype
from mlepi.errors import DataError, message
from mlepi.graphs import fields
from mlepi.graphs.augmented_pairs import compute_augmented_overlaps, find_augmented_pairs
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.graphs.neighbours import find_edges
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    OverlapTable,
    RadialOverlaps,
    compute_overlap_blocks,
)
from mlepi.predictors.augmented_derivatives import (
    differentiate_augmented,
    differentiate_augmented_kets,
)
from mlepi.predictors.derivatives import (
    FORWARD_MODE,
    BlockDerivatives,
    MatrixDerivatives,
    differentiate_network,
)
from mlepi.predictors.forward_mode import differentiate_overlaps
from mlepi.predictors.given_overlaps import OverlapSource
from mlepi.predictors.level_shifts import read_level_shift
from mlepi.predictors.predictor import Predictor
from mlepi.structures.basis import OrbitalBasis

RADIUS_TOLERANCE = 1e-3
"""Largest accepted difference of the orbital radii of basis and overlap table, Å."""


class ElectronPredictor(Predictor):
    """Hamiltonian in local orbitals of a trained electron network, and the overlap of its orbitals.

    Args:
        model: trained network.
        basis: orbitals of the data it was trained on.
        cutoffs: relation → cutoff of the graph, Å; blocks of the Hamiltonian vanish beyond.
        overlap_table: radial overlap functions of the basis; without it only Hamiltonians can be
            predicted.
        metadata: where the network comes from; plain Python data.

    Attributes:
        overlap_source: knows S of every structure and is asked instead of the table, where S is not
            two-centre; its derivatives are then unknown.

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
        overlap_table: RadialOverlaps | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, elements=basis.elements, cutoffs=cutoffs, metadata=metadata)
        self.basis = basis
        self.overlap_table = overlap_table
        self.overlap_source: OverlapSource | None = None
        if overlap_table is not None:
            check_overlap_table(basis, overlap_table)

    @property
    def level_shift(self) -> LevelShift | None:
        """What removes ghost states when its matrices are diagonalised; no matrix contains it.

        ``mlepi.graphs.shifted_matrix.shift_hamiltonian`` applies it.
        """
        return read_level_shift(self.metadata, self.basis)

    def hamiltonian(
        self, atoms: Atoms, *, device: str | torch.device = "cpu", dtype: str = "float32"
    ) -> BlockMatrix:
        """Predict the Hamiltonian of a structure, without the level shift.

        Args:
            atoms: structure; not modified.
            device: where the network runs.
            dtype: precision of the network; the blocks are returned in float64.

        Returns:
            On-site blocks in the order of the atoms, then the blocks of every relation, eV.

        Raises:
            StructureError: an unknown element or atoms that are too close.
        """
        return self.hamiltonians([atoms], device=device, dtype=dtype)[0]

    def hamiltonians(
        self,
        structures: Sequence[Atoms],
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> list[BlockMatrix]:
        """Predict the Hamiltonians of several structures in one evaluation.

        Each is what it would be alone, but for rounding.

        Args:
            structures: not modified.
            device: where the network runs.
            dtype: precision of the network; the blocks are returned in float64.

        Returns:
            One matrix per structure, as ``hamiltonian`` gives it.

        Raises:
            StructureError: an unknown element or atoms that are too close.
        """
        network = self.network(device, dtype)
        for atoms in structures:
            self.check_elements(atoms.numbers)
        graphs = [
            build_graph(atoms, self.cutoffs, dtype=parse_dtype(dtype)) for atoms in structures
        ]
        batch = graphs[0] if len(graphs) == 1 else Batch.from_data_list(graphs)
        with torch.no_grad():
            predicted = network(batch.to(device))
        onsite = np.split(
            _to_numpy(predicted["onsite_blocks"]),
            np.cumsum([len(atoms) for atoms in structures])[:-1],
        )
        parts = {
            relation: np.split(
                _to_numpy(values),
                np.cumsum([_edges(graph, relation).num_edges for graph in graphs])[:-1],
            )
            for relation, values in predicted["edge_blocks"].items()
        }
        return [
            self.assemble(
                atoms, graph, onsite[n], {relation: split[n] for relation, split in parts.items()}
            )
            for n, (atoms, graph) in enumerate(zip(structures, graphs, strict=True))
        ]

    def assemble(
        self,
        atoms: Atoms,
        graph: AtomGraph,
        onsite: NDArray[np.float64],
        edge_blocks: Mapping[str, NDArray[np.float64]],
    ) -> BlockMatrix:
        """Put the blocks of one structure together: on-site ones, then every relation.

        Args:
            atoms: structure.
            graph: of it, as the network saw it.
            onsite: (n_atoms, p, p), eV.
            edge_blocks: relation → (n_edges, p, p), eV, in the order of the graph's edges.
        """
        edge_index, shift = _block_edges(len(atoms), graph, list(edge_blocks))
        blocks = np.concatenate([onsite, *edge_blocks.values()])
        return BlockMatrix(
            np.asarray(atoms.numbers, dtype=np.int64), self.basis, edge_index, shift, blocks
        )

    def overlap(self, atoms: Atoms, table: RadialOverlaps | None = None) -> BlockMatrix:
        """Compute the overlap matrix of all pairs that overlap.

        They are closer than the sum of their orbital radii, or meet the same projectors.

        Args:
            atoms: structure; not modified.
            table: used instead of the checkpoint's own table.

        Raises:
            DataError: there is no table, or it belongs to another basis.
            StructureError: an unknown element or atoms that are too close.
            PhysicsError: a fitted table has not seen one of the distances.
        """
        return self.overlaps([atoms], table)[0]

    def overlaps(
        self, structures: Sequence[Atoms], table: RadialOverlaps | None = None
    ) -> list[BlockMatrix]:
        """Compute the overlap matrices of several structures.

        Arguments and errors as ``overlap``.
        """
        for atoms in structures:
            self.basis.check_elements(atoms.numbers)
        if table is None and self.overlap_source is not None:
            source = self.overlap_source
            return [source.overlap(atoms, self.basis) for atoms in structures]
        used = self.require_table(table)
        if isinstance(used, AugmentedOverlapTable):
            return [compute_augmented_overlaps(atoms, used, self.basis) for atoms in structures]
        pairs = [_find_overlapping_pairs(atoms, used) for atoms in structures]
        first = np.append(0, np.cumsum([len(atoms) for atoms in structures]))
        blocks = compute_overlap_blocks(
            used,
            np.concatenate([np.asarray(atoms.numbers, dtype=np.int64) for atoms in structures]),
            np.concatenate(
                [pair.edge_index + start for pair, start in zip(pairs, first[:-1], strict=True)],
                axis=1,
            ),
            np.concatenate([pair.vectors for pair in pairs]),
            self.basis.max_orbitals,
        )
        splits = np.split(blocks, np.cumsum([len(pair.vectors) for pair in pairs])[:-1])
        return [
            BlockMatrix(
                np.asarray(atoms.numbers, dtype=np.int64),
                self.basis,
                pair.edge_index,
                pair.edge_cell_shift,
                part,
            )
            for atoms, pair, part in zip(structures, pairs, splits, strict=True)
        ]

    def derivatives(
        self, atoms: Atoms, directions: NDArray[np.float64], *, device: str | torch.device = "cpu"
    ) -> MatrixDerivatives:
        """Differentiate H and S along directions, exactly and in double precision.

        See ``mlepi.predictors.derivatives``.

        Args:
            atoms: structure at rest; not modified.
            directions: (n_directions, n_atoms, 3).
            device: where the network runs.

        Raises:
            DataError: there is no overlap table.
            StructureError: an unknown element or atoms that are too close.
        """
        return self._differentiate(atoms, device, directions, None)

    def second_derivatives(
        self,
        atoms: Atoms,
        first: NDArray[np.float64],
        second: NDArray[np.float64],
        *,
        device: str | torch.device = "cpu",
    ) -> MatrixDerivatives:
        """Return ∂²/∂first∂second of H and S for pairs of directions, otherwise as above.

        Directions are (n_directions, n_atoms, 3) each.
        """
        return self._differentiate(atoms, device, first, second)

    def list_edges(
        self, atoms: Atoms, graph: AtomGraph
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the blocks of H: on-site ones, then those of every relation.

        Args:
            atoms: structure.
            graph: of it.

        Returns:
            ``edge_index`` (2, n_edges) and ``edge_cell_shift`` (n_edges, 3).
        """
        return _block_edges(len(atoms), graph, fields.RELATIONS)

    def _differentiate(
        self,
        atoms: Atoms,
        device: str | torch.device,
        first: NDArray[np.float64],
        second: NDArray[np.float64] | None,
    ) -> MatrixDerivatives:
        table = self.require_table(None)
        self.check_elements(atoms.numbers)
        # compiled kernels know no forward mode
        network = copy.deepcopy(self._model).to(device=device, dtype=torch.float64)
        graph = build_graph(atoms, self.cutoffs, dtype=torch.float64)
        values = differentiate_network(network, graph.to(device), first, second)
        edges = BlockDerivatives(*self.list_edges(atoms, graph), values)
        if isinstance(table, AugmentedOverlapTable):
            overlap, kets = _differentiate_augmented(table, atoms, self.basis, first, second)
            return MatrixDerivatives(edges, overlap, kets, FORWARD_MODE)
        pairs = _find_overlapping_pairs(atoms, table)
        source, target = pairs.edge_index

        def overlaps(
            one: NDArray[np.float64], other: NDArray[np.float64] | None = None
        ) -> BlockDerivatives:
            blocks = differentiate_overlaps(
                table,
                atoms.numbers,
                pairs.edge_index,
                pairs.vectors,
                self.basis.max_orbitals,
                one,
                other,
            )
            return BlockDerivatives(pairs.edge_index, pairs.edge_cell_shift, blocks)

        changes = [None if d is None else d[:, source] - d[:, target] for d in (first, second)]
        return MatrixDerivatives(
            edges,
            overlaps(first[:, source] - first[:, target], changes[1]),
            overlaps(first[:, source]) if second is None else None,
            FORWARD_MODE,
        )

    def require_table(self, table: RadialOverlaps | None = None) -> RadialOverlaps:
        """Return the overlap table that is used: the one given, or the checkpoint's own.

        Raises:
            DataError: there is none, or it belongs to another basis.
        """
        if table is not None:
            check_overlap_table(self.basis, table)
        used = self.overlap_table if table is None else table
        if table is None and self.overlap_source is not None:
            got = "S of every structure by itself, without its derivatives"
            fix = (
                "Leave linear_response out: averages over displaced structures need no derivative."
            )
            raise DataError(message("overlap", got, "a table of overlaps", fix))
        if used is None:
            raise DataError(
                message(
                    "electron checkpoint",
                    "no overlap table",
                    "S of the structures: a table or .pao or .ion.xml files of its orbitals, or "
                    "where S is not two-centre a folder with S of every structure or a program",
                    "Set overlap=TABLE.h5, overlap=FOLDER or overlap={program: COMMAND}.",
                )
            )
        return used


class _Pairs(NamedTuple):
    """On-site pairs and pairs of overlapping orbitals.

    Index (2, n), cell shift (n, 3) int, and vectors (n, 3) Å from target to source.
    """

    edge_index: NDArray[np.int64]
    edge_cell_shift: NDArray[np.int64]
    vectors: NDArray[np.float64]


def _find_overlapping_pairs(atoms: Atoms, table: OverlapTable) -> _Pairs:
    edge_index, shift = find_edges(atoms, max(table.cutoff(a, b) for a, b in table.values))
    vectors = (
        atoms.positions[edge_index[0]] + shift @ atoms.cell.array - atoms.positions[edge_index[1]]
    )
    radii = np.array([table.radii[int(z)] for z in atoms.numbers])
    close = np.linalg.norm(vectors, axis=1) < radii[edge_index[0]] + radii[edge_index[1]]
    onsite_index, onsite_shift = _onsite_edges(len(atoms))
    return _Pairs(
        np.concatenate([onsite_index, edge_index[:, close]], axis=1),
        np.concatenate([onsite_shift, shift[close]]),
        np.concatenate([np.zeros((len(atoms), 3)), vectors[close]]),
    )


def _differentiate_augmented(
    table: AugmentedOverlapTable,
    atoms: Atoms,
    basis: OrbitalBasis,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None,
) -> tuple[BlockDerivatives, BlockDerivatives | None]:
    """Return derivatives of S, and where the orbital on the right moves alone."""
    pairs = find_augmented_pairs(atoms, table)
    given = table, atoms.numbers, pairs, basis.max_orbitals
    values = differentiate_augmented(*given, first, second)
    overlap = BlockDerivatives(pairs.edge_index, pairs.edge_cell_shift, values)
    if second is not None:
        return overlap, None
    kets = differentiate_augmented_kets(*given, first)
    return overlap, BlockDerivatives(pairs.edge_index, pairs.edge_cell_shift, kets)


def check_overlap_table(basis: OrbitalBasis, table: RadialOverlaps) -> None:
    """Raise ``DataError`` when an overlap table lacks the orbitals of a basis or has others."""
    for z in basis.elements:
        found = (table.shells.get(z), table.radii.get(z, 0.0))
        # S of augmented waves reaches beyond the orbitals, and so does the radius of such a basis
        same_reach = isinstance(table, AugmentedOverlapTable) or (
            abs(found[1] - basis.radii[z]) <= RADIUS_TOLERANCE
        )
        if found[0] != basis.shells[z] or not same_reach:
            raise DataError(
                message(
                    f"overlap table, element {z}",
                    f"shells {found[0]} within {found[1]:.3f} Å",
                    f"{basis.shells[z]} within {basis.radii[z]:.3f} Å, the basis of the "
                    "Hamiltonian",
                    "Use the table of this basis.",
                )
            )


def _edges(graph: AtomGraph, relation: str) -> Any:
    """Return the part of a graph that holds the edges of a relation."""
    return graph[fields.edge_type(relation)]


def _block_edges(
    n_atoms: int, graph: AtomGraph, relations: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return index and cell shift of the on-site blocks, then of the edges of some relations."""
    stores = [_edges(graph, relation) for relation in relations]
    edge_index, shift = _onsite_edges(n_atoms)
    return (
        np.concatenate(
            [edge_index, *(store[fields.EDGE_INDEX].cpu().numpy() for store in stores)], axis=1
        ),
        np.concatenate([shift, *(store[fields.EDGE_CELL_SHIFT].cpu().numpy() for store in stores)]),
    )


def _onsite_edges(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return index (2, n_atoms) and cell shift (n_atoms, 3) of the on-site blocks."""
    return np.tile(np.arange(n_atoms, dtype=np.int64), (2, 1)), np.zeros(
        (n_atoms, 3), dtype=np.int64
    )


def _to_numpy(values: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().cpu().double().numpy()
    return array
