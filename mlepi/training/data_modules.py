"""Labelled structures → cached graphs → batches, for the three subsets of a named split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from mlepi.arithmetic import parse_dtype
from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph, build_graph
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import (
    OverlapSample,
    OverlapTable,
    fit_overlap_table,
    read_overlap_table,
)
from mlepi.predictors.electron import check_overlap_table
from mlepi.project_files import find_file
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import read_split
from mlepi.training.batches import Collation, GlobalBatches

SUBSETS = ("train", "val", "test")


class GraphDataModule(LightningDataModule):
    """Read a data set once, divide it by a stored split and keep all graphs in memory.

    Args:
        path: data set, relative to the working folder or the project folder.
        split: JSON file of the split, likewise.
        batch_size: structures per global batch, divided over the processes.
        eval_batch_size: the same for validation and test.
        n_train: use only the first structures of the training subset (learning curves); None for
            all.
        cutoffs: relation → cutoff, Å.
        dtype: "float32" or "float64".
        seed: of the shuffling.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        *,
        path: str,
        split: str,
        batch_size: int,
        eval_batch_size: int,
        n_train: int | None,
        cutoffs: Mapping[str, float | None],
        dtype: str,
        seed: int,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ConfigError(
                message(
                    "data.batch_size",
                    f"{batch_size}, {eval_batch_size}",
                    "at least 1",
                    "Edit the config.",
                )
            )
        self.path = find_file("data.path", path)
        self.split_path = find_file("data.split", split)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.n_train = n_train
        self.dtype = parse_dtype(dtype)
        self.seed = seed
        self.requested_cutoffs = dict(cutoffs)
        self.cutoffs: dict[str, float] = {}
        self.structures: dict[str, list[LabelledStructure]] = {}
        self.graphs: dict[str, list[AtomGraph]] = {}
        self._collations: dict[str, Collation] = {}

    @abstractmethod
    def read_structures(self) -> list[LabelledStructure]:
        """Read all structures of the data set."""

    def resolve_cutoffs(self, structures: list[LabelledStructure]) -> dict[str, float]:
        """Return the cutoff of every relation, Å."""
        missing = [name for name, value in self.requested_cutoffs.items() if value is None]
        if missing:
            raise ConfigError(
                message("graph.cutoffs", f"null for {missing}", "a length in Å", "Edit the config.")
            )
        return {
            name: float(value)
            for name, value in self.requested_cutoffs.items()
            if value is not None
        }

    def prepare(self) -> None:
        """Read, split and build all graphs, once."""
        if self.graphs:
            return
        structures = {structure.name: structure for structure in self.read_structures()}
        split = read_split(self.split_path, structures)
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
        self.cutoffs = self.resolve_cutoffs(list(structures.values()))
        self.structures = {
            subset: [structures[name] for name in split[subset]] for subset in SUBSETS
        }
        if self.n_train is not None:
            self.structures["train"] = self.structures["train"][: self.n_train]
        self.graphs = {
            subset: [
                build_graph(structure.atoms, self.cutoffs, structure, self.dtype)
                for structure in chosen
            ]
            for subset, chosen in self.structures.items()
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
        return self._loader("val", self.eval_batch_size, None)

    def test_dataloader(self) -> DataLoader:
        """Return the test batches."""
        return self._loader("test", self.eval_batch_size, None)

    def stamp_parts(self) -> dict[str, Any]:
        """Return what the checkpoint's stamp holds besides network and cutoffs."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return file names and sizes of the subsets, for the checkpoint's metadata."""
        sizes = {subset: len(chosen) for subset, chosen in self.structures.items()}
        return {"path": self.path.name, "split": self.split_path.name, "n_structures": sizes}

    def _loader(self, subset: str, batch_size: int, seed: int | None) -> DataLoader:
        graphs = self.graphs[subset]
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
        )
        # else every pass would draw from the global one
        generator = torch.Generator().manual_seed(self.seed)
        collation = self._collations.setdefault(subset, Collation(graphs))
        numbers: Any = range(len(graphs))
        return DataLoader(numbers, batch_sampler=batches, collate_fn=collation, generator=generator)


class ForcesDataModule(GraphDataModule):
    """Energies and forces in extended XYZ (or anything that ``read_forces_dataset`` reads).

    Arguments are those of ``GraphDataModule``.
    """

    kind: ClassVar[str] = "phonon"

    def read_structures(self) -> list[LabelledStructure]:
        """Read all structures; each needs energy and forces."""
        structures = read_forces_dataset(self.path)
        for structure in structures:
            if structure.energy is None or structure.forces is None:
                raise DataError(
                    message(
                        f"{self.path.name}, {structure.name}",
                        "no energy or no forces",
                        "both",
                        "Remove or label the structure.",
                    )
                )
        return structures


