"""The labelled structures that a network is judged on, read one at a time.

Subsets are those of a split file, named ones too; "all" is every structure of the data set, and the
only subset where there is no split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.config_check import suggest
from mlepi.errors import DataError, message
from mlepi.graphs.own_labels import (
    complete_labels,
    find_own_potentials,
    is_own_data,
    trained_data,
)
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.project_files import find_file, locate_file
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layer_potentials import Potentials, read_layer_potentials
from mlepi.structures.splits import NamedSubsets, read_named_subsets, read_split

ALL = "all"
"""Subset of every structure of the data set."""

HDF5 = {".h5", ".hdf5"}
LEARNED = ("train", "val")
"""Subsets of which a training knows."""

NO_POTENTIALS = "none"
"""Given as the file of potentials: the labels as they are."""


@dataclass(frozen=True)
class Labels:
    """One data set, of Hamiltonians or of forces.

    Attributes:
        path: file.
        names: of its structures.
        has_overlap: whether it stores overlaps.
    """

    path: Path
    names: tuple[str, ...]
    has_overlap: bool
    _source: Mapping[str, LabelledStructure] | HamiltonianDataset = field(repr=False)

    def read(self, name: str) -> LabelledStructure:
        """Read one structure."""
        return self._source[name]


def open_labels(predictor: ElectronPredictor | PhononPredictor, path: Path) -> Labels:
    """Open a data set of the kind that a network predicts.

    Raises:
        DataError: it is of the other kind, of another basis, or unreadable.
    """
    electron = isinstance(predictor, ElectronPredictor)
    if electron != (path.suffix in HDF5):
        expected = "Hamiltonians (.h5)" if electron else "energies and forces (extxyz, VASP)"
        got = f"{path.name} for a checkpoint of kind {predictor.kind!r}"
        raise DataError(message("mlepi eval", got, expected, "Give the data set of that kind."))
    if not isinstance(predictor, ElectronPredictor):
        structures = {structure.name: structure for structure in read_forces_dataset(path)}
        return Labels(path, tuple(structures), False, structures)
    dataset = HamiltonianDataset(path)
    dataset.verify()
    check_basis(path, dataset.basis, predictor.basis)
    return Labels(path, dataset.names, dataset.has_overlap, dataset)


def check_basis(path: Path, found: OrbitalBasis, known: OrbitalBasis) -> None:
    """Raise ``DataError`` when an element has other shells in a data set than in a network."""
    for z in set(found.elements) & set(known.elements):
        if found.shells[z] != known.shells[z]:
            got = f"shells {found.shells[z]} of element {z} ({found.names.get(z, 'no name')})"
            expected = f"{known.shells[z]} ({known.names.get(z, 'no name')}), those of the network"
            fix = "Use labels of the basis that the network was trained on."
            raise DataError(message(str(path), got, expected, fix))


@dataclass(frozen=True)
class JudgedData:
    """Structures by subset, and where they are read.

    Attributes:
        labels: data set, and the further one where there is one.
        split: JSON file; None for none.
        subsets: subset → names, the judged ones only.
        numbers: name → number as training counts structures, which decides the k-point of the error
            in the metric of S.
        learned: names of training or validation in this split.
        absent: names of the judged subsets that no data set holds.
        potentials_file: JSON of the potentials of layers that are added to the labels; None for the
            labels as they are.
    """

    labels: tuple[Labels, ...]
    split: Path | None
    subsets: dict[str, list[str]]
    numbers: dict[str, int]
    learned: frozenset[str]
    absent: tuple[str, ...]
    potentials_file: Path | None = None

    @cached_property
    def potentials(self) -> Potentials | None:
        """Potentials of layers by structure, eV."""
        file = self.potentials_file
        return None if file is None else read_layer_potentials(file)

    @property
    def names(self) -> list[str]:
        """Names of all judged structures, each once."""
        return list(dict.fromkeys(chain(*self.subsets.values())))

    def find(self, name: str) -> Labels:
        """Return the data set that holds a structure."""
        return next(labels for labels in self.labels if name in labels.names)

    def describe(self) -> dict[str, Any]:
        """Return file names and sizes as plain data."""
        first, *further = self.labels
        added = self.potentials_file
        return {
            "path": first.path.name,
            "extra": [labels.path.name for labels in further],
            "split": None if self.split is None else self.split.name,
            "n_structures": {name: len(members) for name, members in self.subsets.items()},
            "absent": list(self.absent),
            "layer_potentials": None if added is None else added.name,
        }


def open_data(
    predictor: ElectronPredictor | PhononPredictor,
    path: str | None,
    split: str | None,
    extra: str | None,
    subsets: Sequence[str],
    max_structures: int | None,
    made_split: Path | None = None,
    potentials: str | None = None,
) -> JudgedData:
    """Find the structures of subsets of a data set.

    Args:
        predictor: network to be judged; its metadata name the data of its training.
        path: data set; None for the one of the training.
        split: JSON file; None for the one of the training where the data set is that of the
            training, else for none.
        extra: data set with further structures of the split; None for the one of the training,
            under the same condition.
        subsets: names; () for "test" and its named subsets, or "all" without a split.
        max_structures: per subset, evenly spread; None for all.
        made_split: file in which a training that was given no split keeps the one that it made,
            where it exists; taken as the split of the training.
        potentials: JSON file of the potentials of layers that are added to the labels, or "none";
            None for what the training has added, under the same condition.

    Raises:
        DataError: a file is missing, of another kind or basis, or has no such subset.
    """
    trained = trained_data(predictor)
    if path is None:
        path = trained.get("path")
        if not path:
            fix = "Name the data set: mlepi eval CHECKPOINT DATA."
            raise DataError(message("mlepi eval", "a checkpoint without data", "DATA", fix))
    file = find_file("DATA", path)
    if is_own_data(predictor, file, ("path",)):  # the split is not that of the further one
        split = split or _find_own_split(trained.get("split"), made_split)
        extra = extra or trained.get("extra")
    labels = [open_labels(predictor, file)]
    if extra and (further := locate_file(extra)):
        labels.append(open_labels(predictor, further))
    elif extra and extra != trained.get("extra"):
        find_file("--extra", extra)
    divided = None if split is None else find_file("--split", split)
    members, named = _read_subsets(labels[0], divided)
    offered = {**members, **named.val, **named.test}
    chosen = _choose({ALL: list(labels[0].names), **offered}, named, subsets, divided or file)
    known = {name for each in labels for name in each.names}
    present = {
        subset: _spread([name for name in names if name in known], max_structures)
        for subset, names in chosen.items()
    }
    absent = dict.fromkeys(n for names in chosen.values() for n in names if n not in known)
    present = {subset: names for subset, names in present.items() if names}
    if not present:
        expected = f"some in {' or '.join(str(each.path) for each in labels)}"
        fix = "Name the further data set with --extra."
        raise DataError(message(", ".join(chosen), "no structure", expected, fix))
    order = dict.fromkeys(chain(*members.values(), *named.test.values(), labels[0].names))
    return JudgedData(
        tuple(labels),
        divided,
        present,
        {name: number for number, name in enumerate(name for name in order if name in known)},
        frozenset(name for subset in LEARNED for name in members.get(subset, ())),
        tuple(absent),
        _find_potentials(predictor, file, potentials),
    )


def _find_potentials(
    predictor: ElectronPredictor | PhononPredictor, data: Path, given: str | None
) -> Path | None:
    """Return the file of potentials of layers: the one that is given, else that of the training.

    Raises:
        DataError: it is missing, or given for forces.
    """
    if given == NO_POTENTIALS:
        return None
    if given is None:
        return find_own_potentials(predictor, data)
    if not isinstance(predictor, ElectronPredictor):
        got, fix = f"{given} for a phonon network", "Leave it out: forces have none."
        raise DataError(message("--layer-potentials", got, "an electron network", fix))
    return find_file("--layer-potentials", given)


def _find_own_split(given: Any, made: Path | None) -> str | None:
    """Return the split of a training: the one that it was given, else the one that it made."""
    if isinstance(given, str):
        return given
    return str(made) if made is not None and made.is_file() else None


def _read_subsets(labels: Labels, split: Path | None) -> tuple[dict[str, list[str]], NamedSubsets]:
    """Return the subsets of a split, and its named ones; none without a split."""
    if split is None:
        return {}, NamedSubsets()
    return read_split(split, labels.names), read_named_subsets(split)


def _choose(
    offered: Mapping[str, list[str]], named: NamedSubsets, wanted: Sequence[str], where: Path
) -> dict[str, list[str]]:
    """Return the wanted subsets in their order; without a wish, those that belong to "test"."""
    if not wanted:
        wanted = ["test", *named.test] if "test" in offered else [ALL]
    for subset in wanted:
        if subset not in offered:
            expected = f"one of {', '.join(offered)}"
            fix = suggest(subset, offered)
            raise DataError(message(str(where), f"no subset {subset!r}", expected, fix))
    return {subset: list(offered[subset]) for subset in wanted}


def _spread(names: list[str], most: int | None) -> list[str]:
    """Return at most so many of the names, evenly spread over them."""
    if most is None or most >= len(names):
        return names
    places = np.linspace(0, len(names) - 1, most).round().astype(int)
    return [names[place] for place in places]


def adapt_labels(
    predictor: ElectronPredictor, structure: LabelledStructure, data: JudgedData
) -> LabelledStructure:
    """Return labels in the basis of a network, as it has learned them (``complete_labels``).

    Raises:
        DataError: there are no overlaps, neither in the data nor in the checkpoint, no potentials
            of its layers where some are added, or the network counts energies from a Fermi energy
            that the labels lack.
        StructureError: an element that the network does not know.
    """
    predictor.check_elements(structure.atoms.numbers)
    basis = predictor.basis
    structure = replace(
        structure,
        basis=basis,
        hamiltonian_blocks=_resize(structure.hamiltonian_blocks, basis.max_orbitals),
        overlap_blocks=_resize(structure.overlap_blocks, basis.max_orbitals),
    )
    fix = "Give a table: --overlap TABLE.h5."
    return complete_labels(structure, predictor, data.potentials, fix)


def _resize(blocks: NDArray[np.floating] | None, size: int) -> NDArray[np.floating] | None:
    """Pad or cut zero-padded blocks to another number of orbitals."""
    if blocks is None or blocks.shape[1] == size:
        return blocks
    resized = np.zeros((len(blocks), size, size))
    common = min(size, blocks.shape[1])
    resized[:, :common, :common] = blocks[:, :common, :common]
    return resized
