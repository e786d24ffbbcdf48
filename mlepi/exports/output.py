"""Where exports are written: new files and folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlepi.errors import DataError, message


def require_new(path: str | Path) -> Path:
    """Return a path where nothing is yet.

    Raises:
        DataError: something is there.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        fix = "Remove it, or choose another --out."
        raise DataError(message(str(path), "an existing path", "a new file or folder", fix))
    return path


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give the name of an unfinished file with the same ending, which becomes ``path`` at the end.

    Args:
        path: file that must not exist; its folder is made.

    Raises:
        DataError: it exists.
    """
    path = require_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give an unfinished folder, which becomes ``path`` at the end.

    Args:
        path: folder that must not exist; those above it are made.

    Raises:
        DataError: it exists.
    """
    path = require_new(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
