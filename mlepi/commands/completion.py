"""Tab completion: names of commands here, keys and values as Hydra gives them to one command.

``eval "$(mlepi -sc install=bash)"``; for fish, ``mlepi -sc install=fish | source``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mlepi.commands.table import COMMANDS

LINE = "COMP_LINE"
"""Variable in which a shell tells what was typed so far."""


def complete(arguments: Sequence[str]) -> int:
    """Install completion, or answer a shell that asks what comes next.

    Args:
        arguments: ``-sc install=SHELL``, ``-sc uninstall=SHELL``, or ``-sc query=SHELL`` with the
            line in the environment.

    Returns:
        The exit status.
    """
    if not any(argument.startswith("query=") for argument in arguments):
        return COMMANDS["infer"].load()(arguments)
    typed = re.match(r"\s*(\S+)(?:\s+(\S*)(?:(\s+.*))?)?$", os.environ.get(LINE, ""))
    program, word, rest = typed.groups() if typed else (None, None, None)
    if rest is None:
        print("\n".join(name for name in COMMANDS if name.startswith(word or "")))
        return 0
    if word not in COMMANDS or not COMMANDS[word].takes_keys:
        return 0
    os.environ[LINE] = f"{program}{rest}"
    return COMMANDS[word].load()(arguments)
