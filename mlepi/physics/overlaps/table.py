"""Two-centre overlaps as functions of distance by pair of shells and total momentum L.

⟨a m1, 0 | b m2, R⟩ = Σ_L t_abL(|R|) Σ_M G^{m1 m2 M}_{la lb L} |R|^L Y_LM(R̂), where R points from
the first atom to the second. The tables hold t = s_L/|R|^L, which is even and smooth at R = 0. Only
pairs (element 1, shell a) ≤ (element 2, shell b) are stored: the others follow exactly from S_ab(R)
= S_ba(−R)ᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.angular import coupled_momenta
from mlepi.untrusted import LARGEST_RADIUS, parse_shells

ElementPair = tuple[int, int]


class Channel(NamedTuple):
    """The radial function of shell a, shell b of a second element, total momentum L."""

    shell_1: int
    shell_2: int
    total: int


@dataclass(frozen=True)
class OverlapTable:
    """Radial overlap functions of every pair of elements of a basis.

    Attributes:
        shells: atomic number → angular momenta of its shells, in the order of the basis.
        radii: atomic number → orbital radius, Å; a pair of elements overlaps up to the sum of its
            two radii, exactly zero beyond.
        names: atomic number → name of the orbitals; for provenance only.
        values: (z1, z2) with z1 ≤ z2 → (n_channels, n_grid), t_abL in Å^(−L) on equal steps from 0
            to radius 1 + radius 2.
        fitted_intervals: (z1, z2) → (n, 2), Å, the distances that data covered; empty for a table
            made from orbitals.
    """

    shells: Mapping[int, tuple[int, ...]]
    radii: Mapping[int, float]
    names: Mapping[int, str]
    values: Mapping[ElementPair, NDArray[np.float64]]
    fitted_intervals: Mapping[ElementPair, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Normalise the mappings and refuse tables that do not fit the basis."""
        object.__setattr__(
            self,
            "shells",
            {
                int(z): parse_shells("overlap table", tuple(ls))
                for z, ls in sorted(self.shells.items())
            },
        )
        object.__setattr__(
            self, "radii", {int(z): float(self.radii[z]) for z in sorted(self.radii)}
        )
        object.__setattr__(self, "names", {int(z): str(self.names[z]) for z in sorted(self.names)})
        object.__setattr__(
            self,
            "values",
            {p: np.asarray(v, dtype=np.float64) for p, v in sorted(self.values.items())},
        )
        object.__setattr__(self, "_splines", {})
        pairs = element_pairs(self.shells)
        if not all(0.0 < radius <= LARGEST_RADIUS for radius in self.radii.values()):
            got, allowed = f"radii {dict(self.radii)} Å", f"0 to {LARGEST_RADIUS:g} Å"
            raise DataError(message("overlap table", got, allowed, "Make the table again."))
        if set(self.values) != set(pairs) or set(self.radii) != set(self.shells):
            raise DataError(
                message(
                    "overlap table",
                    f"pairs {sorted(self.values)}",
                    f"{pairs}",
                    "Tabulate every pair of elements.",
                )
            )
        for pair in pairs:
            expected, shape = len(self.channels(*pair)), self.values[pair].shape
            if len(shape) != 2 or shape[0] != expected or shape[1] < 4:
                raise DataError(
                    message(
                        f"overlap table of {pair}",
                        f"shape {shape}",
                        f"({expected} channels, ≥ 4 points)",
                        "Make the table again.",
                    )
                )
            if not bool(np.isfinite(self.values[pair]).all()):
                raise DataError(
                    message(
                        f"overlap table of {pair}",
                        "values that are not finite",
                        "numbers",
                        "Make the table again.",
                    )
                )

    @property
    def max_orbitals(self) -> int:
        """Largest number of orbitals of any element: the padded size of a block."""
        return max(sum(2 * l + 1 for l in ls) for ls in self.shells.values())

    def cutoff(self, number_1: int, number_2: int) -> float:
        """Return the distance from which on the overlap of two elements is exactly zero, Å."""
        return self.radii[number_1] + self.radii[number_2]

    def channels(self, number_1: int, number_2: int) -> list[Channel]:
        """List the radial functions of an ordered element pair, in the order of ``values``."""
        return list_channels(
            self.shells[number_1], self.shells[number_2], same_element=number_1 == number_2
        )

    def spline_coefficients(self, number_1: int, number_2: int) -> NDArray[np.float64]:
        """Return spline coefficients of a pair's functions, flat at R = 0 and at the cutoff.

        Returns:
            (n_grid − 1, n_channels, 4), powers 3, 2, 1, 0 of (R − R_left), R in Å.
        """
        cache: dict[ElementPair, NDArray[np.float64]] = self._splines  # type: ignore[attr-defined]
        pair = (number_1, number_2)
        if pair not in cache:
            values = self.values[pair]
            spline = CubicSpline(
                np.linspace(0.0, self.cutoff(*pair), values.shape[1]),
                values,
                axis=1,
                bc_type="clamped",
            )
            cache[pair] = np.ascontiguousarray(spline.c.transpose(1, 2, 0))
        return cache[pair]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data and float64 arrays from which ``from_dict`` rebuilds the table."""
        return {
            "basis": {
                "shells": {str(z): list(ls) for z, ls in self.shells.items()},
                "radii": {str(z): r for z, r in self.radii.items()},
                "names": {str(z): n for z, n in self.names.items()},
            },
            "values": {f"{a}-{b}": v for (a, b), v in self.values.items()},
            "fitted_intervals": {f"{a}-{b}": v for (a, b), v in self.fitted_intervals.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OverlapTable:
        """Rebuild a table from ``to_dict``; the arrays may be anything that numpy converts.

        Raises:
            DataError: a part is missing or does not fit the basis.
        """
        try:
            basis = data["basis"]
            return cls(
                shells={int(z): tuple(ls) for z, ls in basis["shells"].items()},
                radii={int(z): float(r) for z, r in basis["radii"].items()},
                names={int(z): str(n) for z, n in basis["names"].items()},
                values={
                    _parse_pair(p): np.asarray(v, dtype=np.float64)
                    for p, v in data["values"].items()
                },
                fitted_intervals={
                    _parse_pair(p): np.asarray(v, dtype=np.float64)
                    for p, v in data["fitted_intervals"].items()
                },
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                message(
                    "overlap table",
                    f"data without a valid {error}",
                    "what to_dict returns",
                    "Make the table again.",
                )
            ) from error


def element_pairs(shells: Mapping[int, tuple[int, ...]]) -> list[ElementPair]:
    """List the stored element pairs of a basis: z1 ≤ z2."""
    numbers = sorted(shells)
    return [(a, b) for n, a in enumerate(numbers) for b in numbers[n:]]


def list_channels(
    shells_1: tuple[int, ...], shells_2: tuple[int, ...], same_element: bool
) -> list[Channel]:
    """List the radial functions of two sets of shells.

    All pairs, or a ≤ b when both are shells of one element.
    """
    return [
        Channel(a, b, total)
        for a, l1 in enumerate(shells_1)
        for b, l2 in enumerate(shells_2)
        if not same_element or a <= b
        for total in coupled_momenta(l1, l2)
    ]


def _parse_pair(text: str) -> ElementPair:
    first, second = text.split("-")
    return int(first), int(second)
