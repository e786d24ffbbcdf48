"""What a run says of itself while it goes.

On a terminal a bar per stage, with rate, memory and the time that is left; elsewhere, and in the
log of the run, one line per minute and one when the stage is done. What makes the numbers doubtful
is kept for the end, and then said once, from the worst.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from mlepi.doubts import Doubt, join_doubts, rank_doubts
from mlepi.memory import used_gpu_memory, used_memory

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds between two lines about a stage that is going."""
NAME_WIDTH = 16
"""Characters of the column of names."""
WIDTH = 100
"""Characters of a line at the end of a run, or fewer on a narrower terminal."""
BAR_WIDTH, BESIDE_BAR = 24, 72
"""Characters of a bar at most, and of what stands beside it."""


class StageLine:
    """The line of one stage.

    Args:
        bar: on a terminal.
        name: of the stage.
        say: writes one line at once; None says nothing.
        remind: writes the line that comes every minute; ``say`` without.

    Attributes:
        note: what the stage found, in a few words; shown when it is done.
    """

    def __init__(
        self,
        bar: Progress | None,
        name: str,
        say: Callable[[str], None] | None = None,
        remind: Callable[[str], None] | None = None,
    ) -> None:
        self.note = ""
        self._name, self._say, self._remind = name, say, remind or say
        self._lock = threading.Lock()
        self._bar = bar
        self._begin = self._counted = self._last = time.monotonic()
        self._due = self._begin + PAUSE
        self._total, self._before, self._done, self._remark = 0, 0, 0, ""
        self._task = bar.add_task(name, total=None, line=self) if bar else None

    def start(self, total: int, done: int = 0) -> None:
        """Tell how many samples there are, and how many were done earlier."""
        self._total, self._before, self._done = total, done, done
        self._counted = self._last = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total, completed=done)

    def advance(self, note: str = "") -> None:
        """Count one more sample.

        ``note`` is shown with the next line, for samples that take minutes.
        """
        self._done += 1
        self._last, self._remark = time.monotonic(), note
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        self.remind()

    def tell(self, text: str) -> None:
        """Write one line about work that cannot be counted."""
        if self._say is not None:
            self._due = time.monotonic() + PAUSE
            self._say(f"{self._name:<{NAME_WIDTH}} {text}")

    def remind(self) -> None:
        """Say how far the stage is, unless a line was written within the last minute."""
        with self._lock:
            if self._remind is None or self.seconds_to_line() > 0.0:
                return
            self._due = time.monotonic() + PAUSE
        self._remind(f"{self._name:<{NAME_WIDTH}} {self.describe()}")

    def seconds_to_line(self) -> float:
        """Return the seconds until the next line is due, at least 0."""
        return max(0.0, self._due - time.monotonic())

    def describe(self) -> str:
        """Say how far the stage is: samples, rate, memory and what is left."""
        so_far = f"{write_time(time.monotonic() - self._begin)} so far"
        left = self.time_left()
        parts = [
            self.count() or so_far,
            self.rate(),
            write_memory(),
            "" if left is None else f"about {write_time(left)} left",
            self._remark,
        ]
        return "  ".join(filter(None, parts))

    def count(self) -> str:
        """Say how many samples are done; empty for work that is not counted."""
        return f"{self._done}/{self._total}" if self._total else ""

    def rate(self) -> str:
        """Say how fast samples come; empty before the first."""
        each = self._each()
        if each is None:
            return ""
        return f"{1.0 / each:.2g}/s" if each < 1.0 else f"{write_time(each)} each"

    def time_left(self) -> float | None:
        """Return the seconds that the samples will still take; None before the first."""
        each = self._each()
        if each is None:
            return None
        return max(0.0, each * (self._total - self._done) - (time.monotonic() - self._last))

    def _each(self) -> float | None:
        n_samples = self._done - self._before
        return max(1e-9, self._last - self._counted) / n_samples if n_samples > 0 else None


