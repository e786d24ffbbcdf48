"""The labelled_bands stage: bands of labelled supercells beside those of the electron network.

The supercells are those of a data set, not of the ensemble: H and S of their labels and of the
network are diagonalised for the same atoms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mlepi.config_check import suggest
from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs.own_labels import complete_labels, find_own_potentials
from mlepi.observables.labelled_bands.compare import Comparison, compare_sample, count_problems
from mlepi.observables.labelled_bands.record import LabelledBandsRecord
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.project_files import find_file
from mlepi.results import hash_file
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.layer_potentials import read_layer_potentials
from mlepi.structures.splits import read_named_subsets, read_split

KEY = "stage.labelled_bands"


@dataclass(frozen=True, kw_only=True)
class LabelledBandsStage(PlainStage):
    """Bands of labelled supercells; see ``conf/stage/labelled_bands.yaml``.

    Attributes:
        data: HDF5 data set of labelled supercells, of the run's ``supercell``.
        structures: names in it; None takes the subset, or all where there is none.
        split: JSON file that knows the subset.
        subset: of the split, named ones too; structures that ``data`` lacks are left out.
        route: special points of the primitive zone, own ones, or fractional coordinates; None takes
            K-Γ-M-K' for a hexagonal layer and the lattice's own path otherwise.
        points: name → (3,) fractional, own points.
        spacing: largest distance of two k-points, Å⁻¹.
        window: eV, half width around the Fermi energy of the labels in which levels are compared.
        line_width: eV, standard deviation of the lines of A(k, E).

    Raises:
        ConfigError: a subset without a split, or beside names.
    """

    name: ClassVar[str] = "labelled_bands"
    requires: ClassVar[tuple[str, ...]] = ()
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    record: ClassVar[type] = LabelledBandsRecord

    data: str | None
    structures: Sequence[str] | None
    split: str | None
    subset: str | None
    route: Sequence[str | Sequence[float]] | None
    spacing: float
    window: float
    line_width: float
    points: Mapping[str, Sequence[float]] | None = None

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if (self.split is None) != (self.subset is None) or (self.subset and self.structures):
            raise ConfigError(
                message(
                    KEY,
                    f"structures {self.structures}, split {self.split}, subset {self.subset}",
                    "names, or a subset of a split, or neither",
                    "Give structures=[NAME,…], or split=FILE with subset=NAME.",
                )
            )
        if not (self.window > 0.0 and self.line_width > 0.0):
            raise ConfigError(
                message(
                    KEY,
                    f"window {self.window} eV, line_width {self.line_width} eV",
                    "energies > 0",
                    "Use 2.0 and 0.05.",
                )
            )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings, the labels and the network."""
        return {
            **settings.describe_electron(),
            "data": hash_file(self._locate()) if self.data else None,
            "structures": None if self.structures is None else list(self.structures),
            "subset": self.subset,
            "split": hash_file(find_file(f"{KEY}.split", self.split)) if self.split else None,
            "supercell": list(settings.supercell),
            "route": None if self.route is None else list(self.route),
            "points": dict(self.points or {}),
            "spacing": self.spacing,
            "window": self.window,
            "line_width": self.line_width,
        }

    def compute(self, run: Run, line: StageLine) -> LabelledBandsRecord:
        """Compare every chosen structure.

        Raises:
            ConfigError: no data set is named.
            DataError: it has no such structures, or labels that cannot be compared.
            StructureError: a structure is no supercell of the run's repeats.
        """
        dataset = HamiltonianDataset(self._locate())
        names, networks = self._choose(dataset), run.networks
        chosen = Comparison(
            run.settings.supercell,
            self.route,
            self.points or {},
            self.spacing,
            self.window,
            self.line_width,
        )
        shifts = networks.level_shift is not None
        file = find_own_potentials(networks.electron, dataset.path)
        potentials = None if file is None else read_layer_potentials(file)
        line.start(sum(count_problems(dataset.outline(name), chosen, shifts) for name in names))
        samples = {}
        for number, name in enumerate(names):
            structure = complete_labels(dataset[name], networks.electron, potentials)
            hamiltonian, overlap = networks.predict(structure.atoms)
            shifted = networks.shift(structure.atoms, hamiltonian, overlap) if shifts else None
            samples[str(number)] = compare_sample(
                structure, (hamiltonian, overlap), shifted, chosen, line.advance
            )
        return LabelledBandsRecord(
            data=dataset.path.name,
            supercell=run.settings.supercell,
            window=self.window,
            samples=samples,
            potentials=None if file is None else file.name,
        )

    def summarize(self, record: LabelledBandsRecord) -> str:
        """Say in a few words what was found."""
        found = ", ".join(
            f"{sample.name} {1e3 * sample.best.rms:.1f} meV ({1e3 * sample.best.aligned:.1f} "
            f"aligned), {sample.best.ghosts} ghosts"
            for sample in record.samples.values()
        )
        return f"levels within ±{record.window:g} eV of the labels' E_F: RMS {found}"

    @staticmethod
    def doubts(record: LabelledBandsRecord) -> list[str]:
        """Tell of ghosts that are left."""
        haunted = [each for each in record.samples.values() if each.best.ghosts]
        return [
            Doubt(
                f"{sample.best.ghosts} ghost states of {sample.name}, at "
                f"{sample.best.ghost_kpoints} of {len(sample.kpoints)} k-points.",
                "Levels above a ghost are paired with the wrong levels of the labels.",
                "Set level_shift, or train on cells like this one.",
                "serious",
            )
            for sample in haunted
        ]

    def _locate(self) -> Path:
        if not self.data:
            raise ConfigError(
                message(
                    f"{KEY}.data",
                    "null",
                    "a data set of labelled supercells",
                    "Name one, such as data/blg_openmx/hamiltonians.h5.",
                )
            )
        return find_file(f"{KEY}.data", self.data)

    def _choose(self, dataset: HamiltonianDataset) -> list[str]:
        """Return the names of the structures that are compared."""
        if self.split is None or self.subset is None:
            names = list(dataset.names if self.structures is None else self.structures)
            for name in names:
                dataset.index(name)
            return names
        file = find_file(f"{KEY}.split", self.split)
        named = read_named_subsets(file)
        subsets = {**read_split(file, dataset.names), **named.val, **named.test}
        if self.subset not in subsets:
            expected, fix = f"one of {', '.join(subsets)}", suggest(self.subset, subsets)
            raise DataError(message(f"{KEY}.subset", repr(self.subset), expected, fix))
        names = [name for name in subsets[self.subset] if name in dataset.names]
        if not names:
            got, fix = f"none of {self.subset!r}", "Name the data set that holds them."
            raise DataError(message(str(dataset.path), got, "its structures", fix))
        return names
