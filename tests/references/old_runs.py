"""Runs that older versions have written, see ``old/README.md``."""

import tarfile
from pathlib import Path

FOLDER = Path(__file__).parent / "old"
NAMES = tuple(sorted(path.name.split(".")[0] for path in FOLDER.glob("*.tar.xz")))


def unpack_run(name: str, folder: Path) -> Path:
    """Unpack one of ``NAMES`` into a folder and return the run folder in it."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name
