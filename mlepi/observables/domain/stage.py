"""The domain stage: distance of every sample to the training data, and inputs to label the worst.

Geometry is compared with the structures on which the electron network was trained; the checkpoint
names them. With several networks their disagreement on every sample is measured too, which needs no
reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.domain.doubts import list_doubts
from mlepi.observables.domain.further_networks import FurtherNetworks, load_further_networks
from mlepi.observables.domain.label_inputs import write_label_inputs
from mlepi.observables.domain.periods import find_unseen_periods
from mlepi.observables.domain.record import DomainRecord
from mlepi.observables.domain.training_domain import (
    QUANTITIES,
    TrainingDomain,
    describe_geometry,
    find_training_data,
    list_unseen,
    read_training_structures,
)
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.ghosts import count_ghosts
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.valence import read_basis
from mlepi.project_files import find_file, locate_file
from mlepi.results import check_unchanged, hash_file, modules_of
from mlepi.structures import OpenmxSettings, VaspSettings

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.pipeline.networks import Networks

RANKINGS = ("distance", "hamiltonian_spread", "force_spread")
"""What the worst samples can be sorted by."""

RANKINGS_OF_KIND = {"electron": "hamiltonian_spread", "phonon": "force_spread"}

HAUNTED = 1e6
"""Added per ghost state to what the worst samples are ranked by: they come first."""


@dataclass(frozen=True)
class UndisplacedCrystal:
    """What the samples are compared with.

    Attributes:
        sites: (n_atoms, 3), Å, positions without displacements.
        ghost_energy: eV; a state below it is a ghost.
        networks: of the run.
        further: compared with them.
        n_compared: samples per temperature on which they are compared; may be infinite.
    """

    sites: NDArray[np.float64]
    ghost_energy: float
    networks: Networks
    further: FurtherNetworks
    n_compared: float


@dataclass(frozen=True, kw_only=True)
class DomainStage(SampledStage[UndisplacedCrystal]):
    """Diagnostics of the samples; see ``conf/stage/domain.yaml``.

    Attributes:
        data: training structures, a Hamiltonian data set or a file with forces; None takes what the
            electron checkpoint names.
        split: JSON file of the split; None takes what the checkpoint names, or all structures of a
            data set given by hand.
        subset: of the split.
        electron_checkpoints: further electron networks, of the same basis as that of the run.
        phonon_checkpoints: further phonon networks.
        n_compared: samples per temperature, the first ones, on which the members of a committee are
            compared; further networks are compared on all.
        rank_by: "distance", "hamiltonian_spread" or "force_spread".
        n_worst: samples that are listed and written.
        openmx: settings of the OpenMX inputs; None writes none, nor are any written for orbitals of
            other codes.
        vasp: settings of the VASP inputs; None writes none.

    Raises:
        ConfigError: a setting without meaning.
        DataError: a checkpoint that is not there.
    """

    name: ClassVar[str] = "domain"
    record: ClassVar[type] = DomainRecord
    lists: ClassVar[tuple[str, ...]] = ("all", "full")
    compared: ClassVar[bool] = False  # it writes inputs, and compares networks itself
    least_samples: ClassVar[int] = 1
    averages: ClassVar[bool] = False

    data: str | None
    split: str | None
    subset: str
    electron_checkpoints: Sequence[str]
    phonon_checkpoints: Sequence[str]
    n_compared: int
    rank_by: str
    n_worst: int
    openmx: OpenmxSettings | None
    vasp: VaspSettings | None

    def __post_init__(self) -> None:
        """Refuse settings without meaning, and files that are not there."""
        needed = {
            "hamiltonian_spread": self.electron_checkpoints,
            "force_spread": self.phonon_checkpoints,
        }
        if self.rank_by not in RANKINGS or (self.rank_by in needed and not needed[self.rank_by]):
            raise ConfigError(
                message(
                    "stage.domain.rank_by",
                    f"{self.rank_by!r} with {len(self.electron_checkpoints)} and "
                    f"{len(self.phonon_checkpoints)} further networks",
                    f"one of {list(RANKINGS)}, and networks to compare for a spread",
                    "Choose another, or add checkpoints.",
                )
            )
        if self.n_worst < 0:
            raise ConfigError(
                message(
                    "stage.domain.n_worst",
                    f"{self.n_worst}",
                    "a number ≥ 0",
                    "Use 0 to write no inputs.",
                )
            )
        _ = self.electron_files, self.phonon_files

    @cached_property
    def electron_files(self) -> tuple[Path, ...]:
        """Checkpoints of the further electron networks."""
        key = "stage.domain.electron_checkpoints"
        return tuple(find_file(key, file) for file in self.electron_checkpoints)

    @cached_property
    def phonon_files(self) -> tuple[Path, ...]:
        """Checkpoints of the further phonon networks."""
        key = "stage.domain.phonon_checkpoints"
        return tuple(find_file(key, file) for file in self.phonon_checkpoints)

    def sources(self) -> set[str]:
        """Return which networks it cannot do without: forces where they are compared."""
        return {*super().sources(), *(["phonon"] if self.phonon_checkpoints else [])}

    def further_modules(self) -> set[str]:
        """Return the code of the further networks."""
        further = load_further_networks(self.electron_files, self.phonon_files, "cpu")
        return set().union(*map(modules_of, (*further.electron, *further.phonon)))

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(settings),
            "data": [self.data, self.split, self.subset],
            "rank": [self.rank_by, self.n_worst],
            "openmx": None if (found := self._openmx(settings)) is None else _plain(asdict(found)),
            "vasp": None if self.vasp is None else _plain(asdict(self.vasp)),
        }

    def _openmx(self, settings: Settings) -> OpenmxSettings | None:
        """Return the settings of OpenMX for the material of the run; None writes no inputs."""
        if self.openmx is None:
            return None
        basis = read_basis(settings.electron)
        electrons = settings.config.get("valence_electrons") or {}
        return self.openmx.complete({} if basis is None else basis.names, electrons)

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the diagnostics of one sample: the networks that are compared."""
        networks = {"electron": [hash_file(file) for file in self.electron_files]}
        if self.phonon_files:
            networks["phonon"] = [
                settings.phonon.fingerprint(),
                *(hash_file(file) for file in self.phonon_files),
            ]
        members = {
            name: [member.fingerprint() for member in source.members]
            for name, source in (("electron", settings.electron), ("phonon", settings.phonon))
            if source.is_committee
        }
        committee = {"committee": [members, self._count_compared(settings)]} if members else {}
        return {**networks, **committee, "supercell": list(settings.supercell)}

    def begin(self, ensemble: Ensemble) -> UndisplacedCrystal:
        """Note the undisplaced positions and load the further networks."""
        atoms = ensemble.equilibrium.atoms
        digests = {file: hash_file(file) for file in (*self.electron_files, *self.phonon_files)}
        further = load_further_networks(self.electron_files, self.phonon_files, ensemble.device)
        check_unchanged(digests)
        return UndisplacedCrystal(
            sites=atoms.repeat(ensemble.supercell).positions,
            ghost_energy=ensemble.ghost_energy,
            networks=ensemble.networks,
            further=further,
            n_compared=self._count_compared(ensemble.networks.settings) or np.inf,
        )

    def evaluate(self, prepared: UndisplacedCrystal, sample: Sample) -> Part:
        """Describe one displaced supercell.

        Returns:
            ``values`` (n_quantities,), Å, ``ghosts`` (), states below all bands, and with
            several networks ``hamiltonian_spread`` (), eV, and ``force_spread`` (), eV/Å; NaN in
            samples on which they are not compared.
        """
        n_ghosts = count_ghosts(sample, prepared.ghost_energy)[1]
        return {
            "values": describe_geometry(sample.atoms, prepared.sites),
            "ghosts": np.array(n_ghosts),
            **self._compare(prepared, sample),
        }

    def finish(
        self,
        prepared: UndisplacedCrystal,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> DomainRecord:
        """Compare with the training structures, rank the samples, and write the worst to label."""
        found = _gather(ensemble, results)
        structures, source = self._read_training(
            getattr(prepared.networks.electron, "metadata", {})
        )
        described = [describe_geometry(atoms) for atoms in structures]
        domain = TrainingDomain(np.array(described).reshape(-1, len(QUANTITIES)), source)
        values, ghosts = found["values"], found["ghosts"].astype(np.int64)
        settings = prepared.networks.settings
        distances = domain.distances(values)
        spreads = {name: found.get(name, np.empty((0, 0))) for name in RANKINGS[1:]}
        order = spreads.get(self.rank_by, np.where(np.isnan(distances), values[..., -1], distances))
        worst = self._rank(ensemble, order, ghosts)
        of_training = self._compare_on_training(prepared, structures)
        return DomainRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            quantities=QUANTITIES,
            source=domain.source,
            n_training=len(structures),
            training_values=domain.values,
            training_ranges=domain.ranges,
            values=values,
            distances=distances,
            worst_quantities=_find_worst_quantities(domain, values, distances),
            ghosts=ghosts,
            n_electron_networks=len(settings.electron.members) + len(self.electron_files),
            hamiltonian_spreads=spreads["hamiltonian_spread"],
            training_hamiltonian_spreads=of_training["hamiltonian_spread"],
            n_phonon_networks=len(settings.phonon.members) + len(self.phonon_files),
            force_spreads=spreads["force_spread"],
            training_force_spreads=of_training["force_spread"],
            rank_by=self.rank_by,
            worst_samples=np.array([key.sample for key in worst], dtype=np.int64),
            worst_temperatures=np.array([key.temperature for key in worst], dtype=np.float64),
            label_files=tuple(
                write_label_inputs(ensemble, worst, self._openmx(settings), self.vasp)
            ),
            unseen_periods=_find_periods(ensemble, structures),
            unseen=tuple(list_unseen(ensemble.equilibrium.atoms, structures)),
        )

    def summarize(self, record: DomainRecord) -> str:
        """Say in a few words what was found."""
        largest = (
            f"largest displacement {record.values[..., -1].max():.2f} Å, nearest pair "
            f"{record.values[..., 0].min():.2f} Å"
        )
        if not record.source:
            return f"{largest}; no training data known"
        if record.unseen:
            unseen = "; ".join(record.unseen)
            return f"{largest}; OUTSIDE the {record.n_training} training structures: {unseen}"
        outside = ", ".join(
            f"{100 * s:.0f} % at {t:g} K"
            for t, s in zip(record.temperatures, record.outside_shares, strict=True)
        )
        return f"{largest}; outside the range of {record.n_training} training structures: {outside}"

    @staticmethod
    def doubts(record: DomainRecord) -> list[str]:
        """Tell of samples outside the training data, of ghosts, and of networks that differ."""
        return list(list_doubts(record))

    def _count_compared(self, settings: Settings) -> int | None:
        """Return on how many samples per temperature networks are compared; None for all."""
        further = self.electron_files or self.phonon_files
        return self.n_compared if settings.committees and not further else None

    def _compare(self, prepared: UndisplacedCrystal, sample: Sample) -> Part:
        """Compare networks on one sample, if it is among those."""
        settings = prepared.networks.settings
        if sample.key.sample < prepared.n_compared:
            return prepared.further.measure_spreads(
                prepared.networks, sample.atoms, sample.predicted, sample.overlap
            )
        return {RANKINGS_OF_KIND[kind]: np.array(np.nan) for kind in settings.committees}

    def _rank(
        self, ensemble: Ensemble, order: NDArray[np.float64], ghosts: NDArray[np.int64]
    ) -> list[SampleKey]:
        """Return the worst samples, those with ghost states first."""
        order = np.where(ghosts > 0, HAUNTED * ghosts, 0) + np.nan_to_num(order, nan=-HAUNTED / 2)
        ranked = np.argsort(-order, axis=None, kind="stable")[: self.n_worst]
        rows, columns = np.unravel_index(ranked, order.shape)
        return [
            SampleKey(int(row), ensemble.temperatures[column])
            for row, column in zip(rows, columns, strict=True)
        ]

    def _compare_on_training(
        self, prepared: UndisplacedCrystal, structures: Sequence[Atoms]
    ) -> dict[str, NDArray[np.float64]]:
        """Measure the spreads of the networks on the training structures: (n_training,) each."""
        networks, further = prepared.networks, prepared.further
        found = [
            further.measure_spreads(networks, atoms, *networks.predict(atoms))
            for atoms in structures
            if further.electron or further.phonon
        ]
        return {name: np.array([x[name] for x in found if name in x]) for name in RANKINGS[1:]}

    def _read_training(self, metadata: dict[str, Any]) -> tuple[list[Atoms], str]:
        """Return the training structures and what to call them.

        None where the checkpoint's data are not here.
        """
        if self.data is not None:
            data, split = find_file("stage.domain.data", self.data), self.split
            where = None if split is None else find_file("stage.domain.split", split)
            structures = read_training_structures(data, where, self.subset)
            return structures, self._describe(self.data, split)
        named, own_split = find_training_data(metadata)
        chosen = self.split or own_split
        found = None if named is None else locate_file(named)
        divided = locate_file(chosen) if isinstance(chosen, str) else chosen
        if found is None or divided is None:
            return [], ""
        structures = read_training_structures(found, divided, self.subset)
        what = chosen if isinstance(chosen, str) else "the split that its training made"
        return structures, self._describe(str(named), what)

    def _describe(self, data: str, split: str | None) -> str:
        return data if split is None else f"{data}, {self.subset} of {split}"