class HamiltonianDataModule(GraphDataModule):
    """Hamiltonians and overlaps in the package's HDF5 format.

    A cutoff of None is the range of the basis: twice its largest orbital radius.

    Args:
        energy_zero: "as_computed", or "fermi" to subtract E_F·S of every structure from its
            Hamiltonian on load.
        overlap_table: HDF5 file with the radial overlap functions of the basis, which checkpoints
            will carry; "fit" finds them from the overlaps of the training subset (refused later at
            distances that it does not cover); None for none.
        **arguments: of ``GraphDataModule``.
    """

    kind: ClassVar[str] = "electron"

    def __init__(self, *, energy_zero: str, overlap_table: str | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        if energy_zero not in ("as_computed", "fermi"):
            raise ConfigError(
                message(
                    "data.energy_zero",
                    repr(energy_zero),
                    "'as_computed' or 'fermi'",
                    "Edit the config.",
                )
            )
        self.energy_zero = energy_zero
        self.overlap_table: OverlapTable | None = None
        self.fit_overlaps = overlap_table == FIT
        if overlap_table is not None and not self.fit_overlaps:
            self.overlap_table = read_overlap_table(find_file("data.overlap_table", overlap_table))
        self.basis: OrbitalBasis | None = None

    def read_structures(self) -> list[LabelledStructure]:
        """Read all structures; overlaps that the file lacks come from the table."""
        dataset = HamiltonianDataset(self.path)
        self.basis = dataset.basis
        if dataset.has_overlap:
            return list(dataset)
        if self.overlap_table is None:
            raise DataError(
                message(
                    str(self.path),
                    "Hamiltonians without overlaps",
                    "overlaps, or a table of them",
                    "Set data.overlap_table to the table of this basis.",
                )
            )
        check_overlap_table(self.basis, self.overlap_table)
        return [complete_overlaps(structure, self.overlap_table) for structure in dataset]

    def resolve_cutoffs(self, structures: list[LabelledStructure]) -> dict[str, float]:
        """Return the cutoff of every relation, Å; the range of the basis where none is given."""
        if self.basis is None:
            raise DataError(
                message(
                    str(self.path),
                    "no basis",
                    "Hamiltonians with their basis",
                    "Make the data set again.",
                )
            )
        reach = 2.0 * self.basis.max_radius
        return {
            name: reach if value is None else float(value)
            for name, value in self.requested_cutoffs.items()
        }

    def prepare(self) -> None:
        """Read, split and build all graphs, once, and shift the energy zero of the labels."""
        if self.graphs:
            return
        super().prepare()
        if self.energy_zero == "fermi":
            for subset, structures in self.structures.items():
                for structure, graph in zip(structures, self.graphs[subset], strict=True):
                    self._subtract_fermi_energy(structure, graph)

    def stamp_parts(self) -> dict[str, Any]:
        """Return basis and overlap table, and refuse a table of another basis."""
        if self.fit_overlaps and self.basis is not None:
            self.overlap_table = fit_overlaps(self.structures["train"], self.basis)
        if self.basis is not None and self.overlap_table is not None:
            check_overlap_table(self.basis, self.overlap_table)
        return {"basis": self.basis, "overlap_table": self.overlap_table}

    @staticmethod
    def _subtract_fermi_energy(structure: LabelledStructure, graph: AtomGraph) -> None:
        if structure.fermi_energy is None:
            raise DataError(
                message(
                    f"structure {structure.name!r}",
                    "no Fermi energy",
                    "one for every structure",
                    "Set data.energy_zero=as_computed.",
                )
            )
        for store in (
            graph[fields.ATOM],
            *(graph[fields.edge_type(relation)] for relation in fields.RELATIONS),
        ):
            store[fields.HAMILTONIAN_BLOCKS] -= (
                structure.fermi_energy * store[fields.OVERLAP_BLOCKS]
            )


def fit_overlaps(structures: Iterable[LabelledStructure], basis: OrbitalBasis) -> OverlapTable:
    """Fit the radial overlap functions of a basis to the overlap blocks of structures.

    Raises:
        DataError: a structure has no overlaps, or a pair of elements never occurs.
    """
    samples = []
    for structure in structures:
        if (
            structure.edge_index is None
            or structure.edge_cell_shift is None
            or structure.overlap_blocks is None
        ):
            raise DataError(
                message(
                    f"structure {structure.name!r}",
                    "no overlaps",
                    "overlap blocks to fit",
                    "Name a table file instead.",
                )
            )
        source, target = structure.edge_index
        atoms = structure.atoms
        vectors = (
            atoms.positions[source]
            + structure.edge_cell_shift @ atoms.cell.array
            - atoms.positions[target]
        )
        samples.append(
            OverlapSample(atoms.numbers, structure.edge_index, vectors, structure.overlap_blocks)
        )
    return fit_overlap_table(samples, basis.shells, basis.radii, basis.names)


FIT = "fit"
"""Value of ``overlap_table`` that asks for a fit instead of a file."""
