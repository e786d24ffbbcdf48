"""What a judgement depends on besides the network and its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.arithmetic import parse_dtype
from mlepi.errors import ConfigError, message
from mlepi.training.level_errors import WINDOWS, choose_kpoints

OWN_WINDOW = "window"
"""Name of a window that the user gives."""

MOST_KPOINTS = len(choose_kpoints(np.eye(3)))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is judged.

    Attributes:
        subsets: of the split; () for "test" and its named test subsets.
        kpoints: how many of ``choose_kpoints``, or fractional coordinates of every structure's own
            reciprocal cell; 0 for no levels.
        window: lowest and highest energy from the Fermi level, eV, of a window beside ``WINDOWS``;
            None for none.
        bin_width: of distances, Å.
        max_structures: per subset, evenly spread over it; None for all.
        device: where the network runs.
        dtype: precision of the network; None for that of its kind, float32 for Hamiltonians as they
            are trained, float64 for forces as finite differences need them.

    Raises:
        ConfigError: a value cannot be used.
    """

    subsets: tuple[str, ...] = ()
    kpoints: int | tuple[tuple[float, float, float], ...] = 3
    window: tuple[float, float] | None = None
    bin_width: float = 0.5
    max_structures: int | None = None
    device: str = "cpu"
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        n, window, most = self.kpoints, self.window, self.max_structures
        wrong = [
            (
                isinstance(n, int) and not 0 <= n <= MOST_KPOINTS,
                ("--kpoints", f"{n}", f"0 to {MOST_KPOINTS}, or points like 0.5,0,0"),
            ),
            (
                not isinstance(n, int) and not np.isfinite(np.array(n)).all(),
                ("--kpoints", f"{n}", "finite fractional coordinates"),
            ),
            (
                window is not None and not window[0] < window[1],
                ("--window", f"{window}", "a lower and a higher energy, eV"),
            ),
            (not self.bin_width > 0.0, ("--bin", f"{self.bin_width}", "a positive length, Å")),
            (most is not None and most < 1, ("--max-structures", f"{most}", "at least 1")),
        ]
        for bad, words in wrong:
            if bad:
                raise ConfigError(message(*words, "See mlepi eval --help."))
        if self.dtype is not None:
            parse_dtype(self.dtype)

    @property
    def windows(self) -> Mapping[str, tuple[float, float]]:
        """Name → lowest and highest energy from the Fermi level, eV."""
        return WINDOWS if self.window is None else {**WINDOWS, OWN_WINDOW: self.window}

    @property
    def with_levels(self) -> bool:
        """Whether levels are compared."""
        return self.kpoints != 0

    def points(self, cell: ArrayLike) -> NDArray[np.float64]:
        """Return the k-points of a structure, (n_k, 3) fractional.

        Args:
            cell: (3, 3) rows, Å.
        """
        if isinstance(self.kpoints, int):
            return choose_kpoints(cell, self.kpoints)
        return np.array(self.kpoints, dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain data, with units in the names."""
        given = self.kpoints
        points = given if isinstance(given, int) else [list(point) for point in given]
        return {
            "subsets": list(self.subsets),
            "kpoints": points,
            "windows_ev": {
                name: [end if np.isfinite(end) else None for end in ends]
                for name, ends in self.windows.items()
            },
            "bin_width_angstrom": self.bin_width,
            "max_structures": self.max_structures,
            "device": self.device,
            "dtype": self.dtype,
        }


def parse_kpoints(words: Sequence[str]) -> int | tuple[tuple[float, float, float], ...]:
    """Read k-points of a command line: one number, or points like ``0,0,0 0.5,0,0``.

    Raises:
        ConfigError: neither.
    """
    try:
        if len(words) == 1 and "," not in words[0]:
            return int(words[0])
        points = [tuple(float(part) for part in word.split(",")) for word in words]
        if all(len(point) == 3 for point in points):
            return tuple((point[0], point[1], point[2]) for point in points)
    except ValueError:
        pass
    expected = f"0 to {MOST_KPOINTS}, or points of three fractional coordinates"
    fix = "Give for example --kpoints 3, or --kpoints 0,0,0 0.5,0,0."
    raise ConfigError(message("--kpoints", " ".join(words), expected, fix))
