"""Which values the keys at the top of ``conf/infer.yaml`` may have."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlepi.errors import MlepiError, message
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.pipeline.settings import REUSES
from mlepi.pipeline.sources import DRIVES
from mlepi.project_files import PROJECT_FOLDER, locate_file
from mlepi.results.store import FILE_NAME
from mlepi.setting_types import is_empty_text


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
    """Return the files or the folder of the key ``overlap`` as a list."""
    return [] if value is None or isinstance(value, dict) else list(_as_list(value))


def overlap_program(value: Any) -> tuple[str, ...]:
    """Return program and arguments of the key ``overlap``; nothing where it names files."""
    given = value.get("program", ()) if isinstance(value, dict) else ()
    words = given.split() if isinstance(given, str) else given
    return tuple(str(locate_file(word) or word) for word in words)


def locate_overlap(path: str) -> Path | None:
    """Find a file, or a folder relative to the working folder or the project; None without."""
    folders = (Path.cwd() / path, PROJECT_FOLDER / path)
    return locate_file(path) or next((folder for folder in folders if folder.is_dir()), None)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _are_overlaps(value: Any) -> bool:
    """Tell whether a value is nothing, files that exist, one folder, or a program."""
    if isinstance(value, dict):
        words = _as_list(value.get("program"))
        strings = all(isinstance(word, str) and word.strip() for word in words)
        if set(value) != {"program"} or not words or not strings:
            return False
        first = overlap_program(value)[0]
        return shutil.which(first) is not None
    files = overlap_files(value)
    found = [isinstance(file, str) and locate_overlap(file) for file in files]
    return all(found) and (len(found) < 2 or all(path.is_file() for path in found if path))


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


def _is_error(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (number and 0.0 < value < math.inf)


_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_SOURCE = (is_source, "a path or {_target_: …}")
_MODEL = (are_sources, "a path, toy, or {_target_: …}, or a list of different ones")
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_are_temperatures, "a number of kelvin ≥ 0, or a list of different ones"),
    "n_samples": (lambda value: is_integer(value, 1), "a positive integer"),
    "relative_error": (_is_error, "null or a positive number, in parts of the target"),
    "target_error": (_is_error, "null or a positive number, in the unit of the target"),
    "seed": (lambda value: is_integer(value, 0), "an integer ≥ 0"),
    "supercell": (_is_supercell, "three positive integers such as [6,6,1]"),
    "structure": _SOURCE,
    "phonon": _MODEL,
    "electron": _MODEL,
    "committee": (lambda value: value in DRIVES, f"one of {list(DRIVES)}"),
    "overlap": (
        _are_overlaps,
        "null, an existing table, existing .pao or .ion.xml files, a folder with S of every "
        "structure, or {program: COMMAND}",
    ),
    "dtype": (lambda value: value in ("float32", "float64"), "float32 or float64"),
    "valence_electrons": (_are_electrons, "a number > 0 per element, such as {Mo: 14, S: 6}"),
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
    "radial_tables": _SWITCH,
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
    if is_empty_text(plain.get("folder")):
        fix = "Leave it out for a folder that is named by the settings."
        problems.append(message("folder", repr(plain["folder"]), "the name of a folder", fix))
    trainer = plain.get("trainer", {})
    return problems + [
        message(f"trainer.{key}", repr(value), "a positive integer", "Give 1 or more.")
        for key, value in trainer.items()
        if key in ("devices", "num_nodes") and not is_integer(value, 1)
    ]
