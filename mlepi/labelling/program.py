"""A program that computes for minutes to hours: ended at its time limit, or when the run stops."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from mlepi.errors import ConfigError, DataError, message
from mlepi.labelling.code import Calculation, InterruptedCalculationError
from mlepi.threads import VARIABLES

LOOK = 0.1
"""s between two looks at a program."""
PATIENCE = 5.0
"""s that a program is given to end itself before it is killed."""
RANKS = ("PMI_", "PMIX_", "OMPI_")
"""Beginnings of variables by which a launcher of this process would number a program of MPI."""


def run_to_end(
    calculation: Calculation,
    command: Sequence[str],
    *,
    hours: float,
    printed: str,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program in the folder of a calculation until it ends, whatever its exit status.

    It is the leader of a group of processes of its own, all of which end with it.

    Args:
        calculation: whose folder, threads and stop sign are meant.
        command: program and arguments; no shell reads it.
        hours: after which it is ended.
        printed: file for what it prints.
        environment: further variables.

    Raises:
        ConfigError: it cannot be started.
        DataError: it takes too long.
        InterruptedCalculationError: the run stops.
    """
    threads = dict.fromkeys(VARIABLES, str(calculation.threads))
    own = {name: value for name, value in os.environ.items() if not name.startswith(RANKS)}
    variables = {**own, **threads, **(environment or {})}
    end = time.monotonic() + 3600.0 * hours
    try:
        with (calculation.folder / printed).open("ab") as stream:
            process = subprocess.Popen(  # noqa: S603 - words of the config, no shell
                list(command),
                cwd=calculation.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise refuse_program(command, error) from error
    try:
        while process.poll() is None:
            if calculation.stop.wait(LOOK):
                raise InterruptedCalculationError(calculation.name)
            if time.monotonic() > end:
                got, fix = f"{command[0]} still running after {hours:g} h", "Raise dft.hours."
                raise DataError(message(calculation.name, got, "its end", fix))
    finally:
        _end(process)


def ask_program(command: Sequence[str], *arguments: str, seconds: float = 60.0) -> str:
    """Return what a program answers at once, such as its version.

    Args:
        command: program and arguments; no shell reads it.
        arguments: further ones.
        seconds: that it may take.

    Raises:
        ConfigError: it cannot be started, or does not answer.
    """
    try:
        done = subprocess.run(  # noqa: S603 - words of the config, no shell
            [*command, *arguments],
            capture_output=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise refuse_program(command, error) from error
    return done.stdout.decode(errors="replace")


def refuse_program(command: Sequence[str], error: Exception) -> ConfigError:
    """Return what to tell of a program that cannot be started."""
    reason = getattr(error, "strerror", None) or type(error).__name__
    got = f"{' '.join(command)!r}, which cannot be started ({reason})"
    fix = "Install it, or name it by dft.command=… (docs/label.md)."
    return ConfigError(message("dft.command", got, "a program", fix))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program, and what it has started, if it has not ended by itself."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
            return
