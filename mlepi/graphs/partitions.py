"""How the edges of a graph are divided into relations, each of which a sub-network may see.

``layers``: within a layer and between layers (HedgeNet). ``element_pairs``, ``vertices`` and
``triplets``: by the elements of target (centre) and source (HermNet: HPNet, HVNet and HTNet).
``distance_shells``: by length. Names of relations follow from the elements that a network knows:
``B-N``, a pair; ``B``, a centre; ``B_B-N``, a centre and the pair of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.graphs import fields

LAYERS_KIND = "layers"
ELEMENT_KINDS = ("element_pairs", "vertices", "triplets")
SHELLS_KIND = "distance_shells"
KINDS = (LAYERS_KIND, *ELEMENT_KINDS, SHELLS_KIND)

DEFAULT = "default"
"""Key of the cutoff of every relation of elements that has none of its own."""

SHELL = "shell"
"""Shells are called ``shell1``, ``shell2`` … from the shortest distances on."""


@dataclass(frozen=True)
class Partition:
    """A division of edges.

    Attributes:
        kind: one of ``KINDS``.
        elements: atomic numbers, ascending, where relations follow from them; else empty.
        shells: outer ends of the shells, ascending, Å; empty for other kinds.
        overlap: of neighbouring shells, Å. Edges there are in both: the outer shell sets in while
            the inner one ends, so that energies stay smooth.

    References:
        Wang et al. 2022, npj Comput. Mater. 8, 53 (relations of elements); Wang et al. 2026,
        arXiv:2602.23084 (layers).
    """

    kind: str = LAYERS_KIND
    elements: tuple[int, ...] = ()
    shells: tuple[float, ...] = ()
    overlap: float = 0.0

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if (self.kind in ELEMENT_KINDS) != bool(self.elements):
            raise ConfigError(
                message(
                    f"partition {self.kind!r}",
                    f"the elements {list(self.elements)}",
                    f"elements exactly for {list(ELEMENT_KINDS)}",
                    "Make it with resolve_partition.",
                )
            )
        ends = (self.overlap, *self.shells)
        if (self.kind == SHELLS_KIND) != bool(self.shells) or (
            self.shells and (self.overlap <= 0.0 or any(np.diff(ends) <= 0.0))
        ):
            raise ConfigError(
                message(
                    "graph.cutoffs",
                    f"shells that end at {list(self.shells)} Å and overlap by {self.overlap} Å",
                    "ascending ends, the first beyond a positive overlap",
                    "Edit graph.cutoffs and graph.shell_overlap.",
                )
            )

    @property
    def relations(self) -> tuple[str, ...]:
        """Names of all relations, in the order in which tensors count them."""
        return fields.order_relations(self._pairs())

    @property
    def disjoint(self) -> bool:
        """Whether no edge stands for the same neighbour twice: not so for triplets."""
        return self.kind != "triplets"

    @property
    def centres(self) -> dict[str, tuple[int, ...]]:
        """Relation → atomic numbers of the atoms that can be its targets; empty when all can."""
        if self.kind not in ELEMENT_KINDS:
            return {}
        return {name: tuple(dict.fromkeys(t for t, _ in p)) for name, p in self._pairs().items()}

    @property
    def starts(self) -> dict[str, float]:
        """Relation → where the weight of its edges has risen to 1, Å; it rises over ``overlap``.

        Relations that begin at zero distance are left out.
        """
        return {f"{SHELL}{k}": inner for k, inner in enumerate(self.shells[:-1], start=2)}

    def select(
        self,
        numbers: NDArray[np.int64],
        edge_index: NDArray[np.int64],
        lengths: NDArray[np.float64],
        same_layer: NDArray[np.bool_],
    ) -> dict[str, NDArray[np.bool_]]:
        """Mark the edges of every relation; cutoffs are not applied.

        Args:
            numbers: (n_atoms,), atomic numbers.
            edge_index: (2, n_edges), row 0 = source, row 1 = target.
            lengths: (n_edges,), Å.
            same_layer: (n_edges,), of edges within a layer.

        Returns:
            Relation → (n_edges,) bool.

        Raises:
            StructureError: an element that the partition does not know.
        """
        if self.kind == LAYERS_KIND:
            return {fields.INTRA: same_layer, fields.INTER: ~same_layer}
        if self.kind == SHELLS_KIND:
            return {
                name: lengths > self.starts.get(name, 0.0) - self.overlap for name in self.relations
            }
        self._check_elements(numbers)
        source, target = numbers[edge_index[0]], numbers[edge_index[1]]
        return {
            name: np.any([(target == t) & (source == s) for t, s in pairs], axis=0)
            for name, pairs in self._pairs().items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for checkpoints."""
        given = {
            "elements": list(self.elements),
            "shells": list(self.shells),
            "overlap": self.overlap,
        }
        return {"kind": self.kind, **{key: value for key, value in given.items() if value}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Partition:
        """Undo ``to_dict``; None is the division by layers, of networks that say nothing."""
        if data is None:
            return LAYERS
        unknown = sorted(set(data) - {"kind", "elements", "shells", "overlap"})
        if unknown or "kind" not in data:
            raise ConfigError(
                message(
                    "model.network.partition",
                    f"{dict(data)}",
                    "kind and at most elements, shells and overlap",
                    "Leave it at null: training fills it in.",
                )
            )
        return cls(
            kind=str(data["kind"]),
            elements=tuple(int(z) for z in data.get("elements", ())),
            shells=tuple(float(end) for end in data.get("shells", ())),
            overlap=float(data.get("overlap", 0.0)),
        )

    def _pairs(self) -> dict[str, list[tuple[int, int]]]:
        """Return relation → element pairs (target, source) of its edges, where elements matter."""
        z, symbol = self.elements, chemical_symbols
        twos = list(combinations_with_replacement(z, 2))
        if self.kind == "element_pairs":
            return {f"{symbol[a]}-{symbol[b]}": [(a, b), (b, a)] for a, b in twos}
        if self.kind == "vertices":
            return {symbol[a]: [(a, b) for b in z] for a in z}
        if self.kind == "triplets":
            return {
                f"{symbol[a]}_{symbol[b]}-{symbol[c]}": [(a, b), (a, c)] for a in z for b, c in twos
            }
        if self.kind == SHELLS_KIND:
            return {f"{SHELL}{number}": [] for number in range(1, len(self.shells) + 1)}
        return {name: [] for name in fields.RELATIONS}

    def _check_elements(self, numbers: NDArray[np.int64]) -> None:
        unknown = sorted({int(z) for z in numbers} - set(self.elements))
        if unknown:
            raise StructureError(
                message(
                    f"structure, divided by {self.kind}",
                    f"the elements {[chemical_symbols[z] for z in unknown]}",
                    f"those of the training, {[chemical_symbols[z] for z in self.elements]}",
                    "Train on structures with all elements.",
                )
            )


def check_kind(kind: str) -> None:
    """Raise ``ConfigError`` for a partition that does not exist."""
    if kind not in KINDS:
        raise ConfigError(
            message("graph.partition", repr(kind), f"one of {list(KINDS)}", "Edit the config.")
        )


def refuse_blocks(kind: str) -> None:
    """Raise ``ConfigError`` where Hamiltonian blocks are wanted of other relations than layers."""
    if kind != LAYERS_KIND:
        raise ConfigError(
            message(
                "graph.partition",
                f"{kind!r} with blocks of the Hamiltonian",
                f"{LAYERS_KIND!r}: blocks need both directions of every pair once",
                "Set graph.partition=layers, or train a network of forces.",
            )
        )


def resolve_partition(
    kind: str,
    cutoffs: Mapping[str, float | None],
    elements: Sequence[int],
    shell_overlap: float | None = None,
) -> tuple[Partition, dict[str, float | None]]:
    """Find the relations of a data set and the cutoff of each.

    Args:
        kind: one of ``KINDS``.
        cutoffs: of the configuration: relation → Å. Of relations of elements, "default" is that of
            all that are not named, and those of elements that the data lack are not looked at; of
            shells, these are their outer ends.
        elements: atomic numbers of the training subset.
        shell_overlap: of neighbouring shells, Å.

    Returns:
        The partition, and relation → cutoff, Å, in the order of its relations; None where the
        configuration leaves one open.

    Raises:
        ConfigError: cutoffs that do not fit the relations.
    """
    check_kind(kind)
    if kind == SHELLS_KIND:
        names = [f"{SHELL}{number}" for number in range(1, len(cutoffs) + 1)]
        if set(cutoffs) != set(names) or not names or None in cutoffs.values():
            _refuse_cutoffs(cutoffs, "shell1, shell2 … with their outer ends in Å")
        ends = tuple(float(cutoffs[name] or 0.0) for name in names)
        return Partition(kind, shells=ends, overlap=float(shell_overlap or 0.0)), dict(cutoffs)
    partition = Partition(kind, tuple(sorted(elements)) if kind in ELEMENT_KINDS else ())
    names = list(partition.relations)
    unknown = set(cutoffs) - set(names)
    if kind in ELEMENT_KINDS:  # one table of cutoffs may serve data sets of several elements
        named = {z for name in unknown for z in _find_elements(name)}
        unknown -= {DEFAULT, *Partition(kind, tuple(sorted(named.union(elements)))).relations}
    if unknown or not all(name in cutoffs or DEFAULT in cutoffs for name in names):
        choice = f", or {DEFAULT!r} for those not named" if kind in ELEMENT_KINDS else ""
        _refuse_cutoffs(cutoffs, f"one for each of {names}{choice}")
    return partition, {name: cutoffs.get(name, cutoffs.get(DEFAULT)) for name in names}


def _find_elements(relation: str) -> list[int]:
    """Return the atomic numbers of the symbols in the name of a relation."""
    symbols = re.findall("[A-Z][a-z]?", relation)
    return [atomic_numbers[symbol] for symbol in symbols if symbol in atomic_numbers]


def _refuse_cutoffs(cutoffs: Mapping[str, float | None], expected: str) -> None:
    raise ConfigError(
        message(
            "graph.cutoffs",
            f"{sorted(cutoffs)}",
            expected,
            "Choose the graph with its own cutoffs (graph=phonon, element_pairs, vertices, "
            "triplets, distance_shells), or edit them.",
        )
    )


LAYERS = Partition()
"""The division into intralayer and interlayer edges."""
