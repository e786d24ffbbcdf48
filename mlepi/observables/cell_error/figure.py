"""What a run tells of the series from which it has the cell part of its errors."""

from __future__ import annotations

from mlepi.figures import Fact, Presentation, Records
from mlepi.observables.cell_error.record import CellErrorRecord
from mlepi.physics.averages.error_budget import CELL, ErrorPart
from mlepi.results.quantities import list_quantities


def list_facts(record: CellErrorRecord) -> list[Fact]:
    """Say where the cell part comes from."""
    return [("cell part of the errors", f"{record.describe()} (record {record.series})")]


def cell_parts(records: Records) -> list[ErrorPart]:
    """Return the cell part of the error of every quantity of the run that the series knows."""
    record: CellErrorRecord = records["cell_error"]
    known = {
        f"{stage}/{quantity.path}": quantity.values.shape
        for stage, other in records.items()
        for quantity in list_quantities(other)
    }
    paths = {path.replace(".", "/"): sizes for path, sizes in record.parts.items()}
    return [
        ErrorPart(CELL, path, sizes, record.describe())
        for path, sizes in paths.items()
        if known.get(path) == sizes.shape
    ]


PRESENTATION = Presentation(facts=list_facts, error_parts=(cell_parts,), tab="errors")
