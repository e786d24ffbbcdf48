"""The committee stage: what the networks of a list disagree about, in every record of the run.

Each member repeats the run on its first samples, in a folder of its own below that of the run: an
electron network on the same displacements, a phonon network from its own force constants with the
same random numbers. Then the records are compared number by number. An observable needs no code of
its own for that. What is left of the sampling noise in the differences is small, since all members
see the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.committee.compare import measure_deviations
from mlepi.observables.committee.record import CommitteeRecord, StageSpread
from mlepi.pipeline.discovery import order_stages
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.plain_stage import NestedStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.runner import judge_record
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stage import Stage
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.results import ResultsStore

FOLDER = "committee"
KINDS = ("electron", "phonon")
CALIBRATED_BY = {"electron": "bands", "phonon": "forces"}
"""Kind of networks → quantity whose calibration stands for that of every observable."""


@dataclass(frozen=True, kw_only=True)
class CommitteeStage(NestedStage):
    """Compare the networks of a committee; see ``conf/stage/committee.yaml``.

    Attributes:
        n_samples: supercells per temperature on which every network is tried, the first of the run.

    Raises:
        ConfigError: too few samples for the observables.
    """

    name: ClassVar[str] = "committee"
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    lists: ClassVar[tuple[str, ...]] = ("all", "full")
    record: ClassVar[type] = CommitteeRecord
    for_committees: ClassVar[bool] = True
    tells_of_nested: ClassVar[bool] = False

    n_samples: int

    def __post_init__(self) -> None:
        """Refuse numbers of samples that give no observables."""
        if self.n_samples < 2:
            raise ConfigError(
                message(
                    "stage.committee.n_samples",
                    f"{self.n_samples}",
                    "at least 2, as observables need",
                    "Take 4.",
                )
            )

    @classmethod
    def rests_on(cls, other: type[Stage]) -> bool:
        """Tell whether it reads records of another stage: those that networks decide too."""
        return super().rests_on(other) or other.compared

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings, and the members with what decides their predictions."""
        sources = {"electron": settings.electron, "phonon": settings.phonon}
        return {
            "n_samples": self._count(settings),
            "members": {
                kind: [member.fingerprint() for member in sources[kind].members]
                for kind in settings.committees
            },
            "drive": settings.electron.drive,
            "seed": settings.seed,
        }

    def further_records(self, run: Run) -> tuple[str, ...]:
        """Return the stages that are compared: whose records are what this run would make."""
        present = run.store.stages()
        return tuple(
            name
            for name, stage in run.stages.items()
            if stage.compared
            and name not in self.requires
            and name in present
            and judge_record(run, stage).kept
        )

    def nested_runs(self, run: Run) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return a run for every member of every committee, on the first samples.

        Raises:
            ConfigError: there is no committee.
        """
        if not run.settings.committees:
            raise ConfigError(
                message(
                    "stage.committee",
                    "one electron and one phonon network",
                    "a list of either",
                    "Use electron=[a.ckpt,b.ckpt] or phonon=[a.ckpt,b.ckpt].",
                )
            )
        classes = {name: type(stage) for name, stage in run.stages.items()}
        names = order_stages(["phonon", *self.further_records(run)], classes)
        return [
            (nested, names)
            for kind in run.settings.committees
            for nested in _nest_members(run, kind, self._count(run.settings))
        ]

    def compute(self, run: Run, line: StageLine) -> CommitteeRecord:
        """Compare the records of the members."""
        from mlepi.predictors.calibration import find_calibration  # the networks import much

        settings = run.settings
        compared = self.further_records(run)
        deviations: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        factors = dict.fromkeys(KINDS, 1.0)
        uncalibrated = []
        for kind in settings.committees:
            nested = _nest_members(run, kind, self._count(settings))
            names = (*compared, "phonon") if kind == "phonon" else compared
            for name in names:
                records = [member.read(name) for member in nested]
                deviations[kind][name] = measure_deviations(records)
            found = find_calibration([_predictor(member, kind) for member in nested])
            # networks full of ghosts have no levels to be calibrated
            if found is None or CALIBRATED_BY[kind] not in found.quantities:
                uncalibrated.append(kind)
            else:
                factors[kind] = found.factor(CALIBRATED_BY[kind], settings.electron.drive)
        everything = sorted({name for values in deviations.values() for name in values})
        return CommitteeRecord(
            n_samples=self._count(settings),
            n_electron_networks=len(settings.electron.members),
            n_phonon_networks=len(settings.phonon.members),
            drive=settings.electron.drive,
            electron_factor=factors["electron"],
            phonon_factor=factors["phonon"],
            uncalibrated=tuple(uncalibrated),
            stages={
                name: StageSpread(**{kind: deviations[kind].get(name, {}) for kind in KINDS})
                for name in everything
            },
        )

    def summarize(self, record: CommitteeRecord) -> str:
        """Say in a few words what was compared."""
        factors = ", ".join(
            f"{kind} {'uncalibrated' if kind in record.uncalibrated else f'× {factor:.2f}'}"
            for kind, n, factor in (
                ("electron", record.n_electron_networks, record.electron_factor),
                ("phonon", record.n_phonon_networks, record.phonon_factor),
            )
            if n > 1
        )
        return (
            f"{record.n_electron_networks} electron and {record.n_phonon_networks} phonon networks "
            f"on {record.n_samples} samples per temperature ({record.drive} drives; {factors}): "
            f"{', '.join(record.stages)}"
        )

    @staticmethod
    def doubts(record: CommitteeRecord) -> list[str]:
        """Tell of a spread that has never been compared with true errors."""
        return [
            Doubt(
                f"the {kind} networks are uncalibrated.",
                "Their spread was never compared with errors against labels, which may be larger.",
                "benchmarks/committee.py calibrates.",
            )
            for kind in record.uncalibrated
        ]

    def _count(self, settings: Settings) -> int:
        return min(self.n_samples, settings.n_samples)


def _nest_members(run: Run, kind: str, n_samples: int) -> list[Run]:
    """Return a run for every network of one kind, on the first samples.

    Args:
        run: with a committee of that kind.
        kind: "electron" or "phonon".
        n_samples: per temperature.
    """
    sources = {"electron": run.settings.electron, "phonon": run.settings.phonon}
    return [
        _nest(run, kind, member, run.store.folder / FOLDER / f"{kind}_{number}", n_samples)
        for number, member in enumerate(sources[kind].members, start=1)
    ]


def _nest(run: Run, kind: str, member: Source, folder: Any, n_samples: int) -> Run:
    """Return the run of one member; stages that it must not take over are objects of its own."""
    sampling = cast(Any, run.stages["sampling"])
    own: dict[str, Stage] = {
        "sampling": replace(sampling.without_target(), export=False),
        "hamiltonian": HamiltonianStage(),
    }
    given = run.networks
    settings = replace(run.settings, n_samples=n_samples)
    if kind == "phonon":
        # how phonon networks differ hardly depends on the electron network: the first is enough
        settings = replace(settings, phonon=member, electron=settings.electron.members[0])
        own["phonon"] = replace(cast(Any, run.stages["phonon"]))
        nested = Networks(settings, own_electron=given.own_electron)
    else:
        settings = replace(settings, electron=member)
        nested = Networks(settings, own_calculator=given.own_calculator)
    return Run(settings, ResultsStore(folder), nested, {**run.stages, **own})


def _predictor(run: Run, kind: str) -> Any:
    """Return the network of one kind of a run, or what serves in its place."""
    if kind == "electron":
        return run.networks.electron
    return getattr(run.networks.calculator, "predictor", run.networks.calculator)
