"""Quantities of any record with their standard errors, found by what its fields declare.

A field of standard errors names the field of the values, ``unit("eV", error_of="gaps")``. How many
degrees of freedom the errors have stands in a field ``degrees_of_freedom`` of the same record or of
the one around it; records of earlier versions have none, and their intervals are not known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.intervals import ONE_SIGMA, quantile
from mlepi.results.hdf5 import COMPONENTS, ERROR_OF, QUANTITY, SECONDARY, UNIT

DEGREES = "degrees_of_freedom"

MOST_COMPONENTS = 6
"""Values per temperature beyond which a quantity is a curve or a map, and has no row in a table."""


class Quantity(NamedTuple):
    """Values of one field of a record at every temperature, with their standard errors.

    Attributes:
        path: of the field in the record, with "/" before the fields of records inside it.
        unit: of values and errors.
        temperatures: (n_temperatures,), K.
        values: (n_temperatures, …).
        errors: (n_temperatures, …), standard errors; NaN where not measured.
        degrees_of_freedom: of the errors; NaN where they are not known.
        components: what the last axis runs over; empty where nothing is said.
        secondary: whether the screen leaves it out.
    """

    path: str
    unit: str
    temperatures: NDArray[np.float64]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    degrees_of_freedom: float
    components: tuple[str, ...]
    secondary: bool = False


def list_quantities(record: Any) -> list[Quantity]:
    """Return the quantities of a record that a table can show, in the order of its fields.

    Args:
        record: a dataclass instance; without a field ``temperatures`` it has none.
    """
    return [
        found
        for found in _walk(record, "", None, math.nan)
        if found.values.shape[:1] == found.temperatures.shape
        and found.values[:1].size <= MOST_COMPONENTS
    ]


def half_interval(
    record: Any, name: str, level: float = ONE_SIGMA, around: Any = None
) -> NDArray[np.float64]:
    """Return half the intervals of a field of standard errors, in its unit.

    Where the degrees of freedom are not known, as in records of earlier versions, the 68 % interval
    is the standard error itself, and any other is NaN.

    Args:
        record: with the field.
        name: of the field.
        level: share of all cases in which the interval holds the truth.
        around: the record that holds this one, where that knows the degrees of freedom.
    """
    degrees = float(getattr(record, DEGREES, getattr(around, DEGREES, math.nan)))
    unknown = math.isnan(degrees) and level == ONE_SIGMA
    factor = 1.0 if unknown else quantile(degrees, level)
    return np.asarray(factor * np.asarray(getattr(record, name), dtype=np.float64))


def with_half_intervals(record: Any, degrees_of_freedom: float) -> Any:
    """Return a record for a table: half the 68 % intervals in place of its standard errors.

    Args:
        record: a dataclass instance; fields named ``…_errors`` hold standard errors, in records
            inside it too.
        degrees_of_freedom: of all of them; where they are not known the errors stay as they are.
    """
    if math.isnan(degrees_of_freedom):
        return record
    factor, changed = quantile(degrees_of_freedom), {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = with_half_intervals(value, degrees_of_freedom)
        elif field.name.endswith("_errors"):
            changed[field.name] = factor * value
    return dataclasses.replace(record, **changed)


def _walk(
    record: Any, path: str, temperatures: NDArray[np.float64] | None, degrees: float
) -> Iterator[Quantity]:
    temperatures = getattr(record, "temperatures", temperatures)
    degrees = float(getattr(record, DEGREES, degrees))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{path}{field.name}/", temperatures, degrees)
        name = str(field.metadata.get(ERROR_OF, ""))
        if temperatures is None or not (name or field.metadata.get(QUANTITY)):
            continue
        values = np.asarray(getattr(record, name) if name else value, dtype=np.float64)
        yield Quantity(
            path=path + (name or field.name),
            unit=str(field.metadata[UNIT]),
            temperatures=np.asarray(temperatures, dtype=np.float64),
            values=values,
            errors=np.asarray(value, dtype=np.float64) if name else np.full(values.shape, np.nan),
            degrees_of_freedom=degrees if name else math.nan,
            components=tuple(field.metadata[COMPONENTS]),
            secondary=bool(field.metadata[SECONDARY]),
        )
