"""One comparison of a computed number with a known one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """The result of a comparison.

    Attributes:
        name: what is compared.
        expected: from algebra, from the literature or, for whole runs, from the reference system
            itself.
        got: what the package computes.
        tolerance: largest accepted |got − expected|; for statistical checks a number of standard
            errors; for bounds 0.
        sigma: standard error of ``got`` where it is a statistical estimate, else None.
        passed: whether it holds.
        unit: of ``expected``, ``got``, ``tolerance`` and ``sigma``.
        kind: "=" (within the tolerance), "≥" or "≤" (a bound).
    """

    name: str
    expected: float
    got: float
    tolerance: float
    sigma: float | None
    passed: bool
    unit: str
    kind: str = "="


def within(name: str, expected: float, got: float, tolerance: float, unit: str = "") -> Check:
    """Compare with a tolerance that follows from algebra or rounding.

    Args:
        name: what is compared.
        expected: known value.
        got: computed value.
        tolerance: absolute.
        unit: of all of them.
    """
    passed = bool(np.isfinite(got) and abs(got - expected) <= tolerance)
    return Check(name, float(expected), float(got), float(tolerance), None, passed, unit)


def statistical(
    name: str, expected: float, got: float, sigma: float, unit: str = "", n_sigma: float = 3.0
) -> Check:
    """Compare a statistical estimate, at ``n_sigma`` standard errors.

    Other arguments as ``within``.

    Args:
        name: what is compared.
        expected: known value.
        got: estimate.
        sigma: standard error of the estimate; must be positive.
        unit: of all of them.
        n_sigma: accepted deviation in standard errors.
    """
    passed = bool(np.isfinite(got) and sigma > 0 and abs(got - expected) <= n_sigma * sigma)
    return Check(
        name, float(expected), float(got), float(n_sigma * sigma), float(sigma), passed, unit
    )


def at_least(name: str, bound: float, got: float, unit: str = "") -> Check:
    """Check got ≥ bound."""
    return Check(name, float(bound), float(got), 0.0, None, bool(got >= bound), unit, "≥")


def at_most(name: str, bound: float, got: float, unit: str = "") -> Check:
    """Check got ≤ bound."""
    return Check(name, float(bound), float(got), 0.0, None, bool(got <= bound), unit, "≤")
