"""Commands from Python, as notebooks give them: one line, in this process."""

from __future__ import annotations

import contextlib
import io
import shlex

from mlepi.commands.main import main
from mlepi.errors import MlepiError, message


def run_line(line: str) -> str:
    """Do what ``mlepi LINE`` does in a shell.

    Args:
        line: a command with its arguments, quoted as a shell wants them.

    Returns:
        What it writes on the screen.

    Raises:
        MlepiError: it fails; the message holds the end of what it says.
    """
    said = io.StringIO()
    status: int | str
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(shlex.split(line))
        except SystemExit as end:
            status = 0 if end.code is None else end.code
    if status:
        last = " ".join(said.getvalue().splitlines()[-3:])
        got = f"exit status {status}: {last}"
        raise MlepiError(message(f"mlepi {shlex.split(line)[0]}", got, "0", "See above."))
    return said.getvalue()
