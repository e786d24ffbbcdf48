"""Seeded damage to files, and what became of reading them."""

from __future__ import annotations

import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from small_files import LOST, Small, list_differences

from mlepi.errors import MlepiError, UnusualDataWarning

KINDS = ("flip", "zeros", "truncate", "swap")
SLOW = 2.0
"""Processor seconds from which reading counts as hanging."""
TINY = 1e-4
"""eV, Å, eV/Å: differences up to this are those of two codes."""
PATIENCE = 20.0
"""Seconds after which it is interrupted."""
LARGE = 200 * 2**10
"""kB of memory that reading may take."""


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file.

    Attributes:
        name: of the format.
        file: that was damaged.
        kind: of damage.
        result: refused, same, tiny (other digits), told (with a warning), less (labels missing),
            silent (other content), raw (a traceback), hang or large.
        detail: message.
        seconds: of this process.
    """

    name: str
    file: str
    kind: str
    result: str
    detail: str
    seconds: float


class _HangError(BaseException):
    """Reading took too long."""


def damage(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Damage the content of a file.

    Args:
        data: content.
        kind: one of ``KINDS``.
        rng: source of randomness.
    """
    place = int(rng.integers(len(data)))
    changed = bytearray(data)
    if kind == "flip":
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == "zeros":
        length = int(2 ** rng.uniform(0, 9))
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    elif kind == "truncate":
        del changed[place:]
    elif data.isascii():
        lines = data.splitlines(keepends=True)
        a, b = (int(k) for k in rng.integers(len(lines), size=2))
        lines[a], lines[b] = lines[b], lines[a]
        changed = bytearray(b"".join(lines))
    else:
        length = 8 * int(2 ** rng.uniform(0, 4))
        other = int(rng.integers(max(1, len(data) - length)))
        place = min(place, max(0, len(data) - length))
        one, two = changed[place : place + length], changed[other : other + length]
        changed[place : place + length], changed[other : other + length] = two, one
    return bytes(changed)


def attack(name: str, small: Small, rng: np.random.Generator, n: int) -> Iterator[Outcome]:
    """Damage the files of one format in turn, and read them.

    Args:
        name: of the format.
        small: its files and reader.
        rng: source of randomness.
        n: how often.

    Yields:
        What became of it; the files are whole again at the end.
    """
    whole, usual = read_once(small)
    for _ in range(n):
        file = small.files[int(rng.integers(len(small.files)))]
        kind = KINDS[int(rng.integers(len(KINDS)))]
        data = file.read_bytes()
        if not data:
            continue
        try:
            file.write_bytes(damage(data, kind, rng))
            result, detail, seconds = _try(small, whole, usual)
        finally:
            file.write_bytes(data)
        yield Outcome(name, file.name, kind, result, detail, seconds)


def measure(
    label: tuple[str, str, str],
    small: Small,
    doctor: Callable[[], object],
    known: tuple[Any, set[str]],
) -> Outcome:
    """Read what was doctored in another way.

    Args:
        label: name of the format, file that is doctored, and what is done to it.
        small: genuine files and their reader; whole again at the end.
        doctor: does it.
        known: what ``read_once`` gave of the genuine files.
    """
    kept = {path: path.read_bytes() for path in small.files}
    try:
        doctor()
        result, detail, seconds = _try(small, *known)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    return Outcome(*label, result, detail, seconds)


def read_once(small: Small) -> tuple[Any, set[str]]:
    """Read once; return the content and the remarks."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UnusualDataWarning)
        content = small.read()
    return content, {str(one.message) for one in told}


def _try(small: Small, whole: Any, usual: set[str]) -> tuple[str, str, float]:
    """Read once; say what came of it, with what message and time."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = _child_seconds()
    detail = ""
    try:
        content, told = read_once(small)
        found = list_differences(whole, content)
        result = _judge(found, bool(told - usual))
        detail = ", ".join(f"{name} {amount:.2g}" for name, amount in found.items())
    except MlepiError as error:
        result, detail = "refused", str(error)
    except _HangError:
        result = "hang"
    except Exception as error:
        result, detail = "raw", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    seconds = time.process_time() - start + _child_seconds() - children
    if seconds > SLOW:
        result = "hang"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory > LARGE:
        result = "large"
    return result, detail, seconds


def _judge(found: dict[str, float], told: bool) -> str:
    worst = max(found.values(), default=0.0)
    if worst <= TINY:
        return "tiny" if found else "same"
    if told:
        return "told"
    return "less" if all(name.endswith(LOST) for name in found) else "silent"


def _child_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
