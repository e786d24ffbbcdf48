"""Where the networks and the structure of a run come from.

Checkpoints, files, or classes and functions named in the config; or a list of them, a committee.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from ase.data import atomic_numbers
from hydra.utils import instantiate

from mlepi.errors import ConfigError, DataError, StructureError, message
from mlepi.project_files import locate_file
from mlepi.results import check_unchanged, hash_data, read_input
from mlepi.structures import get_layers, read_structure
from mlepi.structures.basis import name_shells

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.physics.overlaps import RadialOverlaps
    from mlepi.structures.basis import OrbitalBasis


class ElectronModel(Protocol):
    """Whatever predicts H and S of a structure.

    ``mlepi.predictors.ElectronPredictor`` or a model of your own.
    """

    def hamiltonian(self, atoms: Atoms, *, device: str = ..., dtype: str = ...) -> BlockMatrix:
        """Return the Hamiltonian, eV."""
        ...

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap."""
        ...


@runtime_checkable
class BatchedElectronModel(ElectronModel, Protocol):
    """A model that predicts several structures in one evaluation, each as if it were alone."""

    def hamiltonians(
        self, structures: Sequence[Atoms], *, device: str = ..., dtype: str = ...
    ) -> list[BlockMatrix]:
        """Return the Hamiltonians, eV."""
        ...

    def overlaps(self, structures: Sequence[Atoms]) -> list[BlockMatrix]:
        """Return the overlaps."""
        ...


TOY = "toy"
"""Value of ``phonon`` or ``electron`` that stands for a reference system with known answers."""
TOYS: Mapping[str, Mapping[str, Any]] = {
    "phonon": {"_target_": "mlepi.reference_systems.HoneycombSprings"},
    "electron": {"_target_": "mlepi.reference_systems.TightBinding"},
}
"""Config key → the reference system that "toy" names there."""


ORBITALS = (".pao", ".ion.xml")
"""Ends of the names of files with the orbitals of one element."""

Drive = Literal["mean", "first"]
"""What a list of networks predicts: the mean of all, or what the first one says."""

DRIVES: tuple[Drive, ...] = get_args(Drive)


@dataclass(frozen=True)
class Source:
    """A file, or a ``_target_`` with its arguments, or a committee: a list of these.

    Attributes:
        key: config key that holds it, for messages.
        value: path, or mapping with ``_target_``, or a list of them; None when the run needs none.
            "toy" becomes the target in ``TOYS``. A list of one is what it holds.
        drive: what a list predicts. With "first" the others only measure how far networks differ,
            and the source is to every stage what its first member is.
    """

    key: str
    value: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None
    drive: Drive = "mean"

    def __post_init__(self) -> None:
        """Put the reference system in the place of its name, and one member for a list of one."""
        value = self.value
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = value[0] if len(value) == 1 else tuple(value)
        if value == TOY and self.key in TOYS:
            value = TOYS[self.key]
        object.__setattr__(self, "value", value)

    @property
    def is_committee(self) -> bool:
        """Whether it is a list of several."""
        return isinstance(self.value, tuple)

    @cached_property
    def members(self) -> tuple[Source, ...]:
        """The sources in a list; itself where there is one."""
        if not isinstance(self.value, tuple):
            return (self,)
        return tuple(Source(self.key, value) for value in self.value)

    @property
    def path(self) -> Path | None:
        """The file, if it is one; looked for in the working folder and in the project folder."""
        return (
            (locate_file(self.value) or Path(self.value)) if isinstance(self.value, str) else None
        )

    @cached_property
    def content(self) -> tuple[bytes, str]:
        """The bytes of the file and their digest, read once: what is hashed is what is loaded."""
        return read_input(Path(str(self.path)))

    def fingerprint(self) -> str:
        """Digest the content of the file, or the name and the arguments of the target.

        Of a list, all that decides what it predicts: the order of the members counts, since sums
        are rounded in it.
        """
        if self.is_committee:
            digests = [member.fingerprint() for member in self.members]
            return digests[0] if self.drive == "first" else hash_data({"mean": digests})
        return hash_data(self._require()) if self.path is None else self.content[1]

    def describe(self) -> str:
        """Name the source in a record."""
        if self.is_committee:
            names = ", ".join(member.describe() for member in self.members)
            return f"{self.drive} of [{names}]"
        value: Any = self._require()
        if isinstance(value, str):
            return value
        arguments = ", ".join(
            f"{name}={item}" for name, item in value.items() if name != "_target_"
        )
        return f"{value['_target_']}({arguments})"

    def build(self) -> Any:
        """Call the target.

        Raises:
            ConfigError: it does not accept its arguments.
        """
        try:
            return instantiate(self._require(), _convert_="all")
        except Exception as error:
            cause = error.__cause__ or error
            raise ConfigError(
                message(
                    self.key,
                    f"{self.describe()}: {cause}",
                    "a working target",
                    "Compare the arguments with its docstring.",
                )
            ) from error

    def _require(self) -> Any:
        if self.value is None:
            raise ConfigError(
                message(
                    self.key, "nothing", "a path or {_target_: …}", "Give it, this stage needs it."
                )
            )
        return self.value


