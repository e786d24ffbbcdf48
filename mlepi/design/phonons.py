"""Force constants from which structures are drawn: of springs, or of any calculator, kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlepi.errors import DataError, message
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.pipeline.sources import Source, load_calculator
from mlepi.reference_systems.born_springs import build_born_constants
from mlepi.results import hash_data
from mlepi.untrusted import reading

SPRINGS = "springs"
"""Value of ``phonon`` that stands for springs between the atoms of the structure as it is."""
FILE = "phonons.npz"


@dataclass(frozen=True)
class PhononSource:
    """Where force constants come from.

    Attributes:
        value: "springs", or what ``mlepi.pipeline.sources.Source`` takes: a checkpoint, a list of
            them, "toy", or ``{_target_: …}`` of any ASE calculator.
    """

    value: Any

    @property
    def source(self) -> Source | None:
        """The source of a calculator; None for springs."""
        return None if self.value == SPRINGS else Source("phonon", self.value)

    def fingerprint(self) -> str:
        """Digest the content of files, or the name and the arguments of a target."""
        return SPRINGS if self.source is None else self.source.fingerprint()

    def describe(self) -> str:
        """Name it on a card."""
        if self.source is None:
            return "springs between the atoms as they stand"
        return self.source.describe()

    def load(self) -> Calculator | None:
        """Return the calculator; None for springs.

        Raises:
            MlepiError: it cannot be built.
        """
        return None if self.source is None else load_calculator(self.source, "cpu")


def choose_supercell(
    atoms: Atoms, axes: Sequence[int], given: Sequence[int] | None, width: float
) -> tuple[int, int, int]:
    """Return how often a cell is repeated for its force constants.

    Args:
        atoms: primitive cell, Å.
        axes: along which it is periodic.
        given: numbers of cells; None takes as many as make the cell wide enough.
        width: Å, between opposite faces.
    """
    if given is not None:
        return int(given[0]), int(given[1]), int(given[2])
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    counts = [max(1, int(np.ceil(width / heights[k] - 1e-6))) if k in axes else 1 for k in range(3)]
    return counts[0], counts[1], counts[2]


def find_force_constants(
    folder: Path,
    atoms: Atoms,
    source: PhononSource,
    supercell: tuple[int, int, int],
    watch: Callable[[int, int], object] | None = None,
) -> ForceConstants:
    """Compute force constants, or take those that an earlier run has kept.

    Args:
        folder: where they are kept, in ``phonons.npz``.
        atoms: primitive cell, Å.
        source: of them.
        supercell: numbers of cells.
        watch: called with the number of displacements that are done, and of all.

    Raises:
        MlepiError: the calculator cannot be built, or gives no forces for this structure.
    """
    geometry = [atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.tolist()]
    digest = hash_data([geometry, source.fingerprint(), list(supercell)])
    kept = _read(folder / FILE, digest)
    if kept is not None:
        return ForceConstants(atoms.copy(), supercell, kept)
    calculator = source.load()
    if calculator is None:
        found = build_born_constants(atoms, supercell)
    else:
        found = compute_force_constants(atoms, calculator, supercell, watch=watch)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{FILE}.{os.getpid()}.unfinished"
    with unfinished.open("wb") as stream:
        np.savez(stream, digest=np.array(digest), values=found.values)
    unfinished.replace(folder / FILE)
    return found


def _read(path: Path, digest: str) -> Any:
    """Return the values of a file, or None where it is of other settings or not there."""
    if not path.is_file():
        return None
    with reading(str(path), "force constants"), np.load(path) as content:
        if {"digest", "values"} - set(content.files):
            fix = "Remove it: the phonons are then computed anew."
            raise DataError(message(str(path), "a damaged file", "force constants", fix))
        return content["values"] if str(content["digest"]) == digest else None
