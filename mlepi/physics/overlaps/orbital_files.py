"""Radial functions of SIESTA's ``.ion.xml`` and of Gaussian basis sets in CP2K's format.

Both become ``RadialOrbitals``, φ(r) = R(r) Y_lm(r̂) on a grid, with shells in the order of the
file. Signs of shells are those of the file: S of the code that used it has them too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, XMLParser, parse

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.orbitals import RadialOrbitals
from mlepi.units import BOHR

N_GRID = 4001
"""Points of the common grid of an element."""

TAIL = 1e-12
"""Part of the norm of a Gaussian that may lie outside of the radius that is chosen for it."""


def read_ion_xml(path: str | Path) -> RadialOrbitals:
    """Read the orbitals of one species of SIESTA.

    The file tabulates R(r)/r^l of every shell up to its own radius, on its own grid, in Bohr.

    Args:
        path: such as Si.ion.xml.

    Returns:
        Radial functions in Å.

    Raises:
        DataError: the file is missing or damaged, or a function is not normalised.
    """
    path = Path(path)
    where = path.name
    fix = "Take the file of the SIESTA run again."
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "an .ion.xml of SIESTA", fix))
    try:
        root = parse(path, XMLParser()).getroot()  # noqa: S314  expat has no external entities here
        number = int(_text(root, "z"))
        shells, parts = [], []
        for orbital in root.findall("paos/orbital"):
            l = int(orbital.attrib["l"])
            data = np.array(_text(orbital, "radfunc/data").split(), dtype=np.float64).reshape(-1, 2)
            shells.append(l)
            parts.append((float(_text(orbital, "radfunc/cutoff")), data))
        radius = max(cutoff for cutoff, _ in parts)
        grid = np.linspace(0.0, radius, N_GRID)
        rows = [_resample(grid, l, part) for l, part in zip(shells, parts, strict=True)]
    except (ParseError, KeyError, ValueError, OSError) as error:
        got = f"a damaged or incomplete file ({type(error).__name__}: {error})"
        raise DataError(message(where, got, "orbitals in XML", fix)) from error
    return RadialOrbitals(
        number=abs(number),
        name=path.name.removesuffix(".ion.xml"),
        radius=radius * BOHR,
        shells=tuple(shells),
        grid=grid * BOHR,
        values=np.array(rows) / BOHR**1.5,
    )


def _text(element: Element, name: str) -> str:
    found = element.find(name)
    if found is None or not (found.text or "").strip():
        raise ValueError(f"no {name}")
    return (found.text or "").strip()


def _resample(
    grid: NDArray[np.float64], l: int, part: tuple[float, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return R on another grid, zero beyond the radius of the shell, Bohr^(−3/2)."""
    cutoff, data = part
    inside = np.minimum(grid, data[-1, 0])
    values = CubicSpline(data[:, 0], data[:, 1])(inside) * grid**l
    return np.where(grid <= min(cutoff, data[-1, 0]), values, 0.0)


@dataclass(frozen=True)
class GaussianShell:
    """A contracted Gaussian, R(r) ∝ Σ c N r^l exp(−α r²), with N the norm of every primitive.

    Attributes:
        l: angular momentum.
        exponents: (n,), 1/Bohr².
        coefficients: (n,), of normalised primitives.
    """

    l: int
    exponents: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def evaluate(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the normalised R(r), Bohr^(−3/2), at r in Bohr."""
        a, power = self.exponents, self.l + 1.5
        norms = np.sqrt(2.0 * (2.0 * a) ** power / math.gamma(power))
        weights = self.coefficients * norms
        sums = a[:, None] + a[None, :]
        square = weights @ (math.gamma(power) / (2.0 * sums**power)) @ weights
        primitives = np.exp(-a[:, None] * r[None, :] ** 2)
        values: NDArray[np.float64] = (weights / np.sqrt(square)) @ primitives * r**self.l
        return values

    @property
    def radius(self) -> float:
        """Distance, Bohr, beyond which less than ``TAIL`` of the norm lies."""
        r = np.linspace(0.0, 1.0, 20001) * math.sqrt(40.0 / float(self.exponents.min()))
        density = self.evaluate(r) ** 2 * r**2
        beyond = np.cumsum(density[::-1])[::-1] * (r[1] - r[0])
        return float(r[np.flatnonzero(beyond > TAIL)[-1]])


def read_gaussians(
    path: str | Path, symbol: str, name: str, radius: float | None = None
) -> RadialOrbitals:
    """Read the Gaussian basis set of one element from a file in CP2K's format (GTH, MOLOPT).

    A block begins with "C NAME [NAME …]", then the number of sets, then for every set a line n,
    l_min, l_max, n_exponents, n_shells of every l, and lines of an exponent (1/Bohr²) and one
    coefficient per shell.

    Args:
        path: such as BASIS_MOLOPT.
        symbol: of the element.
        name: of the basis set, such as SZV-GTH.
        radius: Å, where the tails are cut; None keeps all but 1e-12 of every norm.

    Returns:
        Radial functions in Å, in the order of CP2K: set by set, l by l.

    Raises:
        DataError: the file or the set is missing or damaged.
    """
    path = Path(path)
    where = f"{path.name}, {symbol} {name}"
    if not path.is_file():
        fix = "Take it from CP2K's data folder."
        raise DataError(message(str(path), "no such file", "a file of basis sets", fix))
    lines = [re.split("[#!]", line)[0].split() for line in path.read_text().splitlines()]
    starts = [n for n, words in enumerate(lines) if words[:1] == [symbol] and name in words[1:]]
    if not starts:
        names = sorted({word for words in lines if words[:1] == [symbol] for word in words[1:]})
        got, fix = f"no set {name!r} of {symbol}", "Name one of them."
        raise DataError(message(str(path), got, f"one of {names}", fix))
    try:
        shells = _read_sets([words for words in lines[starts[0] + 1 :] if words])
    except (ValueError, IndexError) as error:
        fix = "Take the file from CP2K again."
        raise DataError(message(where, f"a damaged set ({error})", "CP2K's format", fix)) from error
    reach = radius / BOHR if radius is not None else max(shell.radius for shell in shells)
    grid = np.linspace(0.0, reach, N_GRID)
    return RadialOrbitals(
        number=atomic_numbers[symbol],
        name=f"{symbol} {name}",
        radius=reach * BOHR,
        shells=tuple(shell.l for shell in shells),
        grid=grid * BOHR,
        values=np.array([shell.evaluate(grid) for shell in shells]) / BOHR**1.5,
    )


def _read_sets(rows: list[list[str]]) -> list[GaussianShell]:
    """Read the shells of a block without its title."""
    shells: list[GaussianShell] = []
    n_sets, place = int(rows[0][0]), 1
    for _ in range(n_sets):
        _, low, high, n_exponents, *counts = map(int, rows[place])
        if len(counts) != high - low + 1 or n_exponents < 1:
            raise ValueError(f"{len(counts)} numbers of shells for l = {low} … {high}")
        table = np.array(rows[place + 1 : place + 1 + n_exponents], dtype=np.float64)
        if table.shape != (n_exponents, 1 + sum(counts)) or not (table[:, 0] > 0.0).all():
            raise ValueError(f"{table.shape} numbers for {n_exponents} exponents, {counts} shells")
        momenta = [
            l for l, count in zip(range(low, high + 1), counts, strict=True) for _ in [0] * count
        ]
        shells += [GaussianShell(l, table[:, 0], table[:, 1 + n]) for n, l in enumerate(momenta)]
        place += 1 + n_exponents
    return shells
