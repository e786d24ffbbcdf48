"""The cell_error stage: the cell part of the error budget, from a finished series of sizes.

It looks at no samples: the series has measured how far every quantity at every size is from the
limit of infinite cells, and this run takes what belongs to its own size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.cell_error.record import CellErrorRecord
from mlepi.observables.cell_error.take_parts import KEY, find_series, take_parts
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import Stage
from mlepi.project_files import locate_file
from mlepi.results import ResultsStore
from mlepi.results.store import FILE_NAME


@dataclass(frozen=True, kw_only=True)
class CellErrorStage(PlainStage):
    """Take the cell part of all errors from a series; see ``conf/stage/cell_error.yaml``.

    Attributes:
        series: folder of a finished series; None where there is none.
    """

    name: ClassVar[str] = "cell_error"
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = CellErrorRecord
    added_by: ClassVar[str] = KEY

    series: str | None

    @classmethod
    def rests_on(cls, other: type[Stage]) -> bool:
        """Tell whether it reads the settings of another stage: of all that look at samples."""
        return super().rests_on(other) or issubclass(other, SampledStage)

    def further_records(self, run: Run) -> tuple[str, ...]:
        """Return the stages that look at samples, as far as they have records."""
        present = run.store.stages()
        return tuple(
            name
            for name, stage in run.stages.items()
            if isinstance(stage, SampledStage) and name in present
        )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what the series holds, and what of the run it is compared with."""
        store = ResultsStore(self._folder()) if self.series else None
        contents = {} if store is None else {name: store.content(name) for name in store.stages()}
        return {
            "series": contents,
            "supercell": list(settings.supercell),
            "temperature": list(settings.temperatures),
        }

    def compute(self, run: Run, line: StageLine) -> CellErrorRecord:
        """Find the series of this system and take the parts of this size.

        Raises:
            ConfigError: no series is named.
            DataError: it is one of something else.
        """
        if not self.series:
            raise ConfigError(
                message(
                    KEY,
                    "null",
                    "the folder of a finished series of sizes",
                    "Run experiment=headline, then give cell_series=outputs/headline.",
                )
            )
        name, record = find_series(self._folder(), run.store)
        settings = run.settings
        return take_parts(name, record, run.store, settings.supercell, settings.temperatures)

    def summarize(self, record: CellErrorRecord) -> str:
        """Say in a few words what was found."""
        told = sum(bool(np.isfinite(sizes).any()) for sizes in record.parts.values())
        return f"{told} quantities of {record.size}×{record.size} cells: {record.describe()}"

    @staticmethod
    def doubts(record: CellErrorRecord) -> list[str]:
        """Tell of observables that are not those of the series."""
        if not record.other_settings:
            return []
        return [
            Doubt(
                f"{', '.join(record.other_settings)} had other settings in the series of sizes.",
                "The cell part of their errors is not measured.",
                "Repeat the series with the settings of this run.",
                "note",
            )
        ]

    def _folder(self) -> Path:
        """Return the folder of the series, given from the working folder or the project."""
        path = Path(str(self.series))
        found = locate_file(str(path / FILE_NAME))
        return path if found is None else found.parent
