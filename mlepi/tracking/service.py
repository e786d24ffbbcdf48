"""What a service takes: values, tables, curves, pictures and files of one run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Cell = float | str | None
"""Of a table; a column of numbers has None where one is missing."""


@dataclass(frozen=True)
class Job:
    """What a run is, for a service that groups runs.

    Attributes:
        folder: of the run, where a service keeps its files.
        name: of the run.
        kind: what it does.
        sweep: name of the sweep that it belongs to; empty for none.
        config: resolved settings, plain data.
    """

    folder: Path
    name: str
    kind: Literal["train", "infer", "comparison"]
    sweep: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


class Service(ABC):
    """One run in one service. Names have slashes where the service makes groups of them."""

    @abstractmethod
    def log_values(self, values: Mapping[str, float], step: int | None) -> None:
        """Add one point to every curve.

        Args:
            values: name → value.
            step: of the optimizer.
        """

    @abstractmethod
    def log_summary(self, values: Mapping[str, float]) -> None:
        """Say the numbers by which runs are compared: name → value."""

    @abstractmethod
    def log_table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Show a table, as many cells in every row as in the header."""

    @abstractmethod
    def log_curve(
        self, name: str, labels: tuple[str, str], x: Sequence[float], y: Sequence[float]
    ) -> None:
        """Draw a quantity against another.

        Args:
            name: of the plot.
            labels: of both axes.
            x: ascending.
            y: as many.
        """

    @abstractmethod
    def log_image(self, name: str, path: Path) -> None:
        """Show a PNG file."""

    @abstractmethod
    def log_file(self, name: str, path: Path, kind: str) -> None:
        """Keep a file, or say where it is where the service keeps none.

        Args:
            name: under which it is kept.
            path: of the file.
            kind: "model" or "report".
        """

    @abstractmethod
    def close(self) -> None:
        """End the run, so that the next one starts its own."""
