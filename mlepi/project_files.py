"""Where files named in a configuration are looked for, and which commit the project's files are of.

Files are looked for in the working folder, then in the project folder: the clone, or what the wheel
has put into the package.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message

PACKAGE_FOLDER = Path(__file__).resolve().parent
SHIPPED = "shipped"
"""Folder of the package that a wheel fills with ``conf`` and ``data``."""
COMMIT_FILE = "commit.txt"
"""File beside them that says which commit the wheel was built from."""
TRACEBACK_FILE = "traceback.txt"
"""File of a run folder that tells how the run failed."""


def find_project_folder(package: Path) -> Path:
    """Return the folder that holds ``conf`` and ``data``.

    Args:
        package: folder of the package, in a clone or where a wheel was installed.
    """
    shipped = package / SHIPPED
    return shipped if shipped.is_dir() else package.parent


PROJECT_FOLDER = find_project_folder(PACKAGE_FOLDER)
"""Folder that holds ``conf`` and ``data``."""
CONFIG_FOLDER = PROJECT_FOLDER / "conf"


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


def write_whole(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def find_commit(folder: Path) -> str:
    """Return the git commit of a source folder.

    An installed package says what it was built from; a repository around it is the user's own.

    Args:
        folder: only files in it and below count as changed.

    Returns:
        The commit, with "+changes" if files were edited since, or "no repository".
    """
    noted = PACKAGE_FOLDER / SHIPPED / COMMIT_FILE
    if noted.is_file() and folder.resolve().is_relative_to(PACKAGE_FOLDER):
        return noted.read_text(encoding="utf-8").strip()
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return "no repository"
    return commit + (
        "+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else ""
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
