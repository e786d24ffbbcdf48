"""Structures and graphs that are read and built when they are needed, instead of kept in memory.

They are sequences and mappings as those in memory are, so that the rest of a training does not
know the difference; an instance may be sent to the workers of a data loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import overload

import torch

from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure

SAMPLE = 256
"""Structures, evenly chosen, that facts are taken from where not all are in memory."""

Complete = Callable[[LabelledStructure], LabelledStructure]
"""What is done with a structure after it has been read."""


class StoredStructures(Mapping[str, LabelledStructure]):
    """Structures of a file by name, read anew at every access.

    Args:
        dataset: of the file.
        names: of the structures.
        complete: done with each, such as adding overlaps.
    """

    def __init__(
        self, dataset: HamiltonianDataset, names: Sequence[str], complete: Complete
    ) -> None:
        self._dataset, self._complete = dataset, complete
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> LabelledStructure:
        """Read one structure."""
        if name not in self._names:
            raise KeyError(name)
        return self._complete(self._dataset[name])

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count the structures."""
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a structure of this name, without reading it."""
        return name in self._names

    def outlines(self) -> Iterator[LabelledStructure]:
        """Read all of them without their blocks."""
        return (self._dataset.outline(name) for name in self._names)


class ChosenStructures(Sequence[LabelledStructure]):
    """Some structures in order, each taken from its mapping at every access.

    Args:
        structures: name → structure.
        names: those that are meant.
    """

    def __init__(self, structures: Mapping[str, LabelledStructure], names: Sequence[str]) -> None:
        self._structures, self.names = structures, tuple(names)

    @overload
    def __getitem__(self, index: int) -> LabelledStructure: ...

    @overload
    def __getitem__(self, index: slice) -> ChosenStructures: ...

    def __getitem__(self, index: int | slice) -> LabelledStructure | ChosenStructures:
        """Return one structure, or a choice of them."""
        if isinstance(index, slice):
            return ChosenStructures(self._structures, self.names[index])
        return self._structures[self.names[index]]

    def __len__(self) -> int:
        """Count the structures."""
        return len(self.names)


class BuiltGraphs(Sequence[AtomGraph]):
    """Graphs of structures, built at every access, each with the number of its structure.

    Args:
        structures: of the graphs.
        build: makes a graph.
        first: number of the first structure.
    """

    def __init__(
        self,
        structures: Sequence[LabelledStructure],
        build: Callable[[LabelledStructure], AtomGraph],
        first: int,
    ) -> None:
        self._structures, self._build, self._numbers = (
            structures,
            build,
            range(first, first + len(structures)),
        )

    @overload
    def __getitem__(self, index: int) -> AtomGraph: ...

    @overload
    def __getitem__(self, index: slice) -> list[AtomGraph]: ...

    def __getitem__(self, index: int | slice) -> AtomGraph | list[AtomGraph]:
        """Build one graph, or several."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = self._numbers[index]
        graph = self._build(self._structures[index])
        graph[fields.STRUCTURE] = torch.tensor([number])
        return graph

    def __len__(self) -> int:
        """Count the graphs."""
        return len(self._numbers)


def thin_out(length: int, most: int = SAMPLE) -> slice:
    """Return an even choice of no more than ``most`` places."""
    return slice(None, None, max(1, -(-length // most)))
