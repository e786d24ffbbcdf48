"""What a stage is: it reads records or samples, computes, and returns one record.

A stage never writes the store, never asks whether its work is done, and knows nothing of the runner
and its processes. Its fields are the keys of ``conf/stage/<name>.yaml``; its record is a frozen
dataclass whose fields carry their unit (``field(metadata=mlepi.results.unit(…))``). Both lie in one
folder, with a module ``figure`` that shows the record, and are found by their place
(``mlepi.pipeline.discovery``): nothing is registered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from mlepi.errors import ConfigError, message

if TYPE_CHECKING:
    from mlepi.figures import Presentation
    from mlepi.pipeline.run import Run
    from mlepi.pipeline.settings import Settings

Record = Any
"""A frozen dataclass, see ``mlepi.results``."""


class Stage(ABC):
    """One step of the pipeline, a frozen dataclass of its settings.

    Attributes:
        name: also the name of its record in the store and of its config.
        requires: stages whose records it rests on, in the order of the data flow.
        networks: "phonon" and "electron", as far as it cannot do without.
        record: class of its record.
        lists: named lists of stages that it belongs to ("all" is what runs by default).
        for_committees: whether it has nothing to do where no list of networks is given; it then
            runs only when asked for by its name.
        added_by: key of the config that adds it to every run in which it is given; empty for none.
        compared: whether the numbers of its record are compared among the networks of a committee.
        solves: whether it diagonalises what the electron network predicts, with the level shift.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    networks: ClassVar[tuple[str, ...]] = ()
    record: ClassVar[type]
    lists: ClassVar[tuple[str, ...]] = ()
    for_committees: ClassVar[bool] = False
    added_by: ClassVar[str] = ""
    compared: ClassVar[bool] = False
    solves: ClassVar[bool] = True

    @abstractmethod
    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all that decides the result beside the required records, as JSON-able data."""

    @abstractmethod
    def summarize(self, record: Record) -> str:
        """Say in a few words what was found; shown when the stage is done."""

    @staticmethod
    def doubts(record: Record) -> list[str]:
        """Say what makes the numbers of a record doubtful, one sentence each; usually nothing."""
        return []

    def sources(self) -> set[str]:
        """Return which of "structure", "phonon" and "electron" it cannot do without."""
        return set(self.networks)

    @classmethod
    def rests_on(cls, other: type[Stage]) -> bool:
        """Tell whether its record is worthless once that of another stage has changed."""
        return other.name in cls.requires

    def further_records(self, run: Run) -> tuple[str, ...]:
        """Return stages beside those required whose records enter its own, where they are."""
        return ()

    def further_modules(self) -> set[str]:
        """Return the modules that its results rest on beside its own and those of the run.

        What those import counts as well; only a stage with networks of its own has any.
        """
        return set()

    @classmethod
    def presentation(cls) -> Presentation:
        """Return what the module ``figure`` beside that of the stage shows of its record."""
        from mlepi.figures import Presentation

        name = f"{cls.__module__.rpartition('.')[0]}.figure"
        if find_spec(name) is None:
            return Presentation()
        shown: Presentation = import_module(name).PRESENTATION
        return shown


def check_choice(key: str, choice: str, known: Sequence[str]) -> None:
    """Refuse a word that is none of those known.

    Args:
        key: of the config, for the message.
        choice: what was given.
        known: what can be chosen.

    Raises:
        ConfigError: another word.
    """
    if choice not in known:
        raise ConfigError(
            message(key, repr(choice), f"one of {list(known)}", "Choose one of them.")
        )
