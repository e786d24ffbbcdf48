"""Which values the keys at the top of ``conf/infer.yaml`` may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlepi.errors import MlepiError, message
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.pipeline.settings import REUSES
from mlepi.pipeline.sources import DRIVES
from mlepi.project_files import locate_file
from mlepi.results.store import FILE_NAME


def list_absent_keys(where: str, node: Mapping[str, Any], needed: Iterable[str]) -> list[str]:
    """Return one text per key that must be there and is not."""
    return [
        message(where + key, "no such key", "a value", "Take it over from conf/infer.yaml.")
        for key in needed
        if key not in node
    ]


def is_integer(value: Any, smallest: int) -> bool:
    """Tell whether a value is an integer that is not too small."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _is_temperature(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _are_temperatures(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return (
        bool(values)
        and all(_is_temperature(t) for t in values)
        and len({float(t) for t in values}) == len(values)
    )


def _is_supercell(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_integer(n, 1) for n in value)


def is_source(value: Any) -> bool:
    """Tell whether a value is nothing, a path, or a node that names a class or function."""
    return (
        value is None
        or (isinstance(value, str) and bool(value))
        or (isinstance(value, dict) and "_target_" in value)
    )


def are_sources(value: Any) -> bool:
    """Tell whether a value is a source, or a list of different ones that are not nothing."""
    if not isinstance(value, list):
        return is_source(value)
    given = all(is_source(item) and item is not None for item in value)
    return given and bool(value) and all(value.count(item) == 1 for item in value)


def _are_electrons(value: Any) -> bool:
    numbers = value.items() if isinstance(value, dict) else [(None, None)]
    return all(
        is_integer(z, 1) and isinstance(n, (int, float)) and not isinstance(n, bool) and n > 0
        for z, n in numbers
    )


def overlap_files(value: Any) -> list[Any]:
    """Return the files of the key ``overlap`` as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _are_files(value: Any) -> bool:
    return all(
        isinstance(file, str) and locate_file(file) is not None for file in overlap_files(value)
    )


def read_level_shift(value: Any) -> LevelShift | Literal["auto", "off"]:
    """Read the key ``level_shift``; YAML takes the word off for false.

    Raises:
        PhysicsError: parameters without meaning.
    """
    if isinstance(value, dict):
        return LevelShift.from_dict(value)
    return "auto" if value == "auto" else "off"


def _is_level_shift(value: Any) -> bool:
    if not isinstance(value, dict):
        return value in ("auto", "off") or value is False
    try:
        LevelShift.from_dict(value)
    except (MlepiError, TypeError, ValueError):
        return False
    return True


def _is_series(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and locate_file(str(Path(value) / FILE_NAME)) is not None
    )


_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_SOURCE = (is_source, "a path or {_target_: …}")
_MODEL = (are_sources, "a path, toy, or {_target_: …}, or a list of different ones")
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_are_temperatures, "a number of kelvin ≥ 0, or a list of different ones"),
    "n_samples": (lambda value: is_integer(value, 1), "a positive integer"),
    "seed": (lambda value: is_integer(value, 0), "an integer ≥ 0"),
    "supercell": (_is_supercell, "three positive integers such as [6,6,1]"),
    "structure": _SOURCE,
    "phonon": _MODEL,
    "electron": _MODEL,
    "committee": (lambda value: value in DRIVES, f"one of {list(DRIVES)}"),
    "overlap": (_are_files, "null, an existing table, or existing .pao files"),
    "dtype": (lambda value: value in ("float32", "float64"), "float32 or float64"),
    "valence_electrons": (_are_electrons, "a number > 0 per atomic number, such as {6: 4}"),
    "cell_series": (_is_series, "null, or the folder of a finished series of cell sizes"),
    "report": _SWITCH,
    "batch_size": (
        lambda value: value is None or is_integer(value, 1),
        "null or a positive integer",
    ),
    "threads": (
        lambda value: value is None or is_integer(value, 1),
        "null or a positive integer",
    ),
    "prefetch": (lambda value: value is None or isinstance(value, bool), "null, true or false"),
    "compile": _SWITCH,
    "check_units": _SWITCH,
    "reuse": (lambda value: value in REUSES, f"one of {list(REUSES)}"),
    "tf32": _SWITCH,
    "level_shift": (
        _is_level_shift,
        "auto, off, or {threshold: 0.01, strength: 1.0} with 0 < threshold < 1 and strength > 0",
    ),
    "device": (
        lambda value: isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"),
        "cpu, cuda or cuda:N",
    ),
}
"""Key at the top of the config → whether a value is acceptable, and what is."""


def list_wrong_values(plain: Mapping[str, Any]) -> list[str]:
    """Return one text per key at the top whose value cannot be used."""
    problems = [
        message(key, repr(plain[key]), expected, f"Give {expected}.")
        for key, (check, expected) in CHECKS.items()
        if key in plain and plain[key] != "???" and not check(plain[key])
    ]
    trainer = plain.get("trainer", {})
    return problems + [
        message(f"trainer.{key}", repr(value), "a positive integer", "Give 1 or more.")
        for key, value in trainer.items()
        if key in ("devices", "num_nodes") and not is_integer(value, 1)
    ]
