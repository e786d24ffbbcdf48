"""Build of the wheel: the package with ``conf`` and ``data`` inside it, in ``mlepi/shipped``.

Everything else stands in pyproject.toml. An editable installation copies nothing and goes on
reading the folders of the clone; which of the two holds, ``mlepi.project_files`` finds out.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from mlepi.project_files import COMMIT_FILE, SHIPPED, find_commit  # noqa: E402

FOLDERS = ("conf", "data")
SCRIPTS = {".py", ".pyc"}
"""Endings of what stays in the clone: scripts that make data and checkpoints."""


def list_shipped() -> Iterator[Path]:
    """Yield the files that a wheel takes along, relative to the clone: all but scripts."""
    for folder in FOLDERS:
        files = sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
        if not files:
            raise FileNotFoundError(f"{ROOT / folder}: a wheel without it would not run")
        for path in files:
            if path.suffix not in SCRIPTS and not path.name.startswith("."):
                yield path.relative_to(ROOT)


class BuildWithProjectFiles(build_py):
    """Copy configs, data and checkpoints into the package, and note the commit."""

    def run(self) -> None:
        """Build; what an earlier build left behind is removed first."""
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib) / "mlepi"
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        for name in list_shipped():
            target = package / SHIPPED / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        (package / SHIPPED / COMMIT_FILE).write_text(find_commit(ROOT), encoding="utf-8")

    def get_source_files(self) -> list[str]:
        """List what a source distribution needs, from which a wheel can be built again."""
        return [*super().get_source_files(), *map(str, list_shipped())]


setup(cmdclass={"build_py": BuildWithProjectFiles})
