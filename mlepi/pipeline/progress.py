"""One line per stage.

A bar with an estimate of what is left on a terminal; elsewhere a plain line now and then, and one
at the end. All lines go to the log of the run as well.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)

PAUSES = (5.0, 60.0)
"""Seconds before the first line about samples where there is no bar, and between later ones; each
pause is twice the one before, so that a log stays short."""
NAME_WIDTH = 16
"""Characters of the column of names."""


class StageLine:
    """The line of one stage.

    Attributes:
        note: what the stage found, in a few words; shown when it is done.
    """

    def __init__(
        self, bar: Progress | None, name: str, say: Callable[[str], None] | None = None
    ) -> None:
        self.note = ""
        self._name, self._say = name, say
        self._bar = bar
        self._task = bar.add_task(name, total=None) if bar else None
        self._total, self._before, self._done, self._begin = 0, 0, 0, time.monotonic()
        self._pause, self._next = PAUSES[0], self._begin + PAUSES[0]

    def start(self, total: int, done: int = 0) -> None:
        """Tell how many samples there are, and how many were done earlier."""
        self._total, self._before, self._done, self._begin = total, done, done, time.monotonic()
        self._pause, self._next = PAUSES[0], self._begin + PAUSES[0]
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total, completed=done)

    def advance(self, note: str = "") -> None:
        """Count one more sample.

        ``note`` is shown with an estimate of what is left, for samples that take minutes.
        """
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        now = time.monotonic()
        due = self._bar is None and now >= self._next and self._done < self._total
        if due:
            self._pause = min(2.0 * self._pause, PAUSES[1])
            self._next = now + self._pause
        if note or due:
            each = (now - self._begin) / (self._done - self._before) / 60.0
            left = f"about {each * (self._total - self._done):.1f} min left"
            said = f"{note}, {left}" if note else left
            self.tell(f"{self._done}/{self._total}  {said}")

    def tell(self, text: str) -> None:
        """Write one line about work that cannot be counted."""
        if self._say is not None:
            self._say(f"{self._name:<{NAME_WIDTH}} {text}")


class ProgressReport:
    """Reports the stages of a run on a stream.

    Args:
        quiet: say nothing, as all processes but the first do.
        stream: where to.
        prefix: of the names of stages.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, prefix: str = "") -> None:
        self._quiet = quiet
        self._prefix = prefix
        self._stream = sys.stdout if stream is None else stream
        self._console = Console(file=self._stream, highlight=False)

    def within(self, name: str, quiet: bool = False) -> ProgressReport:
        """Return a report, or a silent one, for the stages of a run that belongs to a stage."""
        return ProgressReport(self._quiet or quiet, self._stream, f"{self._prefix}{name}/")

    @contextmanager
    def stage(self, name: str) -> Iterator[StageLine]:
        """Show one stage while it runs."""
        name = self._prefix + name
        start = time.monotonic()
        if self._quiet:
            yield StageLine(None, name)
        elif self._console.is_terminal:
            columns = (
                TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            left = (TextColumn("left"), TimeRemainingColumn())
            with Progress(*columns, *left, console=self._console, transient=True) as bar:
                line = StageLine(bar, name, bar.console.print)
                yield line
            self.say(f"{name:<{NAME_WIDTH}} {time.monotonic() - start:8.1f} s  {line.note}")
        else:
            line = StageLine(None, name, self.say)
            yield line
            self.say(f"{name:<{NAME_WIDTH}} {time.monotonic() - start:8.1f} s  {line.note}")

    def skip(self, name: str, note: str = "") -> None:
        """Tell that a stage has nothing to do, and what else there is to say of its record."""
        self.tell(name, f"unchanged{', ' if note else ''}{note}")

    def tell(self, name: str, text: str) -> None:
        """Write one line about a stage."""
        self.say(f"{self._prefix + name:<{NAME_WIDTH}} {text}")

    def say(self, text: str) -> None:
        """Write one line."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)
            log.info(text)
