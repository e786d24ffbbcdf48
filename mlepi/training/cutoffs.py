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
from mlepi.structures.labelled_structure import LabelledStructure

SPAN_MARGIN = 1e-6
"""Relative distance beyond the range of the basis that is rounding."""


def read_cutoffs(given: Any) -> dict[str, float | None]:
    """Return the cutoff of every relation, Å, None where it follows from the data.

    Args:
        given: relation → length or None, or one of these for all relations.

    Raises:
        ConfigError: a relation is missing or unknown, or a length is not a positive number.
    """
    named = given if isinstance(given, Mapping) else dict.fromkeys(fields.RELATIONS, given)
    good = set(named) == set(fields.RELATIONS) and all(
        value is None
        or (isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < 1e3)
        for value in named.values()
    )
    if not good:
        raise ConfigError(
            message(
                "graph.cutoffs",
                str(dict(given) if isinstance(given, Mapping) else given),
                f"a positive length in Å, or one for each of {list(fields.RELATIONS)}",
                "Give for example graph.cutoffs=9, or graph.cutoffs.inter=9.",
            )
        )
    return {name: None if named[name] is None else float(named[name]) for name in fields.RELATIONS}


def check_edges(
    structures: Sequence[LabelledStructure],
    graphs: Sequence[AtomGraph],
    cutoffs: Mapping[str, float],
) -> None:
    """Refuse cutoffs below the shortest distance of the data, with which nothing has a neighbour.

    Args:
        structures: training subset.
        graphs: its graphs, in the same order.
        cutoffs: relation → Å.

    Raises:
        ConfigError: no atom of any structure has a neighbour in a relation that the structures
            have.
    """
    layered = any(int(graph[fields.ATOM][fields.LAYER].max()) > 0 for graph in graphs)
    for relation in fields.RELATIONS if layered else (fields.INTRA,):
        stores = (graph[fields.edge_type(relation)] for graph in graphs)
        if any(store[fields.EDGE_INDEX].numel() for store in stores):
            continue
        closest = min(find_closest(structure.atoms, relation) for structure in structures)
        if math.isfinite(closest):
            raise ConfigError(
                message(
                    f"graph.cutoffs.{relation}",
                    f"{cutoffs[relation]:g} Å, within which no two atoms of the data lie",
                    f"more than their shortest distance, {closest:.2f} Å",
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
