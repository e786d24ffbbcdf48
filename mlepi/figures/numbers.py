"""Numbers of figures as JSON: short ones as they are, long ones packed as plotly reads them."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIGITS = 5
"""Significant digits of a number in a figure, more than a screen has pixels."""

PACKED = 60
"""Numbers from which an array is packed."""


def plain_numbers(values: NDArray[Any]) -> list[Any]:
    """Return numbers rounded to ``DIGITS``, nested as the array is; None for those not finite."""
    if values.ndim > 1:
        return [plain_numbers(row) for row in values]
    return [float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None for x in values.tolist()]


def pack_numbers(values: ArrayLike) -> list[Any] | dict[str, Any]:
    """Return an array as plotly reads it: a list, or float32 in base64 where it is long.

    Args:
        values: one or two axes; NaN is a gap.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < PACKED:
        return plain_numbers(array)
    packed: dict[str, Any] = {
        "dtype": "f4",
        "bdata": base64.b64encode(array.astype("<f4").tobytes()).decode(),
    }
    if array.ndim > 1:
        packed["shape"] = ", ".join(str(n) for n in array.shape)
    return packed
