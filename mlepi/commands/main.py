"""``mlepi COMMAND …``: find the command, hand it its arguments, turn errors into one text.

Nothing heavy is imported before a command asks for it, so that ``mlepi --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlepi.commands.table import COMMANDS, GROUPS
from mlepi.errors import ConfigError, MlepiError, message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: those of the process by default.

    Returns:
        The exit status.
    """
    first, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if first in ("-h", "--help", "help"):
            print(build_help())
            return 0
        if first in ("-V", "--version"):
            from mlepi.commands.environment import describe_environment

            print(describe_environment())
            return 0
        if first in ("-sc", "--shell-completion"):
            from mlepi.commands.completion import complete

            return complete([first, *rest])
        if first not in COMMANDS:
            raise _unknown_command(first)
        return COMMANDS[first].load()(rest)
    except MlepiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build_help() -> str:
    """Return the text of ``mlepi --help``."""
    lines = [
        "mlepi: electron-phonon interactions from finite displacements with equivariant networks",
        "",
        "usage: mlepi COMMAND …",
    ]
    for group, heading in GROUPS.items():
        lines += ["", heading]
        lines += [
            f"  {command.name:<12} {command.summary}"
            for command in COMMANDS.values()
            if command.group == group
        ]
    return "\n".join(
        [
            *lines,
            "",
            "mlepi COMMAND --help says more; for train and infer it lists all settings.",
            "  mlepi infer n_samples=50 temperature=[0,300]     settings",
            "  mlepi train -m model=mace,hedgenet_phonon        a sweep: one run each",
            "  mlepi train --config-dir FOLDER model=mine       your own FOLDER/model/mine.yaml",
            '  eval "$(mlepi -sc install=bash)"                 tab completion',
            "mlepi --version describes the installation, for a report of a bug.",
        ]
    )


def _unknown_command(word: str) -> ConfigError:
    from mlepi.config_check import suggest

    return ConfigError(message("mlepi", repr(word), "a command", suggest(word, COMMANDS)))
