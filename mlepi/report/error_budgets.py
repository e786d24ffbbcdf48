"""The error budget of a run: every quantity of every record with the parts of its error.

Quantities and their standard errors are found by what the fields of the records declare, systematic
parts are what stages have measured; a part that nobody measured is a dash, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from mlepi.figures import Paragraph, Records, Section, Table
from mlepi.physics.averages.error_budget import SYSTEMATIC, ErrorBudget, ErrorPart
from mlepi.physics.averages.intervals import TWO_SIGMA
from mlepi.results.quantities import Quantity, list_quantities

HEADER = (
    "quantity",
    "T (K)",
    "value",
    "stat. 68 %",
    "stat. 95 %",
    *(part.replace("/", " / ") for part in SYSTEMATIC),
    "total 68 %",
    "not in the total",
)
SCREEN_COLUMNS = (0, *range(2, len(HEADER) - 1))
"""Columns of ``HEADER`` that fit on a screen."""

NOT_MEASURED = "–"

MEANING = (
    "Half widths. Statistical: intervals that hold the truth in 68 and 95 % of all cases, with "
    "Student's t of the independent groups of samples. Network: spread of an ensemble of networks, "
    "calibrated. Cell: from a series of sizes. Estimator: half the spread over windows and models. "
    "Harmonic/static: dynamic less static second order. The total is the root of the summed "
    "squares of the parts that were measured, a lower bound where others were not. –: not measured."
)


def collect_budgets(
    records: Records, parts: Iterable[ErrorPart]
) -> dict[str, list[tuple[Quantity, ErrorBudget]]]:
    """Join the quantities of all records with the parts of their errors.

    Where two measured the same part the larger one counts.

    Args:
        records: stage → record.
        parts: what stages say of systematic errors.

    Returns:
        Stage → its quantities with their budgets; stages without quantities are left out.
    """
    known: dict[str, dict[str, np.ndarray]] = {}
    for each in parts:
        of_quantity = known.setdefault(each.quantity, {})
        sizes = np.abs(np.asarray(each.sizes, dtype=np.float64))
        of_quantity[each.part] = np.fmax(sizes, of_quantity.get(each.part, sizes))
    found = {}
    for stage, record in records.items():
        budgets = [
            (
                quantity,
                ErrorBudget(
                    quantity.values,
                    quantity.errors,
                    quantity.degrees_of_freedom,
                    known.get(f"{stage}/{quantity.path}", {}),
                ),
            )
            for quantity in list_quantities(record)
        ]
        if budgets:
            found[stage] = budgets
    return found


def budget_section(records: Records, parts: Sequence[ErrorPart]) -> Section | None:
    """Tabulate the error budget of every quantity of a run.

    Args:
        records: stage → record.
        parts: what stages say of systematic errors.

    Returns:
        None for a run without quantities.
    """
    budgets = collect_budgets(records, parts)
    if not budgets:
        return None
    blocks: list[Paragraph | Table] = [Paragraph(MEANING)]
    sources = dict.fromkeys(f"{each.part}: {each.source}" for each in parts)
    if sources:
        blocks.append(Paragraph("; ".join(sources) + ".", heading="How the parts were measured"))
    for stage, of_stage in budgets.items():
        name = stage.replace("_", " ")
        rows: list[list[str]] = []
        shown: list[int] = []
        for quantity, budget in of_stage:
            for row in _rows(quantity, budget):
                if row[1] == _last_temperature(of_stage) and not quantity.secondary:
                    shown.append(len(rows))
                rows.append(row)
        blocks += [
            Paragraph("", heading=name[0].upper() + name[1:]),
            Table(
                HEADER,
                rows,
                title=f"Error budget of {name} at {_last_temperature(of_stage)} K; –: not measured",
                screen_columns=SCREEN_COLUMNS,
                screen_rows=shown,
            ),
        ]
    return Section("Error budget", blocks, "errors")


def _last_temperature(budgets: Sequence[tuple[Quantity, ErrorBudget]]) -> str:
    return f"{budgets[0][0].temperatures[-1]:g}"


def _rows(quantity: Quantity, budget: ErrorBudget) -> list[list[str]]:
    """Write one row per temperature and component."""
    exponent = _exponent(quantity.values)
    scale = 10.0**-exponent
    unit = quantity.unit if exponent == 0 else f"10{_superscript(exponent)} {quantity.unit}"
    of_one = "" if unit == "1" else f" ({unit})"
    parts = [budget.statistical(), budget.statistical(TWO_SIGMA), *map(budget.part, SYSTEMATIC)]
    columns = [*parts, budget.total()]
    rows = []
    for index in np.ndindex(budget.values.shape):
        name = quantity.path.replace("/", ": ").replace("_", " ")
        if len(index) > 1:
            component = (
                quantity.components[index[-1]]
                if quantity.components
                else ", ".join(str(n + 1) for n in index[1:])
            )
            name = f"{name}, {component}"
        rows.append(
            [
                name + of_one,
                f"{quantity.temperatures[index[0]]:g}",
                write_value(scale * float(budget.values[index]), scale * float(columns[0][index])),
                *(write_size(scale * float(column[index])) for column in columns),
                ", ".join(budget.missing(index)) or "nothing",
            ]
        )
    return rows


def _exponent(values: np.ndarray) -> int:
    """Return the power of ten that is taken out of large or small values, or 0."""
    known = np.abs(values[np.isfinite(values) & (values != 0.0)])
    if not known.size:
        return 0
    power = math.floor(math.log10(float(known.max())))
    return power if power > 3 or power < -3 else 0


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def write_value(value: float, error: float) -> str:
    """Write a value to the second digit of its error, or to four digits."""
    if not math.isfinite(value):
        return NOT_MEASURED
    if not math.isfinite(error) or error <= 0.0:
        return f"{value:.4g}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(error)))}f}"


def write_size(value: float) -> str:
    """Write the size of an error with two digits, or a dash."""
    return f"{value:.2g}" if math.isfinite(value) else NOT_MEASURED
