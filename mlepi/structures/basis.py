"""The local-orbital basis: the shells of an element, and the owner of orbital orders.

Internally the orbitals of an atom are its shells in the order of the list, and inside a shell of
angular momentum l the real spherical harmonics of e3nn, m = −l…l, which is (y, z, x) for p. Foreign
codes order the functions of a shell differently; ``OrbitalBasis.permutation`` is the only
translation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, StructureError, message
from mlepi.untrusted import LARGEST_RADIUS, parse_shells

SHELL_LETTERS = "spdfg"

ORBITAL_ORDERS: dict[str, dict[int, tuple[int, ...]]] = {
    # position in the foreign shell of each internal function m = −l…l: foreign_values[order[l]] is
    # in internal order
    "e3nn": {},
    # OpenMX: p = x, y, z; d = 3z²−r², x²−y², xy, xz, yz; f = z³, xz², yz², z(x²−y²), xyz,
    # x(x²−3y²), y(3x²−y²)
    "openmx": {1: (1, 2, 0), 2: (2, 4, 0, 3, 1), 3: (6, 4, 2, 0, 1, 3, 5)},
    # SIESTA: m = −l…l, with signs
    "siesta": {1: (0, 1, 2), 2: (0, 1, 2, 3, 4), 3: (0, 1, 2, 3, 4, 5, 6)},
    # ABACUS: m = 0, 1, −1, 2, −2, …, with signs
    "abacus": {1: (2, 0, 1), 2: (4, 2, 0, 1, 3), 3: (6, 4, 2, 0, 1, 3, 5)},
    # PySCF: p = x, y, z; beyond, m = −l…l
    "pyscf": {1: (1, 2, 0), 2: (0, 1, 2, 3, 4), 3: (0, 1, 2, 3, 4, 5, 6)},
}
"""For each known order and l, the foreign position of every internal function (DeepH's "wiki" order
and CP2K's are "e3nn")."""

CONDON_SHORTLEY = ("siesta", "abacus")
"""Orders whose harmonics of odd m have the opposite sign."""


@dataclass(frozen=True)
class OrbitalBasis:
    """Shells and orbital radii of every element of a data set.

    Attributes:
        shells: atomic number → angular momenta of its shells, in the order of the data; C6.0-s2p2
            is {6: (0, 0, 1, 1)}.
        radii: atomic number → radius beyond which its orbitals vanish, Å; a pair overlaps up to the
            sum of two radii.
        names: atomic number → name in the code that made it, e.g. "C6.0-s2p2"; for provenance only.
        valence_electrons: atomic number → electrons of its pseudopotential; empty where they are
            not known. Bases that differ in this alone are equal.
    """

    shells: Mapping[int, tuple[int, ...]]
    radii: Mapping[int, float]
    names: Mapping[int, str]
    valence_electrons: Mapping[int, float] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Normalise the mappings and refuse an empty or inconsistent basis."""
        shells = {
            int(z): parse_shells("OrbitalBasis.shells", tuple(ls))
            for z, ls in sorted(self.shells.items())
        }
        object.__setattr__(self, "shells", shells)
        object.__setattr__(self, "radii", {int(z): float(r) for z, r in sorted(self.radii.items())})
        object.__setattr__(self, "names", {int(z): str(n) for z, n in sorted(self.names.items())})
        electrons = {int(z): float(n) for z, n in sorted(self.valence_electrons.items())}
        object.__setattr__(self, "valence_electrons", electrons)
        if not shells:
            raise DataError(
                message(
                    "OrbitalBasis.shells",
                    f"{shells}",
                    "at least one shell l ≥ 0 for every element",
                    "Check the data set.",
                )
            )
        if set(self.radii) != set(shells):
            raise DataError(
                message(
                    "OrbitalBasis.radii",
                    f"elements {sorted(self.radii)}",
                    f"{sorted(shells)}",
                    "Give one radius per element.",
                )
            )
        if not all(0.0 <= radius <= LARGEST_RADIUS for radius in self.radii.values()):
            got, expected = f"{dict(self.radii)} Å", f"0 to {LARGEST_RADIUS:g} Å"
            raise DataError(message("OrbitalBasis.radii", got, expected, "Check the data set."))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the basis, ascending."""
        return tuple(self.shells)

    @property
    def max_orbitals(self) -> int:
        """Largest number of orbitals of any element: the padded size of a block."""
        return max(self.n_orbitals(z) for z in self.shells)

    @property
    def max_radius(self) -> float:
        """Largest orbital radius, Å; no pair of atoms further apart than twice this has a block."""
        return max(self.radii.values())

    def n_orbitals(self, number: int) -> int:
        """Count the orbitals of one element."""
        return sum(2 * l + 1 for l in self._shells_of(number))

    def slices(self, number: int) -> list[slice]:
        """Return the orbital range of every shell of one element."""
        ends = np.cumsum([2 * l + 1 for l in self._shells_of(number)])
        return [
            slice(int(end) - (2 * l + 1), int(end))
            for l, end in zip(self.shells[number], ends, strict=True)
        ]

    def counts(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """Count the orbitals of every atom: (n_atoms,) int."""
        self.check_elements(numbers)
        return np.array([self.n_orbitals(int(z)) for z in numbers], dtype=np.int64)

    def offsets(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the first matrix row of every atom, and the size last: (n_atoms + 1,) int."""
        return np.concatenate([[0], np.cumsum(self.counts(numbers))]).astype(np.int64)

    def mask(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Mark the orbitals that exist in a padded array: (n_atoms, max_orbitals) bool."""
        return np.arange(self.max_orbitals)[None, :] < self.counts(numbers)[:, None]

    def mark_later(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Mark orbitals of shells behind another one of their l: (n_atoms, max_orbitals) bool."""
        marks = {z: np.zeros(self.max_orbitals, dtype=bool) for z in self.shells}
        for z, shells in self.shells.items():
            repeated = [l in shells[:n] for n, l in enumerate(shells)]
            marks[z][: self.n_orbitals(z)] = np.repeat(repeated, [2 * l + 1 for l in shells])
        return np.array([marks[int(z)] for z in numbers])

    def permutation(self, number: int, order: str) -> NDArray[np.int64]:
        """Return p with ``internal[k] = foreign[p[k]]`` for the orbitals of one element.

        Args:
            number: atomic number.
            order: name in ``ORBITAL_ORDERS``; "e3nn" is the identity.

        Returns:
            (n_orbitals,) int; a foreign block B of a pair (a, b) is B[p_a][:, p_b] in internal
            order.

        Raises:
            DataError: the order is unknown, or is not tabulated for an l of this element.
        """
        if order not in ORBITAL_ORDERS:
            raise DataError(
                message(
                    "orbital order",
                    repr(order),
                    f"one of {sorted(ORBITAL_ORDERS)}",
                    "Name a known order.",
                )
            )
        table = ORBITAL_ORDERS[order]
        permutation: list[int] = []
        for l, shell in zip(self._shells_of(number), self.slices(number), strict=True):
            if order != "e3nn" and l > 0 and l not in table:
                raise DataError(
                    message(
                        f"orbital order {order!r}",
                        f"a shell with l = {l}",
                        f"l ≤ {max(table)}",
                        "Add the order.",
                    )
                )
            permutation += [shell.start + k for k in table.get(l, tuple(range(2 * l + 1)))]
        return np.array(permutation, dtype=np.int64)

    def signs(self, number: int, order: str) -> NDArray[np.float64]:
        """Return the sign of every internal function of one element in a foreign order.

        Args:
            number: atomic number.
            order: name in ``ORBITAL_ORDERS``.

        Returns:
            (n_orbitals,): 1 or −1; ``internal[k] = signs[k] · foreign[permutation[k]]``.
        """
        m = np.concatenate([np.arange(-l, l + 1) for l in self._shells_of(number)])
        return np.where((m % 2 == 1) & (order in CONDON_SHORTLEY), -1.0, 1.0)

    def check_elements(self, numbers: Sequence[int] | NDArray[np.integer]) -> None:
        """Raise ``StructureError`` when a structure contains an element that has no basis."""
        missing = sorted({int(z) for z in numbers} - set(self.shells))
        if missing:
            raise StructureError(
                message(
                    "structure",
                    f"atomic numbers {missing}",
                    f"only elements of the basis, {list(self.shells)}",
                    "Use a checkpoint or data set that covers these elements.",
                )
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data (JSON, string keys) from which ``from_dict`` rebuilds the basis."""
        electrons = {str(z): n for z, n in self.valence_electrons.items()}
        return {
            "shells": {str(z): list(ls) for z, ls in self.shells.items()},
            "radii": {str(z): r for z, r in self.radii.items()},
            "names": {str(z): n for z, n in self.names.items()},
            **({"valence_electrons": electrons} if electrons else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OrbitalBasis:
        """Rebuild a basis from ``to_dict``."""
        return cls(
            shells={int(z): tuple(ls) for z, ls in data["shells"].items()},
            radii={int(z): float(r) for z, r in data["radii"].items()},
            names={int(z): str(n) for z, n in data.get("names", {}).items()},
            valence_electrons={
                int(z): float(n) for z, n in data.get("valence_electrons", {}).items()
            },
        )

    def _shells_of(self, number: int) -> tuple[int, ...]:
        self.check_elements([number])
        return self.shells[int(number)]


def name_shells(shells: Sequence[int]) -> str:
    """Return shells in OpenMX's notation: [0, 0, 1, 1] is "s2p2"."""
    return "".join(f"{SHELL_LETTERS[l]}{list(shells).count(l)}" for l in sorted(set(shells)))
