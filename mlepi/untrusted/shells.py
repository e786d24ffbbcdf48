"""Shells of orbitals, which decide the size of everything, as any file may list them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlepi.errors import DataError, message

LARGEST_L = 8
MOST_SHELLS = 48
"""Of one element; the largest bases of any code have half of these."""
LARGEST_RADIUS = 100.0
"""Å; orbitals of DFT codes end before 10."""


def parse_shells(where: str, given: Any) -> tuple[int, ...]:
    """Return l of every shell of an element.

    Args:
        where: file or key, for the message.
        given: what stands there, which may be anything.

    Raises:
        DataError: it is no list of angular momenta.
    """
    listed = given if isinstance(given, (list, tuple)) else ()
    whole = [
        isinstance(l, (int, float, np.number)) and not isinstance(l, bool) and 0 <= l <= LARGEST_L
        for l in listed
    ]
    if not 0 < len(listed) <= MOST_SHELLS or not all(whole) or any(l % 1 for l in listed):
        got = f"shells {str(given)[:80]}"
        expected = f"at least one shell l ≥ 0 for every element, l ≤ {LARGEST_L}, as [0, 0, 1]"
        raise DataError(message(where, got, expected, "Check the data set."))
    return tuple(int(l) for l in listed)
