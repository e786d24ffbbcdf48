"""Files of frequencies that are known from elsewhere: of DFT, another network or an experiment.

Frequencies at wave vectors, JSON::

    {"level": "PBE, 3×3", "unit": "cm⁻¹",
     "qpoints": [{"name": "K", "q": ["1/3", "2/3", 0], "frequencies": [533.0, …]}]}

``level`` or ``source`` says where they come from. ``unit`` is cm⁻¹, THz or meV; what follows a
semicolon is a note. ``q`` is fractional, of the reciprocal vectors of the run's own cell; fractions
are texts. ``frequencies`` ascend, imaginary ones are negative; ``null`` stands for a branch that is
not known, and so do the ``lowest_left_out`` branches below the first number. ``group`` names the
q-points whose errors are also told together.

Rigid layers, JSON::

    {"unit": "cm⁻¹", "modes": {"shear": {"PBE": [32.9, 35.1]}, "breathing": {"PBE": [63.3, 70]}}}

with lowest and highest frequency by level of calculation, the best level last. Other keys are
notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.units import PLANCK, THZ_TO_INVERSE_CM
from mlepi.untrusted import read_json

PER_THZ = {
    "THz": 1.0,
    **dict.fromkeys(("cm⁻¹", "cm-1", "1/cm"), THZ_TO_INVERSE_CM),
    "meV": 1e3 * PLANCK,
}
"""Unit → how many of it are one THz."""

RIGID_MODES = ("shear", "breathing")


@dataclass(frozen=True)
class ReferenceFrequencies:
    """Frequencies at wave vectors.

    Attributes:
        source: where they come from, in the words of the file.
        names: (n_qpoints,), of the wave vectors.
        groups: (n_qpoints,), whose errors belong together; the name where the file has none.
        qpoints: (n_qpoints, 3), fractional.
        frequencies: per wave vector, THz, ascending; NaN where a branch is not known.
    """

    source: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    qpoints: NDArray[np.float64]
    frequencies: tuple[NDArray[np.float64], ...]


def read_reference(path: Path) -> ReferenceFrequencies:
    """Read frequencies at wave vectors.

    Raises:
        DataError: the file is not of the form above, with the entry that is wrong.
    """
    content = read_json(path)
    scale = _read_unit(path, content)
    points = content.get("qpoints")
    if not isinstance(points, list) or not points:
        raise _refuse(path, "no list qpoints", '{"unit": …, "qpoints": [{"q": …}, …]}')
    parts = [_read_point(path, number, point) for number, point in enumerate(points)]
    return ReferenceFrequencies(
        source=str(content.get("level") or content.get("source") or path.name),
        names=tuple(part[0] for part in parts),
        groups=tuple(part[1] for part in parts),
        qpoints=np.array([part[2] for part in parts]),
        frequencies=tuple(part[3] / scale for part in parts),
    )


def read_rigid_layers(path: Path) -> dict[str, tuple[float, float]]:
    """Read frequencies of rigid layers.

    Returns:
        "shear", "breathing" or both → lowest and highest, THz, of the last level.

    Raises:
        DataError: the file is not of the form above.
    """
    content = read_json(path)
    scale = _read_unit(path, content)
    modes = content.get("modes")
    known = isinstance(modes, Mapping) and modes and set(modes) <= set(RIGID_MODES)
    if not known or not all(isinstance(levels, Mapping) and levels for levels in modes.values()):
        raise _refuse(path, repr(modes)[:60], f'"modes" with {" and ".join(RIGID_MODES)} by level')
    found = {}
    for mode, levels in modes.items():
        values = _read_numbers(path, f"modes.{mode}", list(levels.values())[-1])
        if len(values) != 2 or not values[0] <= values[1]:
            raise _refuse(path, f"modes.{mode}: {values.tolist()}", "lowest and highest frequency")
        found[mode] = (float(values[0] / scale), float(values[1] / scale))
    return found


def _refuse(path: Path, got: str, expected: str) -> DataError:
    fix = "See docs/howto/compare_with_dft.md for the form of the file."
    return DataError(message(str(path), got, expected, fix))


def _read_unit(path: Path, content: Any) -> float:
    """Return how many of the unit of a file are one THz."""
    given = content.get("unit") if isinstance(content, Mapping) else None
    name = str(given).partition(";")[0].strip()
    if name not in PER_THZ:
        raise _refuse(path, f"unit {given!r}", f"one of {', '.join(PER_THZ)}")
    return PER_THZ[name]


def _read_point(
    path: Path, number: int, point: Any
) -> tuple[str, str, list[float], NDArray[np.float64]]:
    """Return name, group, q (fractional) and frequencies in the unit of the file."""
    where = f"qpoints[{number}]"
    if not isinstance(point, Mapping) or not {"q", "frequencies"} <= set(point):
        raise _refuse(path, f"{where}: {repr(point)[:60]}", '{"q": …, "frequencies": …}')
    try:
        q = [float(Fraction(value)) for value in point["q"]]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        q = []
    if len(q) != 3:
        raise _refuse(path, f"{where}.q: {point['q']!r}", "three fractional coordinates")
    left_out = point.get("lowest_left_out", 0)
    if not isinstance(left_out, int) or isinstance(left_out, bool) or left_out < 0:
        raise _refuse(path, f"{where}.lowest_left_out: {left_out!r}", "a number of branches")
    values = _read_numbers(path, f"{where}.frequencies", point["frequencies"])
    known = values[np.isfinite(values)]
    if not len(known) or (np.diff(known) < 0).any():
        raise _refuse(path, f"{where}.frequencies: {values.tolist()}", "ascending frequencies")
    name = str(point.get("name") or f"({', '.join(str(value) for value in point['q'])})")
    frequencies = np.concatenate([np.full(left_out, np.nan), values])
    return name, str(point.get("group") or name), q, frequencies


def _read_numbers(path: Path, where: str, given: Any) -> NDArray[np.float64]:
    """Return a list of numbers, NaN for null."""
    good = isinstance(given, list) and all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        for value in given
    )
    if not good:
        raise _refuse(path, f"{where}: {repr(given)[:60]}", "a list of numbers, null for unknown")
    return np.array([np.nan if value is None else float(value) for value in given])
