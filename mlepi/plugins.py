"""What other installed packages add to mlepi, by entry points; nothing is loaded before it is used.

| group | an entry names |
|---|---|
| ``mlepi.configs`` | the package that holds folders of configs, as ``conf`` does |
| ``mlepi.backbones`` | a class that follows ``mlepi.models.Backbone``; checkpoints may name it |
| ``mlepi.readers`` | a function (path, name) → ``LabelledStructure`` with H and S |
| ``mlepi.observables`` | a package with one folder per stage, as ``mlepi.observables`` |

A sampler needs no group: its config names its class.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType


def find_plugins(kind: str) -> dict[str, EntryPoint]:
    """Find the entries of one group.

    Args:
        kind: of the group ``mlepi.KIND``.

    Returns:
        Name → entry, sorted by name.
    """
    found = {point.name: point for point in _find_entries(kind, tuple(sys.path))}
    return dict(sorted(found.items()))


@lru_cache
def _find_entries(kind: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Look through all installed packages on a module path, which takes a while."""
    return tuple(entry_points(group=f"mlepi.{kind}"))


def list_backbones() -> set[str]:
    """Return the dotted names of the backbones of other packages, as configs write them."""
    return {point.value.replace(":", ".") for point in find_plugins("backbones").values()}


def import_observables() -> list[ModuleType]:
    """Import the packages whose folders are stages."""
    return [import_module(point.value) for point in find_plugins("observables").values()]


def find_config_folders() -> dict[str, Path]:
    """Return the folders of configs: dotted name of their package → path."""
    names = [point.value for point in find_plugins("configs").values()]
    return {name: Path(str(files(name))) for name in names}
