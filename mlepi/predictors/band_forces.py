"""Forces of the occupied bands of an electron network, and what a denser k-mesh changes in labels.

A total energy from a mesh that is too coarse is wrong by an amount that depends on the cell, and
its forces are no function of the atoms' surroundings: a network cannot learn them. The error is
that of a sum over occupied bands, so whoever knows H and S of any structure can compute it, see
``mlepi.graphs.band_sums``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs import fields
from mlepi.graphs.band_sums import sum_bands
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.build import build_graph
from mlepi.physics.eigenstates.bloch import count_valence_electrons
from mlepi.physics.overlaps import AugmentedOverlapTable
from mlepi.physics.overlaps.evaluate import compute_overlap_blocks_torch

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.predictors.electron import ElectronPredictor


@dataclass(frozen=True)
class MeshChange:
    """What a denser k-mesh changes.

    Attributes:
        energy: E(dense) − E(mesh), eV per cell.
        forces: (n_atoms, 3) F(dense) − F(mesh), eV/Å.
    """

    energy: float
    forces: NDArray[np.float64]


def compute_band_forces(
    model: ElectronPredictor,
    atoms: Atoms,
    density: BlockMatrix,
    energy_density: BlockMatrix,
    *,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Compute −Σ_R Tr[P(R)ᵀ ∂H(R)/∂u − W(R)ᵀ ∂S(R)/∂u] of every atom, in reverse mode.

    One evaluation of the network and one of its gradient, in double precision.

    Args:
        model: of H and S.
        atoms: structure; not modified.
        density: P, on any edges; those outside the network's graph, where H is zero, do not count.
        energy_density: W, eV, on any edges of the overlap.
        device: where the network runs.

    Returns:
        (n_atoms, 3), eV/Å.

    Raises:
        DataError: there is no overlap table, or it is of augmented waves.
        StructureError: an unknown element or atoms that are too close.
    """
    table = model.require_table()
    if isinstance(table, AugmentedOverlapTable):
        got, fix = (
            "overlaps of augmented waves",
            "Label with more k-points (dft.k_spacing) instead.",
        )
        raise DataError(message("band forces", got, "two-centre overlaps", fix))
    graph = build_graph(atoms, model.cutoffs, dtype=torch.float64)
    place = find_pairs(
        list_pairs(*model.list_edges(atoms, graph)),
        list_pairs(density.edge_index, density.edge_cell_shift),
    )
    known = place >= 0
    graph = graph.to(device)
    moved = graph[fields.ATOM][fields.POSITIONS].detach().clone().requires_grad_()
    graph[fields.ATOM][fields.POSITIONS] = moved
    predicted = model.network(device, "float64")(graph)
    blocks = torch.cat([predicted["onsite_blocks"], *predicted["edge_blocks"].values()])
    weights = torch.from_numpy(density.blocks[known]).to(device)
    energy = (blocks[torch.from_numpy(place[known]).to(device)] * weights).sum()
    (slope,) = torch.autograd.grad(energy, moved)
    positions = torch.from_numpy(atoms.positions.copy()).requires_grad_()
    edges = torch.from_numpy(np.ascontiguousarray(energy_density.edge_index))
    across = torch.from_numpy(energy_density.edge_cell_shift @ atoms.cell.array)
    overlaps = compute_overlap_blocks_torch(
        table,
        torch.from_numpy(np.asarray(atoms.numbers, dtype=np.int64)),
        edges,
        positions[edges[0]] + across - positions[edges[1]],
        model.basis.max_orbitals,
    )
    constraint = (overlaps * torch.from_numpy(energy_density.blocks)).sum()
    (pull,) = torch.autograd.grad(constraint, positions)
    return np.asarray((pull - slope.cpu()).numpy())


def change_mesh(
    model: ElectronPredictor,
    atoms: Atoms,
    mesh: Sequence[int],
    factor: int,
    temperature: float,
    *,
    valence: Mapping[int, float],
    labelled: tuple[BlockMatrix, BlockMatrix] | None = None,
    device: str = "cpu",
) -> MeshChange:
    """Compute what a k-mesh finer by a factor would change in a label's energy and forces.

    Args:
        model: electron network trained on labels of the same basis; its derivatives are used.
        atoms: structure; not modified.
        mesh: (3,) divisions of the label.
        factor: of the divisions that are above one.
        temperature: of the label's electrons, K.
        valence: atomic number → electrons of its pseudopotential.
        labelled: H and S of the label, whose bands are summed; by default the network's.
        device: where the network runs.

    Raises:
        DataError: there is no overlap table.
        StructureError: an unknown element or atoms that are too close.
        PhysicsError: the bands cannot hold the electrons.
    """
    if labelled is None:
        labelled = model.hamiltonian(atoms, device=device, dtype="float64"), model.overlap(atoms)
    electrons = count_valence_electrons(atoms.numbers, valence)
    coarse, fine = (
        sum_bands(*labelled, divisions, electrons, temperature)
        for divisions in (mesh, [n * factor if n > 1 else 1 for n in mesh])
    )
    densities = (
        replace(after, blocks=after.blocks - before.blocks)
        for before, after in (
            (coarse.density, fine.density),
            (coarse.energy_density, fine.energy_density),
        )
    )
    forces = compute_band_forces(model, atoms, *densities, device=device)
    return MeshChange(fine.energy - coarse.energy, forces)
