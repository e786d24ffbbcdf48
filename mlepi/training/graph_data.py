"""Labelled structures → graphs → batches, for the subsets of a named split.

Every structure has a number: those of train, val and test in turn, then those of further test
subsets.
"""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from mlepi.arithmetic import parse_dtype
from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.graphs.partitions import LAYERS, LAYERS_KIND, SHELLS_KIND, resolve_partition
from mlepi.graphs.plausibility import check_forces, check_hamiltonians, check_structure
from mlepi.project_files import find_file, locate_file
from mlepi.structures.automatic_splits import SUBSETS, read_fractions, split_structures
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import NamedSubsets, read_named_subsets, read_split
from mlepi.training.batches import Collation, GlobalBatches
from mlepi.training.cutoffs import check_edges, end_shells, reach_neighbours, read_cutoffs
from mlepi.training.made_split import MADE_SPLIT, MadeSplit
from mlepi.training.stored import BuiltGraphs, ChosenStructures, StoredStructures, thin_out

log = logging.getLogger(__name__)


ORDERS = ("listed", "shuffled")
"""Orders of the training subset."""


class GraphDataModule(LightningDataModule):
    """Read a data set, divide it by a stored split, and give batches of its graphs.

    Args:
        path: data set, relative to the working folder or the project folder.
        split: JSON file of the split, likewise; it may name further subsets, ``NamedSubsets``.
            Fractions of train, val and test, or None for 0.8, 0.1 and 0.1, make one.
        extra: data set with structures of further test subsets that the first does not hold; they
            are left out, with a line in the log, where it is None or does not exist.
        batch_size: structures per global batch, divided over the processes.
        eval_batch_size: the same for validation and test.
        n_train: use only the first structures of the training subset (learning curves); None for
            all.
        train_order: of the training subset before ``n_train`` is taken: "listed" as in the split,
            or "shuffled" by a hash of the names, so that few structures are of all kinds; the first
            of either stay the first when there are more.
        cutoffs: relation → cutoff, Å, or one length for all relations; None where it follows from
            the data. See ``read_cutoffs`` and ``resolve_partition``.
        dtype: "float32" or "float64".
        seed: of the shuffling.
        partition: how edges are divided into relations, one of ``partitions.KINDS``.
        shell_overlap: of neighbouring distance shells, Å.
        check_units: refuse data whose units cannot be right.
        in_memory: keep structures and graphs; otherwise they are read and built for every batch,
            and what is learned before the first step comes from ``SAMPLE`` structures.
        workers: processes that prepare the batches to come; 0 for none.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        *,
        path: str,
        split: str | Sequence[float] | None,
        extra: str | None,
        batch_size: int,
        eval_batch_size: int,
        n_train: int | None,
        cutoffs: Mapping[str, float | None] | float | None,
        dtype: str,
        seed: int,
        partition: str = LAYERS_KIND,
        shell_overlap: float | None = None,
        check_units: bool = True,
        train_order: str = "listed",
        in_memory: bool = True,
        workers: int = 0,
    ) -> None:
        super().__init__()
        if train_order not in ORDERS:
            raise ConfigError(
                message("data.train_order", repr(train_order), f"one of {ORDERS}", "Edit it.")
            )
        self.train_order = train_order
        if Path(path).is_dir():
            got, fix = f"the folder {path}", f"First: mlepi convert {path} --out FILE."
            expected = "one file of a data set (.h5 of Hamiltonians, .extxyz of forces)"
            raise DataError(message("data.path", got, expected, fix))
        least = {"batch_size": 1, "eval_batch_size": 1, "workers": 0}
        given = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "workers": workers}
        for key, value in given.items():
            if value < least[key]:
                expected = f"at least {least[key]}"
                raise ConfigError(message(f"data.{key}", f"{value}", expected, "Edit the config."))
        self.in_memory = in_memory
        self.workers = workers
        self.path = find_file("data.path", path)
        self.split_path = find_file("data.split", split) if isinstance(split, str) else None
        self.fractions = None if isinstance(split, str) else read_fractions("data.split", split)
        self.made_split: MadeSplit | None = None
        self.extra = extra
        self.extra_path = None if extra is None else locate_file(extra)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.n_train = n_train
        self.dtype = parse_dtype(dtype)
        self.seed = seed
        self.requested_cutoffs = read_cutoffs(cutoffs, partition)
        self.partition_kind = partition
        self.shell_overlap = shell_overlap
        self.check_units = check_units
        self.partition = LAYERS
        self.cutoffs: dict[str, float] = {}
        self.structures: dict[str, Sequence[LabelledStructure]] = {}
        self.graphs: dict[str, Sequence[AtomGraph]] = {}
        self.named = NamedSubsets()
        self.further: dict[str, LabelledStructure | None] = {}
        self.further_graphs: list[AtomGraph] = []
        self._source: Mapping[str, LabelledStructure] = {}
        self._collations: dict[str, Collation] = {}

    @abstractmethod
    def list_names(self, path: Path) -> list[str]:
        """Return the names of the structures of a data set."""

    @abstractmethod
    def read_structures(
        self, path: Path, names: Iterable[str] | None = None
    ) -> list[LabelledStructure]:
        """Read the structures of these names from a data set; all of them when None."""

    def check_plausible(self, structures: Sequence[LabelledStructure]) -> None:
        """Refuse structures and labels whose units cannot be right.

        Raises:
            StructureError: lengths that cannot be in Å.
            DataError: labels that cannot be in eV/Å or eV.
        """
        for structure in structures:
            check_structure(f"{self.path.name}, {structure.name}", structure.atoms)
        check_forces(self.path.name, structures)
        check_hamiltonians(self.path.name, structures)

    def build_graph(self, structure: LabelledStructure) -> AtomGraph:
        """Build the graph of a structure with its labels."""
        return build_graph(structure.atoms, self.cutoffs, structure, self.dtype, self.partition)

    def resolve_cutoffs(self, structures: Sequence[LabelledStructure]) -> dict[str, float]:
        """Return the cutoff of every relation, Å; from the distances where none is given."""
        return reach_neighbours(self.requested_cutoffs, structures, self.partition)

    def prepare(self) -> None:
        """Read, split and build all graphs, once."""
        if self.graphs:
            return
        structures = self.open_structures()
        split = self._divide(structures)
        missing = [subset for subset in SUBSETS if not split.get(subset)]
        if missing:
            raise DataError(
                message(
                    str(self.split_path),
                    f"nothing in {missing}",
                    f"subsets {list(SUBSETS)}",
                    "Use another split.",
                )
            )
        chosen = {**split, "train": self._choose_train(split["train"])}
        self.structures = {
            subset: ChosenStructures(structures, chosen[subset]) for subset in SUBSETS
        }
        if self.in_memory:
            self.structures = {subset: list(some) for subset, some in self.structures.items()}
        sample = self._sample(structures, chain.from_iterable(chosen.values()))
        if self.check_units:
            self.check_plausible(sample)
        train = self.sample_structures()
        elements = {int(z) for labelled in train for z in labelled.atoms.numbers}
        if self.partition_kind == SHELLS_KIND:
            self.requested_cutoffs = end_shells(self.requested_cutoffs, train)
        self.partition, self.requested_cutoffs = resolve_partition(
            self.partition_kind, self.requested_cutoffs, sorted(elements), self.shell_overlap
        )
        self.cutoffs = self.resolve_cutoffs(sample)
        self._build_graphs()
        check_edges(train, self.sample_graphs(), self.cutoffs, self.partition)
        self._find_further(structures)

    def open_structures(self) -> Mapping[str, LabelledStructure]:
        """Return all structures of the data set by name."""
        return {structure.name: structure for structure in self.read_structures(self.path)}

    def _sample(
        self, structures: Mapping[str, LabelledStructure], used: Iterable[str]
    ) -> Sequence[LabelledStructure]:
        """Return what checks and cutoffs come from: what is used, or all that had to be read."""
        lazy = isinstance(structures, StoredStructures)
        if lazy and self.in_memory:
            return list(chain.from_iterable(self.structures.values()))
        every = ChosenStructures(structures, list(used if lazy else structures))
        return every if self.in_memory else every[thin_out(len(every))]

    def sample_structures(self) -> Sequence[LabelledStructure]:
        """Return the training structures that facts come from: all, where they are in memory."""
        train = self.structures["train"]
        return train if self.in_memory else list(train[thin_out(len(train))])

    def sample_graphs(self) -> Sequence[AtomGraph]:
        """Return the graphs of ``sample_structures``."""
        train = self.graphs["train"]
        return train if self.in_memory else train[thin_out(len(train))]

    def _build_graphs(self) -> None:
        first = 0
        for subset, some in self.structures.items():
            graphs = BuiltGraphs(some, self.build_graph, first)
            self.graphs[subset] = list(graphs) if self.in_memory else graphs
            first += len(some)

    def _choose_train(self, listed: Sequence[str]) -> list[str]:
        """Return the first names of the training subset in the chosen order."""
        if self.n_train is not None and not 0 < self.n_train <= len(listed):
            raise ConfigError(
                message(
                    "data.n_train",
                    str(self.n_train),
                    f"1 to {len(listed)}, the training structures of the split",
                    "Lower it, or use another split.",
                )
            )
        if self.train_order == "shuffled":
            listed = sorted(listed, key=lambda name: hashlib.sha256(name.encode()).digest())
        return list(listed[: self.n_train])

    def _divide(self, structures: Mapping[str, LabelledStructure]) -> dict[str, list[str]]:
        """Return subset → names, from the file or made here."""
        if self.split_path is not None:
            return read_split(self.split_path, structures)
        outlines: Iterable[LabelledStructure] = structures.values()
        if isinstance(structures, StoredStructures):
            outlines = structures.outlines()
        split, provenance = split_structures(outlines, self.fractions)
        self.made_split = MadeSplit(split, {"data_set": self.path.name, **provenance})
        log.info("%s", self.made_split.describe())
        return split

    def _find_further(self, structures: Mapping[str, LabelledStructure]) -> None:
        """Note which structures the named test subsets add, and leave out those without labels."""
        if self.split_path is None:
            return
        named = read_named_subsets(self.split_path)
        tested = {structure.name for structure in self.structures["test"]}
        wanted = dict.fromkeys(chain(*named.test.values()))
        elsewhere = [name for name in wanted if name not in structures]
        if elsewhere and self.extra_path is None:
            subsets = [name for name, members in named.test.items() if set(members) & {*elsewhere}]
            why = "is null" if self.extra is None else f"({self.extra}) does not exist"
            log.warning(
                "data.extra %s: %d structures of the test subsets %s are left out",
                why,
                len(elsewhere),
                ", ".join(subsets),
            )
        elif elsewhere and self.extra_path is not None:
            unknown = sorted(set(elsewhere) - set(self.list_names(self.extra_path)))
            if unknown:
                raise DataError(
                    message(
                        str(self.split_path),
                        f"a test subset with {unknown[0]!r}",
                        f"structures of {self.path.name} or {self.extra_path.name}",
                        "Use the split made for these data sets.",
                    )
                )
        absent = set(elsewhere) if self.extra_path is None else set()
        self.further = dict.fromkeys(name for name in wanted if name not in tested | absent)
        self._source = structures if self.further else {}
        present = {
            subset: [name for name in members if name not in absent]
            for subset, members in named.test.items()
        }
        self.named = NamedSubsets(
            {subset: members for subset, members in present.items() if members}, named.val
        )

    def prepare_further(self) -> None:
        """Read the structures of further test subsets and build their graphs, once."""
        if self.further_graphs or not self.further:
            return
        elsewhere = [name for name in self.further if name not in self._source]
        self.further |= {name: self._source[name] for name in self.further if name in self._source}
        if elsewhere and self.extra_path is not None:
            for structure in self.read_structures(self.extra_path, elsewhere):
                self.further[structure.name] = structure
        self.further_graphs = [
            self.build_graph(structure)
            for structure in self.further.values()
            if structure is not None
        ]
        number_graphs(self.further_graphs, self.n_structures - len(self.further))
        self._source = {}

    @property
    def n_structures(self) -> int:
        """Number of structures that are trained, validated or tested on."""
        return sum(len(chosen) for chosen in self.structures.values()) + len(self.further)

    def number_subsets(self) -> dict[str, dict[str, list[int]]]:
        """Return "val" and "test" → the subset itself and its named ones → numbers."""
        names = [s.name for chosen in self.structures.values() for s in chosen]
        numbers = {name: number for number, name in enumerate([*names, *self.further])}
        return {
            subset: {
                name: [numbers[member] for member in members]
                for name, members in {
                    subset: [structure.name for structure in self.structures[subset]],
                    **named,
                }.items()
            }
            for subset, named in (("val", self.named.val), ("test", self.named.test))
        }

    def evaluated(self) -> dict[str, tuple[LabelledStructure, AtomGraph]]:
        """Return every structure of test and its further subsets, by name."""
        self.prepare_further()
        structures = [*self.structures["test"], *self.further.values()]
        graphs = [*self.graphs["test"], *self.further_graphs]
        return {
            structure.name: (structure, graph)
            for structure, graph in zip(structures, graphs, strict=True)
            if structure is not None
        }

    def setup(self, stage: str) -> None:
        """Prepare the graphs and check that every process gets a share of every subset."""
        self.prepare()
        processes = self.trainer.world_size if self.trainer is not None else 1
        smallest = min(self.batch_size, *(len(chosen) for chosen in self.graphs.values()))
        if smallest < processes:
            raise ConfigError(
                message(
                    "data.batch_size",
                    f"a batch or subset of {smallest}",
                    f"at least {processes}, one per process",
                    "Raise it.",
                )
            )

    def train_dataloader(self) -> DataLoader:
        """Return the shuffled training batches."""
        return self._loader("train", self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader:
        """Return the validation batches."""
        return self.batches("val")

    def test_dataloader(self) -> list[DataLoader]:
        """Return the test batches, and those of structures only in further test subsets."""
        self.prepare_further()
        return [self.batches("test"), *([self.batches("further")] if self.further else [])]

    def batches(self, subset: str) -> DataLoader:
        """Return the batches of a subset, or of the "further" test structures, in order."""
        return self._loader(subset, self.eval_batch_size, None)

    def stamp_parts(self) -> dict[str, Any]:
        """Return what the checkpoint's stamp holds besides network and cutoffs."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return file names and sizes of the subsets, for the checkpoint's metadata."""
        sizes = {subset: len(chosen) for subset, chosen in self.structures.items()}
        described: dict[str, Any] = {"path": self.path.name, "n_structures": sizes}
        if self.split_path is not None:
            described["split"] = self.split_path.name
        elif self.made_split is not None:
            described |= {"split": MADE_SPLIT, "made_split": self.made_split.provenance}
        for kind, named in (("val_subsets", self.named.val), ("test_subsets", self.named.test)):
            if named:
                described[kind] = {subset: len(members) for subset, members in named.items()}
        return described

    def _loader(self, subset: str, batch_size: int, seed: int | None) -> DataLoader:
        graphs = self.further_graphs if subset == "further" else self.graphs[subset]
        rank, processes = (
            (self.trainer.global_rank, self.trainer.world_size)
            if self.trainer is not None
            else (0, 1)
        )
        batches = GlobalBatches(
            n_structures=len(graphs),
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            n_processes=processes,
            sizes=[graph[fields.ATOM].num_nodes for graph in graphs] if self.in_memory else None,
        )
        # else every pass would draw from the global one
        generator = torch.Generator().manual_seed(self.seed)
        collation = self._collations.setdefault(subset, Collation(graphs, self.in_memory))
        numbers: Any = range(len(graphs))
        return DataLoader(
            numbers,
            batch_sampler=batches,
            collate_fn=collation,
            generator=generator,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def number_graphs(graphs: Iterable[AtomGraph], first: int) -> None:
    """Write into every graph which structure it is, counting from ``first``."""
    for number, graph in enumerate(graphs, start=first):
        graph[fields.STRUCTURE] = torch.tensor([number])
