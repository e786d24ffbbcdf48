"""Names, shapes and units of everything that a graph carries, written down only here.

A graph is a PyG ``HeteroData`` with node type ``ATOM`` and one edge type per relation: those of
``RELATIONS`` unless another ``partitions.Partition`` divides the edges. Shapes use n_atoms, n_edges
(of that relation), n_graphs and p = ``OrbitalBasis.max_orbitals``.
"""

from __future__ import annotations

from collections.abc import Iterable

ATOM = "atom"
INTRA = "intra"
INTER = "inter"
RELATIONS: tuple[str, ...] = (INTRA, INTER)


def edge_type(relation: str) -> tuple[str, str, str]:
    """Return the PyG edge type of a relation name."""
    return (ATOM, relation, ATOM)


def order_relations(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of relations in the order in which tensors count them.

    Those of ``RELATIONS`` come first, the others follow by name.
    """
    given = set(names)
    return (*(r for r in RELATIONS if r in given), *sorted(given - set(RELATIONS)))


# graph level
CELL = "cell"  # (n_graphs, 3, 3), rows = lattice vectors, Å
PERIODIC = "periodic"  # (n_graphs, 3) bool, lattice vectors along which the structure repeats
ENERGY = "energy"  # (n_graphs,), eV
FERMI_ENERGY = "fermi_energy"  # (n_graphs,), eV, on the scale of the blocks; NaN where unknown
STRUCTURE = "structure"  # (n_graphs,) int, which structure of a data set it is

# atom level
POSITIONS = "positions"  # (n_atoms, 3), Å
NUMBERS = "numbers"  # (n_atoms,) int, atomic numbers
LAYER = "layer"  # (n_atoms,) int
FORCES = "forces"  # (n_atoms, 3), eV/Å

# edge level; on-site edges are not edges of the graph: their blocks are atom-level labels
EDGE_INDEX = "edge_index"  # (2, n_edges) int, row 0 = source j, row 1 = target i
# (n_edges, 3) int; r_ij = positions[source] + shift @ cell − positions[target]
EDGE_CELL_SHIFT = "edge_cell_shift"
# (n_edges,) int, position of the reverse edge in the same relation; of RELATIONS only
REVERSE_EDGE = "reverse_edge"

# atom level (on-site) and edge level
HAMILTONIAN_BLOCKS = "hamiltonian_blocks"  # (n_atoms or n_edges, p, p), eV
OVERLAP_BLOCKS = "overlap_blocks"  # (n_atoms or n_edges, p, p)
