"""H and S in the new layout of DeepH-pack 2 and DeepH-dock, beside files of the user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mlepi.errors import DataError, message
from mlepi.structures.deeph import EXTRA_KEY, write_deeph
from mlepi.structures.labelled_structure import LabelledStructure


def write_deeph_folder(
    folder: str | Path, labels: LabelledStructure, *, renew: bool = False
) -> None:
    """Write one structure in the DeepH layout; an existing folder loses no file of the user.

    Args:
        folder: new, or with ``renew`` one that this function has written.
        labels: with H and S.
        renew: replace the files of an earlier export, one by one; all others stay.

    Raises:
        DataError: the folder exists and is not to be renewed, or is not of this package.
    """
    path = Path(folder)
    if not (renew and path.exists()):
        write_deeph(path, labels)
        return
    if not _is_own(path):
        got, expected = "a path that mlepi has not written", "a new one, or an earlier export"
        fix = "Move it away; its files may be wanted."
        raise DataError(message(str(path), got, expected, fix))
    fresh = path.with_name(f".{path.name}.renewed")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        write_deeph(fresh, labels)
        # info.json last: until then the folder still names itself an earlier export
        for file in sorted(fresh.iterdir(), key=lambda file: file.name == "info.json"):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_own(path: Path) -> bool:
    """Tell whether a folder is empty or an export of this package."""
    if not path.is_dir():
        return False
    try:
        return EXTRA_KEY in json.loads((path / "info.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return not any(path.iterdir())
    except (OSError, ValueError):
        return False
