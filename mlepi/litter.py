"""Files that killed processes have left half-written, removed when the next run takes the folder.

Everything that this package writes appears under its name complete, by a rename; until then it has
a hidden name with the number of the process.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

UNFINISHED = re.compile(
    r"\.(?:.+\.(?P<a>\d+)\.(?:unfinished|partial|export)|.+\.h5\.(?P<b>\d+))|last\.ckpt\.part"
)
"""Names of such files."""


def remove_litter(folder: Path, deep: bool = True) -> list[Path]:
    """Remove the half-written files of processes that are gone; to be called under the lock.

    Args:
        folder: of a run.
        deep: also in the folders in it; false where others may be at work in those.

    Returns:
        What was removed.
    """
    removed = []
    for place, _, names in os.walk(folder):
        for name in names:
            found = UNFINISHED.fullmatch(name)
            if found is None or _is_running(found["a"] or found["b"]):
                continue
            with contextlib.suppress(OSError):
                (Path(place) / name).unlink()
                removed.append(Path(place) / name)
        if not deep:
            break
    return removed


def _is_running(pid: str | None) -> bool:
    """Tell whether a process of this machine has the number; that of this one counts as old."""
    if pid is None or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
