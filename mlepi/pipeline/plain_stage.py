"""Stages that compute their record at once, from records and networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mlepi.pipeline.stage import Record, Stage

if TYPE_CHECKING:
    from mlepi.pipeline.progress import StageLine
    from mlepi.pipeline.run import Run


class PlainStage(Stage):
    """A stage that computes its record at once, in one process."""

    @abstractmethod
    def compute(self, run: Run, line: StageLine) -> Record:
        """Compute the record.

        Args:
            run: settings, networks, and the records of earlier stages.
            line: where progress goes.
        """


class NestedStage(PlainStage):
    """A plain stage that rests on other runs, made first, in folders below that of its own run.

    Attributes:
        tells_of_nested: whether the stages of these runs are reported, and not the runs alone.
    """

    tells_of_nested: ClassVar[bool] = True

    @abstractmethod
    def nested_runs(self, run: Run) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the runs and the stages of each.

        Called in every process, after the required records are there.
        """
