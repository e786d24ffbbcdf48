"""What is told of a design and of every structure in it, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mlepi.design.drawing import Drawn

FORMAT = 1
"""Of ``design.json``."""


@dataclass(frozen=True)
class Row:
    """One structure.

    Attributes:
        name: of the structure.
        kind: thermal, slide, spacing, strain or twist.
        formula: of the supercell.
        n_atoms: of the supercell.
        supercell: (3, 3) int, in primitive vectors; of the lower layer where it is twisted.
        cell: (3, 3), Å.
        temperature: K.
        shortest: distance of the two nearest atoms, Å.
        width: shortest lattice translation, vacuum apart, Å.
        narrow: an atom meets its image within the reach of the networks.
        rms_displacement: of an atom, Å.
        largest_displacement: of an atom, Å.
        tries: draws that it took.
        hours: CPU-hours that its label costs; None where that is not known.
        deformation: of the crystal, before the displacements.
    """

    name: str
    kind: str
    formula: str
    n_atoms: int
    supercell: list[list[int]]
    cell: list[list[float]]
    temperature: float
    shortest: float
    width: float
    narrow: bool
    rms_displacement: float
    largest_displacement: float
    tries: int
    hours: float | None = None
    deformation: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, drawn: Drawn, reach: float, hours: float | None) -> Row:
        """Tell of a structure.

        Args:
            drawn: the structure.
            reach: Å, receptive field of the networks.
            hours: CPU-hours of its label.
        """
        squares = np.sum(drawn.displacements**2, axis=1)
        return cls(
            name=drawn.name,
            kind=drawn.kind,
            formula=drawn.atoms.get_chemical_formula(),
            n_atoms=len(drawn.atoms),
            supercell=np.asarray(drawn.matrix).tolist(),
            cell=drawn.atoms.cell.tolist(),
            temperature=drawn.temperature,
            shortest=drawn.shortest,
            width=drawn.width,
            narrow=bool(drawn.width < reach),
            rms_displacement=float(np.sqrt(squares.mean())),
            largest_displacement=float(np.sqrt(squares.max())),
            tries=drawn.tries,
            hours=hours,
            deformation=dict(drawn.deformation),
        )


@dataclass(frozen=True)
class Design:
    """A whole design.

    Attributes:
        material: in words.
        reach: Å, receptive field of the networks.
        rows: of the structures, in the order in which they were selected.
        n_drawn: structures that they were selected from.
        n_known: labelled structures that they were to differ from.
        absent: kinds that were asked for, and that this material does not have.
        twist_angles: °, of the commensurate twists.
        n_shapes: different supercells.
        imaginary: modes of the supercells without a positive frequency.
        softest: THz, of all modes of the supercells, imaginary shown negative.
        floor: THz, frequency that softer modes were given.
        cost: of a label, in words; empty where it is not known.
        temperatures: K.
        expected: RMS displacement of an atom at each of them in theory, Å.
        map_drawn: (n_drawn, 2), principal components of all descriptors.
        map_chosen: (n_structures, 2), the same of the selected ones.
    """

    material: str
    reach: float
    rows: Sequence[Row]
    n_drawn: int
    n_known: int
    absent: tuple[str, ...]
    twist_angles: tuple[float, ...]
    n_shapes: int
    imaginary: int
    softest: float
    floor: float
    cost: str
    temperatures: Sequence[float]
    expected: Sequence[float]
    map_drawn: Sequence[Sequence[float]]
    map_chosen: Sequence[Sequence[float]]

    @property
    def n_narrow(self) -> int:
        """Supercells in which an atom meets its image within the reach of the networks."""
        return sum(row.narrow for row in self.rows)

    @property
    def hours(self) -> float | None:
        """CPU-hours of all labels; None where that is not known."""
        known = [row.hours for row in self.rows if row.hours is not None]
        return sum(known) if known else None

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Design:
        """Return what ``to_plain`` has written."""
        names = cls.__dataclass_fields__
        given = {key: value for key, value in content.items() if key in names}
        given["rows"] = [Row(**row) for row in content["rows"]]
        for name in ("absent", "twist_angles"):
            given[name] = tuple(given[name])
        return cls(**given)
