"""Cutoffs of the graphs of a training: as asked for, from the basis, and against the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.build import (
    LOST_BLOCK_TOLERANCE,
    AtomGraph,
    find_closest,
    measure_reach,
    round_up,
)
from mlepi.graphs.partitions import (
    DEFAULT,
    ELEMENT_KINDS,
    LAYERS,
    LAYERS_KIND,
    SHELL,
    SHELLS_KIND,
    Partition,
    check_kind,
)
from mlepi.structures.labelled_structure import LabelledStructure

SPAN_MARGIN = 1e-6
"""Relative distance beyond the range of the basis that is rounding."""

REACH = 5.0
"""Å, of graphs of forces where nothing is given."""
SHORTEST_REACH = 1.5
"""Least reach in units of the shortest distance of a relation, where nothing is given."""
BONDS = 1.4
"""End of the first distance shell in units of the shortest distance: behind nearest neighbours, and
before the second ones of a honeycomb (√3), a diamond (1.63) and a close packing (√2)."""


def read_cutoffs(given: Any, kind: str = LAYERS_KIND) -> dict[str, float | None]:
    """Return the cutoff of every relation that is named, Å, None where it follows from the data.

    Args:
        given: relation → length or None, or one of these for all relations; of distance shells, for
            the outermost of two.
        kind: of the partition, which decides what relations there can be.

    Raises:
        ConfigError: a length is not a positive number, or a relation of layers is missing or
            unknown.
    """
    check_kind(kind)
    named = dict(given) if isinstance(given, Mapping) else _name_relations(given, kind)
    good = (kind != LAYERS_KIND or set(named) == set(fields.RELATIONS)) and all(
        value is None
        or (isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < 1e3)
        for value in named.values()
    )
    if not good:
        relations = {LAYERS_KIND: f" of {list(fields.RELATIONS)}", SHELLS_KIND: " shell"}
        raise ConfigError(
            message(
                "graph.cutoffs",
                str(dict(given) if isinstance(given, Mapping) else given),
                f"a positive length in Å, or one for each{relations.get(kind, ' relation')}",
                f"Give for example graph.cutoffs=9, or graph.cutoffs.{EXAMPLES[kind]}=9.",
            )
        )
    order = fields.RELATIONS if kind == LAYERS_KIND else named
    return {str(n): None if named[n] is None else float(named[n]) for n in order}


EXAMPLES = {
    LAYERS_KIND: "inter",
    SHELLS_KIND: "shell2",
    "element_pairs": "B-N",
    "vertices": "B",
    "triplets": "B_B-N",
}
"""Kind of partition → a relation of it, for messages."""


def _name_relations(length: Any, kind: str) -> dict[str, Any]:
    """Return the relations for which one length stands."""
    if kind == SHELLS_KIND:
        return {f"{SHELL}1": None, f"{SHELL}2": length}
    return dict.fromkeys((DEFAULT,) if kind in ELEMENT_KINDS else fields.RELATIONS, length)


def end_shells(
    requested: Mapping[str, float | None], structures: Sequence[LabelledStructure]
) -> dict[str, float | None]:
    """Return where distance shells end, Å, if the first end or the last are not given.

    The first ends at ``BONDS`` times the shortest distance, the last where ``reach_neighbours``
    would.

    Args:
        requested: shell → Å, or None.
        structures: training subset.
    """
    ends = dict(requested)
    if None not in ends.values():
        return ends
    shortest = min(_find_shortest(structures, LAYERS).values())
    first, last = f"{SHELL}1", f"{SHELL}{len(ends)}"
    if math.isfinite(shortest):
        if ends.get(first) is None:
            ends[first] = round_up(BONDS * shortest)
        if ends.get(last) is None:
            ends[last] = max(REACH, round_up(SHORTEST_REACH * BONDS * shortest))
    return ends


def reach_neighbours(
    requested: Mapping[str, float | None],
    structures: Sequence[LabelledStructure],
    partition: Partition = LAYERS,
) -> dict[str, float]:
    """Return the cutoff of every relation, Å: ``REACH`` where none is given.

    Where the shortest distance of a relation is long, ``SHORTEST_REACH`` times that.

    Args:
        requested: relation → Å, or None.
        structures: of the data set.
        partition: of their edges.
    """
    cutoffs = {name: REACH if value is None else value for name, value in requested.items()}
    if None not in requested.values():
        return cutoffs
    for name, length in _find_shortest(structures, partition).items():
        if requested[name] is None and math.isfinite(length):
            cutoffs[name] = max(REACH, round_up(SHORTEST_REACH * length))
    return cutoffs


def _find_shortest(
    structures: Sequence[LabelledStructure], partition: Partition
) -> dict[str, float]:
    """Return the shortest distance of every relation in all structures, Å; infinite without one."""
    found = [find_closest(structure.atoms, partition) for structure in structures]
    return {name: min(one[name] for one in found) for name in partition.relations}


def check_edges(
    structures: Sequence[LabelledStructure],
    graphs: Sequence[AtomGraph],
    cutoffs: Mapping[str, float],
    partition: Partition = LAYERS,
) -> None:
    """Refuse cutoffs below the shortest distance of the data, with which nothing has a neighbour.

    Pairs of elements may be farther apart than a cutoff that others have neighbours in, as those of
    rare dopants.

    Args:
        structures: training subset.
        graphs: its graphs, in the same order.
        cutoffs: relation → Å.
        partition: of their edges.

    Raises:
        ConfigError: no atom of any structure has a neighbour in a relation that the structures
            have.
    """
    empty = [
        relation
        for relation in partition.relations
        if not any(graph[fields.edge_type(relation)][fields.EDGE_INDEX].numel() for graph in graphs)
    ]
    if partition.kind == LAYERS_KIND and not any(
        int(graph[fields.ATOM][fields.LAYER].max()) > 0 for graph in graphs
    ):
        empty = [relation for relation in empty if relation == fields.INTRA]
    if not empty:
        return
    closest = _find_shortest(structures, partition)
    if partition.kind in ELEMENT_KINDS and len(empty) < len(partition.relations):
        empty = [relation for relation in empty if cutoffs[relation] < min(closest.values())]
    for relation in empty:
        if math.isfinite(closest[relation]):
            raise ConfigError(
                message(
                    f"graph.cutoffs.{relation}",
                    f"{cutoffs[relation]:g} Å, within which no two atoms of the data lie",
                    f"more than their shortest distance, {closest[relation]:.2f} Å",
                    "Take it a few neighbour shells, or for Hamiltonians the range of the basis.",
                )
            )


def cover_labels(
    requested: Mapping[str, float | None], span: float, structures: Sequence[LabelledStructure]
) -> dict[str, float]:
    """Return the cutoff of every relation, Å; the range of the basis where none is given.

    Radii that were inferred from the longest pair leave that pair at the very end of the range, so
    a range without a wish is extended by rounding.

    Args:
        requested: relation → Å, or None.
        span: range of the basis, Å.
        structures: with Hamiltonians.

    Raises:
        ConfigError: labels reach further; the text says how far.
    """
    cutoffs = {name: span if value is None else value for name, value in requested.items()}
    beyond = min(cutoffs.values()) * (1.0 - SPAN_MARGIN)
    reach = dict.fromkeys(fields.RELATIONS, 0.0)
    where = dict.fromkeys(fields.RELATIONS, "")
    for structure in structures:
        for name, length in measure_reach(structure, beyond).items():
            if length > reach[name]:
                reach[name], where[name] = length, structure.name
    for name, length in reach.items():
        if requested[name] is None and length <= span * (1.0 + SPAN_MARGIN):
            cutoffs[name] = max(span, length * (1.0 + SPAN_MARGIN))
    short = [name for name, length in reach.items() if length >= cutoffs[name]]
    if not short:
        return cutoffs
    furthest = max(short, key=lambda name: reach[name])
    given = ", ".join(f"{name} {cutoffs[name]:.2f} Å" for name in short)
    raise ConfigError(
        message(
            "graph.cutoffs",
            f"{given} (range of the basis: {span:.2f} Å) and Hamiltonian elements above "
            f"{LOST_BLOCK_TOLERANCE} eV as far as {reach[furthest]:.2f} Å (structure "
            f"{where[furthest]!r})",
            "cutoffs beyond all labels",
            f"Give {' '.join(f'graph.cutoffs.{n}={round_up(reach[n])}' for n in short)}.",
        )
    )