def _gather(
    ensemble: Ensemble, results: Iterable[tuple[SampleKey, Part]]
) -> dict[str, NDArray[Any]]:
    """Put what was found in single samples together: name → (n_samples, n_temperatures, …)."""
    parts = [part for _, part in results]  # snapshots, and within one temperatures
    shape = (ensemble.n_samples, len(ensemble.temperatures))
    stacked = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    return {name: values.reshape(*shape, *values.shape[1:]) for name, values in stacked.items()}


def _find_worst_quantities(
    domain: TrainingDomain, values: NDArray[np.float64], distances: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return which quantity lies furthest outside: (n_samples, n_temperatures), −1 for none."""
    each = np.stack(
        [domain.distances(_only(values, number)) for number in range(len(QUANTITIES))], axis=-1
    )
    largest = np.where(np.isnan(each), -np.inf, each).argmax(axis=-1)
    return np.where(np.isnan(distances), -1, largest).astype(np.int64)


def _only(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return the values with all quantities but one left out."""
    return np.where(np.arange(values.shape[-1]) == number, values, np.nan)


def _find_periods(ensemble: Ensemble, structures: list[Atoms]) -> NDArray[np.float64]:
    """Return the periods within the network's reach that only the training cells have, Å."""
    reach = getattr(ensemble.networks.electron, "reach", None)
    if reach is None:
        return np.empty(0)
    supercell = ensemble.equilibrium.atoms.repeat(ensemble.supercell)
    return find_unseen_periods(structures, supercell, reach)


def _plain(value: Any) -> Any:
    """Turn nested settings into JSON-able data."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
