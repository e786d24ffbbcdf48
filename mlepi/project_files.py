"""Files named in a configuration: in the working folder, then in the project folder."""

from __future__ import annotations

from pathlib import Path

from mlepi.errors import DataError, message

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
"""Folder that holds ``conf`` and ``data``."""


def locate_file(path: str | Path) -> Path | None:
    """Find a file relative to the working folder or the project folder; None without one."""
    candidates = [Path.cwd() / path, PROJECT_FOLDER / path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def find_file(where: str, path: str) -> Path:
    """Return a file as ``locate_file`` does.

    Args:
        where: config key, for the message.
        path: file.

    Raises:
        DataError: it is in neither folder.
    """
    found = locate_file(path)
    if found is None:
        fix = f"Looked in {(Path.cwd() / path).parent} too; correct the path."
        raise DataError(message(where, f"{path!r}, which does not exist", "a file", fix))
    return found