def load_calculator(
    source: Source, device: str, compiled: bool = False, tabulated: bool = False
) -> Calculator:
    """Return the ASE calculator of a phonon checkpoint, of a target, or of a list of them.

    A checkpoint computes in float64, as finite differences need. All members of a list are loaded
    and compared, also where the first one drives.

    Args:
        source: of energies and forces.
        device: of the network.
        compiled: run the network's kernels compiled; a target decides for itself.
        tabulated: take radial functions from tables, see ``Predictor.tabulate_radial``; likewise.

    Raises:
        ConfigError: the network has no compiled kernels, or the device cannot be used.
        DataError: members of a list that do not belong together.
    """
    if source.is_committee:
        from mlepi.predictors.committee import PhononCommittee

        calculators = [
            load_calculator(member, device, compiled, tabulated) for member in source.members
        ]
        committee = PhononCommittee(calculators)
        return calculators[0] if source.drive == "first" else committee
    if source.path is None:
        return source.build()
    from mlepi.checkpoint import load_model

    model: Any = load_model(source.path, kind="phonon", data=source.content[0])
    if compiled:
        model.compile_kernels()
    if tabulated:
        model.tabulate_radial()
    calculator: Calculator = model.calculator(device=device, dtype="float64")
    return calculator


def load_electron(
    source: Source,
    overlap: Sequence[Path] = (),
    compiled: bool = False,
    program: Sequence[str] = (),
) -> ElectronModel:
    """Return the electron network of a checkpoint, the model of a target, or of a list of them.

    All members of a list are loaded and compared, also where the first one drives.

    Args:
        source: of the Hamiltonian.
        compiled: run the network's kernels compiled; a target decides for itself.
        overlap: a table of radial overlap functions (HDF5), one file of orbitals per element, or a
            folder with S of every structure, instead of the checkpoint's own table.
        program: computes S of a structure, instead of ``overlap``.

    Raises:
        DataError: the overlap files do not hold the orbitals of the Hamiltonian, or the members of
            a list do not belong together.
        ConfigError: the network has no compiled kernels.
    """
    if source.is_committee:
        from mlepi.predictors.committee import build_electron_committee

        members = [load_electron(member, overlap, compiled, program) for member in source.members]
        committee = build_electron_committee(members)
        return members[0] if source.drive == "first" else committee
    if source.path is None:
        return source.build()
    from mlepi.checkpoint import load_model
    from mlepi.predictors.electron import check_overlap_table

    model: Any = load_model(source.path, kind="electron", data=source.content[0])
    if compiled:
        model.compile_kernels()
    folder = overlap[0] if len(overlap) == 1 and overlap[0].is_dir() else None
    if program or folder is not None:
        from mlepi.predictors.given_overlaps import open_overlaps

        model.overlap_table, model.overlap_source = None, open_overlaps(folder, program)
    elif overlap:
        table = load_overlap_table(overlap, model.basis)
        check_overlap_table(model.basis, table)
        model.overlap_table = table
    return model


def load_overlap_table(files: Sequence[Path], basis: OrbitalBasis) -> RadialOverlaps:
    """Read a table of radial overlap functions, or tabulate it from numerical orbitals.

    Args:
        files: one HDF5 table, or one file per element, named after it: OpenMX's, such as C6.0.pao,
            or SIESTA's, such as C.ion.xml.
        basis: orbitals of the Hamiltonian; says which shells to take from a ``.pao`` file.

    Raises:
        DataError: a file cannot be read, or is of no element of the basis.
    """
    from mlepi.physics.overlaps import (
        read_ion_xml,
        read_overlap_table,
        read_pao,
        tabulate_overlaps,
    )

    if len(files) == 1 and not files[0].name.endswith(ORBITALS):
        return read_overlap_table(files[0])
    orbitals = []
    for file in files:
        symbol = re.match(r"[A-Z][a-z]?", file.name)
        number = atomic_numbers.get(symbol.group() if symbol else "", 0)
        if number not in basis.elements or not file.name.endswith(ORBITALS):
            raise DataError(
                message(
                    "overlap",
                    f"the file {file.name}",
                    "a .pao or .ion.xml file named after an element of the basis",
                    "Name the file after its element, as in C7.0.pao.",
                )
            )
        is_pao = file.suffix == ".pao"
        orbitals.append(
            read_pao(file, name_shells(basis.shells[number])) if is_pao else read_ion_xml(file)
        )
    return tabulate_overlaps(orbitals)


def load_structure(source: Source, check_units: bool = True) -> Atoms:
    """Read or build the structure, with the layer of each atom.

    Args:
        source: of the structure.
        check_units: refuse lengths that cannot be in Å, and a cell that cannot be that of its
            atoms; atoms that are unphysically close are refused in any case.

    Raises:
        StructureError: the target did not return a structure, or its lengths make no sense.
        DataError: the file cannot be read, or changed meanwhile.
    """
    if source.path is None:
        atoms = source.build()
    else:
        digest = source.fingerprint()
        atoms = read_structure(source.path)
        check_unchanged({source.path: digest})
    if not hasattr(atoms, "get_scaled_positions"):
        raise StructureError(
            message(
                source.key,
                f"{type(atoms).__name__}",
                "an ase.Atoms",
                "Name a builder of structures.",
            )
        )
    from mlepi.graphs.neighbours import check_distances
    from mlepi.graphs.plausibility import check_structure

    (check_structure if check_units else check_distances)(source.key, atoms)
    atoms.arrays["layer"] = get_layers(atoms)
    return atoms
