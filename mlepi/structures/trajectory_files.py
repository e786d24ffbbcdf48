"""Reader of trajectories: frames of a simulation at each temperature, in any format ASE knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlepi.errors import ConfigError, DataError, message


@dataclass(frozen=True)
class TrajectoryFiles:
    """Where the frames of a simulation are, and which of them count.

    Attributes:
        file: path with {temperature} or {temperature:g} in place of the temperature in K; a pattern
            with * names the files of the beads of a path integral.
        skip: frames at the beginning that are left out as equilibration.
        stride: of the frames after those, one in so many is kept.
        weights: key of the frames' weights, e.g. in an extxyz file; None: all weigh the same.
    """

    file: str
    skip: int = 0
    stride: int = 1
    weights: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.skip < 0 or self.stride < 1:
            raise ConfigError(
                message(
                    "sampler",
                    f"skip {self.skip}, stride {self.stride}",
                    "skip ≥ 0, stride ≥ 1",
                    "Use skip=0 and stride=1 to keep all frames.",
                )
            )

    def settings(self) -> dict[str, Any]:
        """Return what decides the frames beside the content of the files, as plain data."""
        return asdict(self)

    def paths(self, temperatures: Sequence[float]) -> tuple[Path, ...]:
        """Return the files of all temperatures.

        Raises:
            ConfigError: the path has other placeholders, or none for several temperatures.
            DataError: a temperature has no file.
        """
        if len(temperatures) > 1 and self._name(temperatures[0]) == self.file:
            raise ConfigError(
                message(
                    "sampler.file",
                    repr(self.file),
                    "{temperature:g} in the path of several temperatures",
                    "Add it.",
                )
            )
        return tuple(path for temperature in temperatures for path in self._find(temperature))

    def read(self, temperature: float) -> list[list[tuple[str, Atoms, float]]]:
        """Read the frames of one temperature.

        Args:
            temperature: K.

        Returns:
            For every bead its frames in the order of time, each with a name for messages, the
            structure (Å) and its weight.

        Raises:
            ConfigError: the path has other placeholders.
            DataError: a file is missing or damaged, has no frame, or a frame no weight.
        """
        return [self._read_bead(path) for path in self._find(temperature)]

    def _name(self, temperature: float) -> str:
        try:
            return self.file.format(temperature=temperature)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                message(
                    "sampler.file",
                    repr(self.file),
                    "{temperature:g} as the only placeholder",
                    "Write for example trajectory/T{temperature:g}.extxyz.",
                )
            ) from error

    def _find(self, temperature: float) -> list[Path]:
        pattern = Path(self._name(temperature))
        paths = sorted(
            pattern.parent.glob(pattern.name), key=lambda path: (len(path.name), path.name)
        )
        if not paths:
            raise DataError(
                message(
                    "sampler.file",
                    f"no file {str(pattern)!r}",
                    "a trajectory at every temperature",
                    "Give a path relative to the working folder that names one.",
                )
            )
        return paths

    def _read_bead(self, path: Path) -> list[tuple[str, Atoms, float]]:
        try:
            frames = ase.io.read(
                path, index=f"{self.skip}::{self.stride}", do_not_split_by_at_sign=True
            )
        except Exception as error:  # ASE's parsers raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                message(
                    str(path),
                    f"an unreadable file ({reason})",
                    "a trajectory in a format that ASE knows",
                    "Export it again, for example as extxyz.",
                )
            ) from error
        if not frames:
            raise DataError(
                message(
                    str(path),
                    f"no frames after the first {self.skip}",
                    "at least one",
                    "Lower sampler.skip.",
                )
            )
        return [
            (f"{path}, frame {self.skip + n * self.stride}", atoms, self._weight(path, atoms))
            for n, atoms in enumerate(frames)
        ]

    def _weight(self, path: Path, atoms: Atoms) -> float:
        if self.weights is None:
            return 1.0
        value = atoms.info.get(self.weights)
        if not isinstance(value, (int, float, np.number)) or not np.isfinite(value) or value < 0:
            raise DataError(
                message(
                    str(path),
                    f"{self.weights}={value!r} in a frame",
                    "a weight ≥ 0 in every frame",
                    "Let sampler.weights name the key of the weights, or set it to null.",
                )
            )
        return float(value)
