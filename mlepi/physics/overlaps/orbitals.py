"""Radial parts of numerical atomic orbitals, as OpenMX's ``.pao`` files hold them.

Convention: φ(r) = R(r) Y_lm(r̂) with real harmonics and ∫ R² r² dr = 1; R vanishes beyond the
orbital radius.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import spherical_jn

from mlepi.errors import DataError, message
from mlepi.units import BOHR
from mlepi.untrusted import read_text

NORM_TOLERANCE = 0.02
"""Largest accepted deviation of ∫ R² r² dr from 1 in an orbital file; OpenMX's Mo7.0.pao has 0.015
in its second s function."""

_SHELL_LETTERS = "spdf"
_SERIES_LIMIT = 2.0  # below this argument j_l(x)/x^l is summed from its power series
_SERIES_TERMS = 16


@dataclass(frozen=True)
class RadialOrbitals:
    """Radial functions of one element.

    Attributes:
        number: atomic number.
        name: name in the code that made them, e.g. "C6.0-s2p2"; for provenance only.
        radius: radius beyond which every function vanishes, Å.
        shells: angular momentum of every shell.
        grid: (n_grid,), ascending distances from the nucleus, Å.
        values: (n_shells, n_grid), R(r) in Å^(−3/2).
    """

    number: int
    name: str
    radius: float
    shells: tuple[int, ...]
    grid: NDArray[np.float64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse functions that are inconsistent or not normalised."""
        where = f"orbitals {self.name!r}"
        if self.values.shape != (len(self.shells), len(self.grid)) or not self.shells:
            raise DataError(
                message(
                    where,
                    f"values {self.values.shape}",
                    f"{(len(self.shells), len(self.grid))}",
                    "One row per shell, ≥ 1 shell.",
                )
            )
        if self.radius <= 0.0 or self.grid[0] < 0.0 or not bool(np.all(np.diff(self.grid) > 0.0)):
            raise DataError(
                message(
                    where,
                    "a radial grid that does not ascend",
                    "ascending r ≥ 0 and radius > 0",
                    "Check the file.",
                )
            )
        if not bool(np.isfinite(self.values).all()):
            raise DataError(
                message(where, "values that are not finite", "finite numbers", "Check the file.")
            )
        norms = self.norms()
        if float(np.abs(norms - 1.0).max()) > NORM_TOLERANCE:
            raise DataError(
                message(
                    where,
                    f"norms {norms.round(6).tolist()}",
                    "∫ R² r² dr = 1",
                    "Check the units, the radius and the columns.",
                )
            )

    def norms(self) -> NDArray[np.float64]:
        """Return ∫ R² r² dr of every shell, (n_shells,)."""
        r, weights = quadrature(0.0, self.radius)
        return np.asarray((self.evaluate(r) ** 2 * r**2) @ weights)

    def evaluate(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolate R(r) by cubic splines, r^l below the first grid point, 0 beyond the radius.

        Args:
            r: (n,), Å.

        Returns:
            (n_shells, n), Å^(−3/2).
        """
        first = self.grid[0]
        inner = np.clip(r, first, self.grid[-1])
        values = CubicSpline(self.grid, self.values, axis=1)(inner)
        if first > 0.0:
            values *= (np.minimum(r / first, 1.0)[None, :]) ** np.array(self.shells)[:, None]
        return np.where((r <= min(self.radius, self.grid[-1]))[None, :], values, 0.0)


def quadrature(
    start: float, stop: float, n_panels: int = 96, order: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Build composite Gauss–Legendre nodes and weights, (n_panels·order,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    width = (stop - start) / n_panels
    centres = start + width * (np.arange(n_panels) + 0.5)
    return (centres[:, None] + 0.5 * width * nodes).ravel(), np.tile(
        0.5 * width * weights, n_panels
    )


def reduced_bessel(l: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute j_l(x)/x^l, which is even and smooth at x = 0 with the limit 1/(2l+1)!!."""
    half_square = np.minimum(x, _SERIES_LIMIT) ** 2 / 2.0
    term = np.full_like(x, 1.0 / np.prod(np.arange(1.0, 2 * l + 2, 2)))
    series = term.copy()
    for n in range(1, _SERIES_TERMS):
        term = -term * half_square / (n * (2 * l + 2 * n + 1))
        series += term
    large = np.maximum(x, _SERIES_LIMIT)
    return np.where(x < _SERIES_LIMIT, series, spherical_jn(l, large) / large**l)


def compute_radial_transforms(
    orbitals: RadialOrbitals, k: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Transform the radial functions to momentum: F_l(k) = ∫ j_l(kr) R(r) r² dr.

    Args:
        orbitals: radial functions.
        k: (n_k,), 1/Å.

    Returns:
        (n_shells, n_k), Å^(3/2); ∫ F² k² dk = π/2 for a normalised function.
    """
    r, weights = quadrature(0.0, orbitals.radius)
    integrand = orbitals.evaluate(r) * (r**2 * weights)
    transforms = np.empty((len(orbitals.shells), len(k)))
    for l in sorted(set(orbitals.shells)):
        rows = [n for n, shell in enumerate(orbitals.shells) if shell == l]
        transforms[rows] = integrand[rows] @ spherical_jn(l, np.outer(r, k))
    return transforms


def read_pao(path: str | Path, selection: str) -> RadialOrbitals:
    """Read the numerical atomic orbitals of one element from an OpenMX ``.pao`` file.

    The file holds, for every l, the columns ln r, r, R_0(r), R_1(r), … in Bohr; "s2p2d1" takes the
    first 2, 2, 1 of them.

    Args:
        path: file, e.g. C6.0.pao; part of OpenMX's DFT_DATA, not shipped here.
        selection: shells to use in OpenMX's notation, e.g. "s2p2"; their order is the order of the
            basis.

    Returns:
        Radial functions in Å.

    Raises:
        DataError: the file is missing or damaged, or lacks a shell that is asked for.
    """
    path = Path(path)
    where = f"{path.name}"
    if not path.is_file():
        raise DataError(
            message(
                str(path),
                "no such file",
                "an OpenMX .pao file",
                "Take it from OpenMX's DFT_DATA19/PAO.",
            )
        )
    text = read_text(path)
    number = int(_pao_value(text, "AtomSpecies", where))
    radius = float(_pao_value(text, "radial.cutoff.pao", where))
    l_max = int(_pao_value(text, "PAO.Lmax", where))
    multiplicity = int(_pao_value(text, "PAO.Mul", where))
    shells, grid, values = _read_shells(text, selection, l_max, multiplicity, where)
    return RadialOrbitals(
        number=number,
        name=f"{path.stem}-{selection}",
        radius=radius * BOHR,
        shells=tuple(shells),
        grid=grid * BOHR,
        values=values / BOHR**1.5,
    )


def _read_shells(
    text: str, selection: str, l_max: int, multiplicity: int, where: str
) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Return l of every chosen shell, the grid (n_grid,), and R (n_shells, n_grid), in Bohr."""
    shells: list[int] = []
    rows: list[NDArray[np.float64]] = []
    grid = np.empty(0)
    for l, count in parse_selection(selection):
        if l > l_max or count > multiplicity:
            raise DataError(
                message(
                    where,
                    f"l ≤ {l_max} with {multiplicity} functions each",
                    f"the shells {selection!r}",
                    "Ask for fewer shells.",
                )
            )
        columns = _pao_block(text, l, multiplicity, where)
        if grid.size and not np.array_equal(grid, columns[:, 1]):
            raise DataError(
                message(
                    where,
                    f"another radial grid for l = {l}",
                    "one grid for all shells",
                    "Check the file.",
                )
            )
        grid = columns[:, 1]
        shells += [l] * count
        rows += list(columns[:, 2 : 2 + count].T)
    return shells, grid, np.array(rows)


def parse_selection(selection: str) -> list[tuple[int, int]]:
    """Parse OpenMX's shell notation: "s2p2d1" → [(0, 2), (1, 2), (2, 1)].

    Raises:
        DataError: the text is not a sequence of a letter of s, p, d, f and a count.
    """
    parts = re.findall(r"([spdf])([1-9]\d*)", selection)
    if not parts or "".join(a + b for a, b in parts) != selection:
        raise DataError(
            message(
                "orbital selection",
                repr(selection),
                "letters s, p, d, f with counts",
                'Write e.g. "s2p2d1".',
            )
        )
    return [(_SHELL_LETTERS.index(letter), int(count)) for letter, count in parts]


def _pao_value(text: str, key: str, where: str) -> str:
    """Return the first number after a keyword at the start of a line."""
    match = re.search(rf"^{re.escape(key)}\s+([-+.\dEe]+)", text, flags=re.MULTILINE)
    if match is None:
        raise DataError(
            message(
                where,
                f"no keyword {key!r}",
                "an OpenMX .pao file",
                "Check that the file is complete.",
            )
        )
    return match.group(1)


def _pao_block(text: str, l: int, multiplicity: int, where: str) -> NDArray[np.float64]:
    """Return ln r, r and R_n(r) of one l in Bohr: (n_grid, 2 + multiplicity)."""
    tag = f"pseudo.atomic.orbitals.L={l}"
    match = re.search(rf"<{re.escape(tag)}\s*\n(.*?)\n\s*{re.escape(tag)}>", text, flags=re.DOTALL)
    damaged = message(
        where,
        f"a damaged or missing block {tag!r}",
        f"{2 + multiplicity} numbers per line",
        "Fetch the file again.",
    )
    if match is None:
        raise DataError(damaged)
    try:
        columns = np.array([line.split() for line in match.group(1).splitlines()], dtype=np.float64)
    except ValueError as error:
        raise DataError(damaged) from error
    if (
        columns.ndim != 2
        or columns.shape[1] != 2 + multiplicity
        or not np.allclose(np.log(columns[:, 1]), columns[:, 0], atol=1e-6)
    ):
        raise DataError(damaged)
    return columns
