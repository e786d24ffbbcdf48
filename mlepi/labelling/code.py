"""What a program that labels structures must do, one structure at a time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.structures import LabelledStructure, OrbitalBasis

if TYPE_CHECKING:
    from mlepi.physics.overlaps import RadialOverlaps


class InterruptedCalculationError(Exception):
    """A calculation was ended because the run stops; it is no failure of the structure."""


@dataclass(frozen=True)
class Calculation:
    """One attempt at one structure.

    Attributes:
        name: of the structure.
        atoms: periodic, Å.
        folder: empty; whatever the program writes goes there.
        text: input, as ``Code.write_input`` has written it.
        attempt: 1, or 2 after a failure.
        threads: of the program.
        stop: set when the run stops; the program must be ended then.
    """

    name: str
    atoms: Atoms
    folder: Path
    text: str
    attempt: int
    threads: int
    stop: threading.Event


class Code(ABC):
    """A program, or a model, that computes H, S, energy and forces of a structure."""

    attempts: int = 2
    """At one structure; the later ones are safer, and lead to the same labels."""

    gives_matrices: bool = True
    """Whether labels have H and S, or energy and forces alone."""

    infers_radii: bool = False
    """Whether the radii of orbitals are those of the longest pairs of a structure: a set takes the
    largest."""

    @abstractmethod
    def find_version(self) -> str:
        """Return name and version of what computes.

        Raises:
            ConfigError: it cannot be started.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what all structures of a set have in common, word → plain data, for its card."""

    @abstractmethod
    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the text that decides the labels of a structure.

        Raises:
            MlepiError: the structure cannot be labelled, however often it is tried.
        """

    @abstractmethod
    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Label a structure.

        Raises:
            DataError: this attempt has failed.
            InterruptedCalculationError: the run stops.
        """

    def tabulate_overlaps(self, basis: OrbitalBasis) -> RadialOverlaps | None:
        """Return the radial functions that S follows from; None where none are known.

        Args:
            basis: of the labelled structures.
        """
        return None

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return a rigid shift, (3,) Å, that must not matter and does, by the grid; None without.

        Args:
            atoms: structure that will be labelled once more, shifted.
        """
        return None
