"""The numbers of several records of one stage, compared field by field.

No record has to know of it: every field that holds real numbers takes part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 20_000
"""Numbers of a field that is still compared; maps of spectra are larger."""

WITHOUT_MEANING = ("error", "pseudo")
"""Words in the name of a field whose deviation among networks says nothing: error bars of a few
samples, and what they are made of."""


def list_numbers(record: Any) -> dict[str, NDArray[np.float64]]:
    """Return the real numbers of a record.

    Args:
        record: a dataclass, which may hold others, and mappings of arrays or records.

    Returns:
        Name of a field, with dots into what it holds → its numbers.
    """
    if dataclasses.is_dataclass(record):
        items = [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]
    else:
        items = [(str(name), value) for name, value in record.items()]
    found: dict[str, NDArray[np.float64]] = {}
    for name, value in items:
        if any(word in name for word in WITHOUT_MEANING):
            continue
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            found |= {f"{name}.{inner}": x for inner, x in list_numbers(value).items()}
        elif isinstance(value, (float, np.floating)):
            found[name] = np.array(float(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size <= LARGEST:
            found[name] = value.astype(np.float64)
    return found


def measure_deviations(records: Sequence[Any]) -> dict[str, NDArray[np.float64]]:
    """Return the standard deviation of every number among records of one stage.

    Args:
        records: at least two, of networks that are as good as each other.

    Returns:
        Name of a field, as ``list_numbers`` → √(Σ(x − ⟨x⟩)²/(n − 1)), of the shape of the field.
        Fields that are equal in all records, or differ in shape, are left out.
    """
    tables = [list_numbers(record) for record in records]
    found = {}
    for name, first in tables[0].items():
        values = [table[name] for table in tables if name in table]
        same_shape = len(values) == len(tables) and len({x.shape for x in values}) == 1
        if same_shape and not all(np.array_equal(first, x, equal_nan=True) for x in values):
            found[name] = np.asarray(np.std(values, axis=0, ddof=1), dtype=np.float64)
    return found
