"""The networks that come along: ``mlepi checkpoints [list | card NAME | path NAME]``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mlepi.errors import CheckpointError, message
from mlepi.project_files import PROJECT_FOLDER

FOLDER = PROJECT_FOLDER / "data" / "checkpoints"


def main(arguments: Sequence[str]) -> int:
    """Print the list, a model card, or the path of a file for the use in scripts.

    Raises:
        CheckpointError: there is none of this name, or it has no card.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi checkpoints",
        description="The networks that come along. From any folder, "
        "phonon=data/checkpoints/NAME.ckpt and electron=data/checkpoints/NAME.ckpt mean them.",
    )
    actions = parser.add_subparsers(dest="action", metavar="list | card | path")
    actions.add_parser("list", help="name, size and what is predicted (the default)")
    for action, text in (("card", "how it was trained, tested, and where it holds"), ("path", "")):
        actions.add_parser(action, help=text or "where the file lies").add_argument("name")
    given = parser.parse_args(arguments)
    if given.action == "card":
        print(_read_card(find_checkpoint(given.name)))
    elif given.action == "path":
        print(find_checkpoint(given.name))
    else:
        print("\n".join(_describe(file) for file in list_checkpoints()))
    return 0


def list_checkpoints() -> list[Path]:
    """Return the files, by name."""
    return sorted(FOLDER.glob("*.ckpt"))


def find_checkpoint(name: str) -> Path:
    """Return the file of a name, which may end in .ckpt.

    Raises:
        CheckpointError: there is none.
    """
    files = {file.stem: file for file in list_checkpoints()}
    if (stem := name.removesuffix(".ckpt")) not in files:
        from mlepi.config_check import suggest

        text = message("mlepi checkpoints", repr(name), "a shipped network", suggest(stem, files))
        raise CheckpointError(text)
    return files[stem]


def _find_card(file: Path) -> Path:
    """Return the card of a network; members of a committee share that of the first."""
    own = file.with_suffix(".md")
    return own if own.is_file() else file.with_name(re.sub(r"_\d+$", "", file.stem) + ".md")


def _describe(file: Path) -> str:
    """Return one line: name, size, and the first sentence of the card after its heading."""
    card = _find_card(file)
    paragraphs = card.read_text(encoding="utf-8").split("\n\n") if card.is_file() else []
    summary = paragraphs[1].split(". ")[0].rstrip(".") if len(paragraphs) > 1 else "no card"
    return f"{file.stem:<20} {file.stat().st_size / 1e6:5.1f} MB  {summary}"


def _read_card(file: Path) -> str:
    card = _find_card(file)
    if not card.is_file():
        fix = "Ask mlepi.load_model(…).metadata."
        raise CheckpointError(message(str(card), "no such file", "a model card", fix))
    return card.read_text(encoding="utf-8")