def write_time(seconds: float) -> str:
    """Write a time with two digits or so, in seconds, minutes or hours."""
    if seconds < 90.0:
        return f"{seconds:.2g} s" if seconds < 10.0 else f"{seconds:.0f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"


def write_memory() -> str:
    """Write what this process holds, and what it keeps on its GPU."""
    held, on_gpu = used_memory() / 1e9, used_gpu_memory() / 1e9
    text = f"{held:.{2 if held < 10.0 else 0}f} GB"
    return f"{text} + {on_gpu:.1f} GB GPU" if on_gpu else text


class LineColumn(ProgressColumn):
    """A column of a bar that asks the line of its stage.

    Args:
        tell: what it shows.
    """

    max_refresh = 0.5

    def __init__(self, tell: Callable[[StageLine], str]) -> None:
        super().__init__()
        self._tell = tell

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(self._tell(task.fields["line"]))


def _left(line: StageLine) -> str:
    left = line.time_left()
    return "" if left is None else f"{write_time(left)} left"


def _build_bar(console: Console) -> Progress:
    return Progress(
        TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
        BarColumn(max(4, min(BAR_WIDTH, console.width - BESIDE_BAR))),
        LineColumn(StageLine.count),
        LineColumn(StageLine.rate),
        LineColumn(lambda line: write_memory()),
        TimeElapsedColumn(),
        LineColumn(_left),
        console=console,
        transient=True,
    )


def _say_above(bar: Progress, text: str) -> None:
    """Write one line above a bar, and into the log."""
    bar.console.print(text, markup=False)
    log.info(text)


@contextmanager
def _each_minute(line: StageLine) -> Iterator[None]:
    """Let a line speak every minute while something goes on, also where nothing is counted."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(max(0.01, line.seconds_to_line())):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                line.remind()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)


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
        self._doubts: list[tuple[str, Doubt]] = []

    def within(self, name: str, quiet: bool = False) -> ProgressReport:
        """Return a report, or a silent one, for the stages of a run that belongs to a stage."""
        inner = ProgressReport(self._quiet or quiet, self._stream, f"{self._prefix}{name}/")
        inner._doubts = self._doubts
        return inner

    @contextmanager
    def stage(self, name: str) -> Iterator[StageLine]:
        """Show one stage while it runs."""
        name = self._prefix + name
        start = time.monotonic()
        if self._quiet:
            yield StageLine(None, name)
            return
        if self._console.is_terminal:
            with _build_bar(self._console) as bar:
                line = StageLine(bar, name, partial(_say_above, bar), log.info)
                with _each_minute(line):
                    yield line
        else:
            line = StageLine(None, name, self.say)
            with _each_minute(line):
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

    def doubt(self, name: str, found: Iterable[str]) -> None:
        """Keep what makes numbers doubtful for the end.

        Args:
            name: of a stage, or what else it is about.
            found: one text each, a ``Doubt`` or a plain one.
        """
        if not self._quiet:
            about = (self._prefix + name).replace("_", " ")
            self._doubts += [(about, Doubt.of(text)) for text in found]

    def tell_doubts(self, further: Iterable[tuple[str, Doubt]] = ()) -> None:
        """Say all that was kept, every doubt once and from the worst; then it is kept no longer.

        Args:
            further: what it is about, and the doubt, such as those of all records of the run.
        """
        if self._quiet:
            return
        told = rank_doubts(join_doubts([*further, *self._doubts]))
        self._doubts.clear()
        width = min(WIDTH, self._console.width) if self._console.is_terminal else WIDTH
        for doubt in told:
            head = f"WARNING ({doubt.severity}): "
            text = textwrap.fill(
                f"{head}{doubt}", width, subsequent_indent="  ", break_on_hyphens=False
            )
            print(text, file=self._stream, flush=True)
            log.info("%s%s", head, doubt)
