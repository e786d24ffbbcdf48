"""The error of a training and its processor seconds, epoch by epoch, as lines of a file.

Needs nothing but the standard library, because it also runs in the environments of the peers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FILE = "curve.jsonl"


class Point(NamedTuple):
    """How far a training is.

    Attributes:
        epoch: finished ones.
        error: on the validation subset after them.
        seconds: of the processor since the training began, validation included.
    """

    epoch: int
    error: float
    seconds: float


def append_point(folder: Path, point: Point) -> None:
    """Add one line to the file of a folder."""
    with (folder / FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(point._asdict()) + "\n")


def read_curve(folder: Path) -> list[Point]:
    """Return what a training has written so far, in the order of epochs; none without a file.

    Epochs that were repeated after a kill count as they went the last time, and a line that a kill
    has cut does not count.

    Args:
        folder: that holds the file, itself or in a folder below.
    """
    found: dict[int, Point] = {}
    for file in sorted(folder.rglob(FILE)):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                point = Point(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[point.epoch] = point
    return [found[epoch] for epoch in sorted(found)]


class CurveClock:
    """Counts the processor seconds of a training of which parts may have gone before.

    Args:
        folder: of its curve, which says how long they took.
    """

    def __init__(self, folder: Path) -> None:
        self.passed = {point.epoch: point.seconds for point in read_curve(folder)}
        self.seconds = self.begin = 0.0

    def go_on_from(self, epoch: int) -> None:
        """Add what the training took up to the end of an epoch that is not repeated."""
        self.seconds += self.passed.get(epoch, 0.0)

    def start(self) -> None:
        """Start the clock, or go on after a stop."""
        self.begin = time.process_time()

    def stop(self) -> float:
        """Stop it and return the seconds so far."""
        self.seconds += time.process_time() - self.begin
        return self.seconds


def lowest_error(curve: Sequence[Point]) -> Point:
    """Return where the error was lowest, the first of equal ones."""
    return min(curve, key=lambda point: point.error)


def seconds_to_error(curve: Sequence[Point], error: float) -> float | None:
    """Return the seconds after which the error was first as low as this; None if it never was."""
    return next((point.seconds for point in curve if point.error <= error), None)
