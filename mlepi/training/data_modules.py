"""Data sets of energies and forces, and of Hamiltonians, with the labels that a training needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs.build import AtomGraph
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.graphs.partitions import refuse_blocks
from mlepi.physics.overlaps import (
    OverlapSample,
    OverlapTable,
    RadialOverlaps,
    fit_overlap_table,
    measure_overlap_errors,
    read_overlap_table,
)
from mlepi.physics.overlaps.fit_errors import TWO_CENTRE
from mlepi.predictors.electron import check_overlap_table
from mlepi.project_files import find_file
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure, subtract_fermi_energy
from mlepi.structures.layer_potentials import (
    Potentials,
    add_to_labels,
    read_layer_potentials,
)
from mlepi.structures.valence import find_valence_electrons, read_symbols, suggest_electrons
from mlepi.training.cutoffs import cover_labels
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.stored import StoredStructures

_logger = logging.getLogger(__name__)


class ForcesDataModule(GraphDataModule):
    """Energies and forces in extended XYZ (or anything that ``read_forces_dataset`` reads).

    Arguments are those of ``GraphDataModule``.
    """

    kind: ClassVar[str] = "phonon"

    def list_names(self, path: Path) -> list[str]:
        """Return the names of the structures of a data set."""
        return [structure.name for structure in read_forces_dataset(path)]

    def read_structures(
        self, path: Path, names: Iterable[str] | None = None
    ) -> list[LabelledStructure]:
        """Read structures; each needs energy and forces."""
        wanted = None if names is None else set(names)
        structures = [
            structure
            for structure in read_forces_dataset(path)
            if wanted is None or structure.name in wanted
        ]
        for structure in structures:
            if structure.energy is None or structure.forces is None:
                raise DataError(
                    message(
                        f"{path.name}, {structure.name}",
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
        valence_electrons: of the pseudopotential of every element, by symbol or atomic number; None
            takes those of the data set, or counts them below its Fermi energies. Checkpoints carry
            them.
        layer_potentials: JSON file of potentials that are added to H of every structure, what a
            denser k-mesh changes (``mlepi.structures.layer_potentials``); None for the labels as
            they are.
        **arguments: of ``GraphDataModule``.

    Raises:
        ConfigError: a setting without meaning.
        DataError: a file that is none of its kind.
    """

    kind: ClassVar[str] = "electron"

    def __init__(
        self,
        *,
        energy_zero: str,
        overlap_table: str | None,
        valence_electrons: Mapping[Any, float] | None = None,
        layer_potentials: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        refuse_blocks(self.partition_kind)
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
        self.overlap_table: RadialOverlaps | None = None
        self.fit_overlaps = overlap_table == FIT
        if overlap_table is not None and not self.fit_overlaps:
            self.overlap_table = read_overlap_table(find_file("data.overlap_table", overlap_table))
        self.potentials: Potentials | None = None
        if layer_potentials is not None:
            file = find_file("data.layer_potentials", layer_potentials)
            self.potentials = read_layer_potentials(file)
        self.basis: OrbitalBasis | None = None
        self.given_electrons = read_electrons("data.valence_electrons", valence_electrons)

    def list_names(self, path: Path) -> list[str]:
        """Return the names of the structures of a data set."""
        return list(HamiltonianDataset(path).names)

    def read_structures(
        self, path: Path, names: Iterable[str] | None = None
    ) -> list[LabelledStructure]:
        """Read structures of one basis; overlaps that a file lacks come from the table.

        Everything in the file is verified first, and read from the file that was verified.
        """
        return list(self._open(path, names).values())

    def open_structures(self) -> Mapping[str, LabelledStructure]:
        """Return all structures of the data set by name, each read when it is taken."""
        return self._open(self.path)

    def _open(self, path: Path, names: Iterable[str] | None = None) -> StoredStructures:
        """Verify a data set, once, and return its structures, not yet read."""
        dataset = HamiltonianDataset(path)
        dataset.verify()
        if self.basis is not None and dataset.basis != self.basis:
            raise DataError(
                message(
                    str(path),
                    "another basis",
                    f"that of {self.path.name}",
                    "Use data sets of one basis.",
                )
            )
        self.basis = dataset.basis
        chosen = list(dataset.names if names is None else names)
        if dataset.has_overlap:
            return StoredStructures(dataset, chosen, partial(_complete, None, self.potentials))
        if self.overlap_table is None:
            raise DataError(
                message(
                    str(path),
                    "Hamiltonians without overlaps",
                    "overlaps, or a table of them",
                    "Set data.overlap_table to the table of this basis.",
                )
            )
        check_overlap_table(self.basis, self.overlap_table)
        complete = partial(_complete, self.overlap_table, self.potentials)
        return StoredStructures(dataset, chosen, complete)

    def resolve_cutoffs(self, structures: Sequence[LabelledStructure]) -> dict[str, float]:
        """Return the cutoff of every relation, Å; the range of the basis where none is given.

        Raises:
            ConfigError: labels reach further.
        """
        if self.basis is None:
            raise DataError(
                message(
                    str(self.path),
                    "no basis",
                    "Hamiltonians with their basis",
                    "Make the data set again.",
                )
            )
        return cover_labels(self.requested_cutoffs, 2.0 * self.basis.max_radius, structures)

    def build_graph(self, structure: LabelledStructure) -> AtomGraph:
        """Build the graph of a structure with its labels at the chosen energy zero."""
        if self.energy_zero == "fermi":
            structure = subtract_fermi_energy(structure)
        return super().build_graph(structure)

    def stamp_parts(self) -> dict[str, Any]:
        """Return basis and overlap table, and refuse a table of another basis."""
        if self.fit_overlaps and self.basis is not None:
            self.overlap_table = fit_overlaps(self.sample_structures(), self.basis)
        if self.basis is not None and self.overlap_table is not None:
            check_overlap_table(self.basis, self.overlap_table)
        basis = self.basis
        if basis is not None:
            electrons = complete_electrons(self.given_electrons, basis, self.sample_structures())
            basis = replace(basis, valence_electrons=electrons)
        return {"basis": basis, "overlap_table": self.overlap_table}


def _complete(
    table: RadialOverlaps | None, potentials: Potentials | None, structure: LabelledStructure
) -> LabelledStructure:
    """Add overlaps from a table, and the potentials of layers to H, where there are any."""
    if table is not None:
        structure = complete_overlaps(structure, table)
    return structure if potentials is None else add_to_labels(structure, potentials)


def read_electrons(where: str, given: Mapping[Any, float] | None) -> dict[int, float]:
    """Return atomic number → valence electrons of what a config says.

    Raises:
        ConfigError: a key is no element, or a value no positive number.
    """
    try:
        read = read_symbols(given or {})
        if any(isinstance(n, bool) or not float(n) > 0.0 for n in read.values()):
            raise ValueError("not positive")
    except (ValueError, TypeError, AttributeError) as error:
        expected = "a number > 0 per element, such as {Mo: 14, S: 6}"
        raise ConfigError(
            message(where, f"{given} ({error})", expected, "Name elements by their symbols.")
        ) from error
    return {z: float(n) for z, n in read.items()}


def complete_electrons(
    given: Mapping[int, float], basis: OrbitalBasis, structures: Sequence[LabelledStructure]
) -> dict[int, float]:
    """Return the valence electrons that a checkpoint carries; the log tells where they are from.

    Args:
        given: by the user; they win.
        basis: of the data set, whose electrons come second.
        structures: training subset, whose electrons are counted where these do not suffice.
    """
    known = {**basis.valence_electrons, **given}
    if set(known) >= set(basis.elements):
        return {z: known[z] for z in basis.elements}
    found = find_valence_electrons(structures)
    if found.electrons is not None:
        log = "valence electrons %s, counted below the Fermi energy: %s"
        _logger.info(log, suggest_electrons(basis.elements, found.electrons), found.cells)
        return {**found.electrons, **known}
    _logger.warning(
        "valence electrons unknown (counted: %s); bands will ask for them. Those of the "
        "pseudopotentials go into 'data.valence_electrons=%s'",
        ", ".join(found.cells) or "nothing, without a Fermi energy",
        suggest_electrons(basis.elements, known),
    )
    return known


def fit_overlaps(
    structures: Iterable[LabelledStructure], basis: OrbitalBasis
) -> OverlapTable | None:
    """Fit the radial overlap functions of a basis to the overlap blocks of structures.

    The log tells how well the first of them are met; a warning, that S is not two-centre. Then
    there is no table: the checkpoint carries none, and inference asks for S of every structure
    instead of guessing it.

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
    table = fit_overlap_table(samples, basis.shells, basis.radii, basis.names)
    errors = measure_overlap_errors(table, samples[:COMPARED])
    _logger.info(errors.describe())
    if errors.largest <= TWO_CENTRE:
        return table
    _logger.info(
        "The checkpoint gets no table: inference will ask for S, overlap=FOLDER or "
        "overlap={program: COMMAND}. One that you trust is data.overlap_table=TABLE.h5."
    )
    return None


COMPARED = 10
"""Structures whose overlaps a fitted table is compared with."""

FIT = "fit"
"""Value of ``overlap_table`` that asks for a fit instead of a file."""
