"""From a finished series of cell sizes to the cell part of the errors of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlepi.errors import DataError, message
from mlepi.observables.cell_error.record import CellErrorRecord
from mlepi.observables.cell_sizes.limits import (
    describe_observables,
    describe_system,
    list_differences,
)
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.cell_sizes.series import NAME as SERIES
from mlepi.physics.averages.size_series import interpolate_sizes
from mlepi.results import ResultsStore

KEY = "cell_series"
"""Of the config, for messages."""


def find_series(folder: Path, store: ResultsStore) -> tuple[str, CellSizesRecord]:
    """Find the series of the same structure, networks and samples as those of a run.

    Args:
        folder: of finished series.
        store: of the run.

    Returns:
        Name of the record, and the record.

    Raises:
        DataError: there is none.
    """
    own, series = describe_system(store), ResultsStore(folder)
    best: list[str] | None = None
    for name in series.stages():
        if name != SERIES and not name.startswith(f"{SERIES}_"):
            continue
        record: CellSizesRecord = series.read(name, CellSizesRecord)
        differences = list_differences(own, record.system)
        if not differences:
            return name, record
        if best is None or len(differences) < len(best):
            best = differences
    got = (
        "no series of sizes" if best is None else f"runs of another {', '.join(best)} than this one"
    )
    raise DataError(
        message(
            f"{KEY} {folder}",
            got,
            "a finished series of the same structure, networks and samples",
            "Run experiment=headline with the settings of this run, or leave cell_series=null.",
        )
    )


def take_parts(
    name: str,
    record: CellSizesRecord,
    store: ResultsStore,
    supercell: Sequence[int],
    temperatures: Sequence[float],
) -> CellErrorRecord:
    """Take the cell part of every quantity at the size of a run.

    Args:
        name: of the record of the series.
        record: of the series.
        store: of the run; its records say with which settings they were made.
        supercell: of the run.
        temperatures: of the run, K.

    Raises:
        DataError: a cell that is not N × N, or temperatures that the series does not have.
        PhysicsError: a cell smaller than all of the series.
    """
    if supercell[0] != supercell[1]:
        raise DataError(
            message(
                f"{KEY}, record {name}",
                f"a run with cells of {list(supercell)}",
                "N × N cells, as those of the series",
                "Use such a cell, or leave cell_series=null.",
            )
        )
    known = record.temperatures.tolist()
    if not set(temperatures) <= set(known) or temperatures[0] != known[0]:
        raise DataError(
            message(
                f"{KEY}, record {name}",
                f"a run at {list(temperatures)} K",
                f"temperatures out of those of the series, {known} K, the first the same",
                "Run the series at these temperatures, or this run at those.",
            )
        )
    rows = [known.index(temperature) for temperature in temperatures]
    present = [stage for stage in store.stages() if stage in record.observables]
    own = describe_observables(store, present)
    others = list_differences(own, {stage: record.observables[stage] for stage in own})
    parts = {
        path: np.maximum(
            np.abs(interpolate_sizes(record.sizes, limits.distances, supercell[0])),
            interpolate_sizes(record.sizes, limits.distance_errors, supercell[0]),
        )[rows]
        for path, limits in record.quantities.items()
        if path.partition(".")[0] in own and path.partition(".")[0] not in others
    }
    return CellErrorRecord(
        series=name,
        temperatures=np.array(temperatures, dtype=np.float64),
        size=int(supercell[0]),
        sizes=record.sizes,
        parts=parts,
        other_settings=tuple(others),
    )
