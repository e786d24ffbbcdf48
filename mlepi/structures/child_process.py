"""Another program, started with a time limit, whose failure becomes one message.

A program of ours says what it refuses in its last line, ``REFUSED found|expected|remedy``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlepi.errors import DataError, message

REFUSED = "REFUSED "


def run_program(
    where: str, command: Sequence[str | Path], fix: str, seconds: float = 3600.0
) -> None:
    """Run a program to its end.

    Args:
        where: what it works on, for messages.
        command: program and arguments; no shell reads it.
        fix: remedy of a failure that the program does not explain itself.
        seconds: after which it is ended.

    Raises:
        DataError: it cannot be started, takes too long, or fails.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    try:
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        got = f"no program {words[0]!r} ({error.strerror})"
        raise DataError(message(where, got, "one that can be started", fix)) from error
    except subprocess.TimeoutExpired as error:
        got = f"{name} still running after {seconds:g} s"
        raise DataError(message(where, got, "its end", fix)) from error
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    if lines[-1].startswith(REFUSED):
        found, expected, remedy = lines[-1].removeprefix(REFUSED).split("|")
        raise DataError(message(where, found, expected, remedy))
    how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
    got = f"{name} that ended with {how}: {lines[-1][:300]}"
    raise DataError(message(where, got, "status 0", fix))
