"""v_F in the limit of infinite cells, by every estimator, from runs with cells of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message
from mlepi.physics.averages.size_series import extrapolate_sizes
from mlepi.results import ObservablesRecord, ResultsStore, SelfEnergyRecord, VelocityRecord
from mlepi.results.cell_sizes import CellSizesRecord

ESTIMATORS = (
    ("spectral peak", "observables", "spectral"),
    ("self-energy", "self_energy", "velocity"),
    ("velocity operator", "observables", "velocity_operator"),
    ("sorted average", "observables", "sorted_average"),
)
"""Name, stage and field of the record."""

RECORDS: dict[str, type] = {"observables": ObservablesRecord, "self_energy": SelfEnergyRecord}


def compare_sizes(folders: Sequence[Path]) -> CellSizesRecord:
    """Collect v_F of several runs and extrapolate it.

    Args:
        folders: of runs with the stage ``observables``, and ``self_energy`` in all or none; N × N
            cells, otherwise equal.

    Returns:
        The record, sizes ascending.

    Raises:
        DataError: fewer than two sizes, cells that are not N × N, or runs that differ in more than
            their size.
    """
    runs = sorted(
        (_read(folder) for folder in folders), key=lambda records: records["observables"].supercell
    )
    observables: list[ObservablesRecord] = [records["observables"] for records in runs]
    cells = [record.supercell for record in observables]
    if len(set(cells)) != len(cells) or len(cells) < 2 or any(cell[0] != cell[1] for cell in cells):
        _refuse(
            folders,
            f"cells {[list(cell) for cell in cells]}",
            "at least two different sizes N × N, each once",
        )
    settings = [
        (record.velocity_window, record.dispersion, record.temperatures.tolist())
        for record in observables
    ]
    if any(each != settings[0] for each in settings):
        _refuse(
            folders,
            "runs of different windows, dispersions or temperatures",
            "runs that differ in their size only",
        )
    chosen = [each for each in ESTIMATORS if all(each[1] in records for records in runs)]
    estimates: list[list[VelocityRecord]] = [
        [getattr(records[stage], field) for records in runs] for _, stage, field in chosen
    ]
    values = np.array([[[r.velocities for r in row], [r.slopes for r in row]] for row in estimates])
    errors = np.array(
        [[[r.velocity_errors for r in row], [r.slope_errors for r in row]] for row in estimates]
    )
    sizes = np.array([cell[0] for cell in cells])
    shape = (*values.shape[:2], values.shape[3])
    limits, limit_errors, chi_squared = (np.full(shape, np.nan) for _ in range(3))
    degrees = np.zeros(shape, dtype=np.int64)
    for place in np.ndindex(shape):
        row, kind, temperature = place
        some, bars = values[row, kind, :, temperature], errors[row, kind, :, temperature]
        told = np.isfinite(some) & (bars > 0)
        if np.count_nonzero(told) < 2:
            continue
        fit = extrapolate_sizes(sizes[told], some[told], bars[told])
        limits[place], limit_errors[place], chi_squared[place] = (
            fit.limit,
            fit.limit_error,
            fit.chi_squared,
        )
        degrees[place] = fit.degrees_of_freedom
    return CellSizesRecord(
        sizes=sizes,
        n_samples=np.array([record.n_samples for record in observables]),
        temperatures=observables[0].temperatures,
        velocity_window=observables[0].velocity_window,
        dispersion=observables[0].dispersion,
        estimators=tuple(name for name, _, _ in chosen),
        equilibrium=np.array(
            [[row[0].equilibrium_velocity, row[0].equilibrium_slope] for row in estimates]
        ),
        values=values,
        errors=errors,
        limits=limits,
        limit_errors=limit_errors,
        chi_squared=chi_squared,
        degrees_of_freedom=degrees,
    )


def _read(folder: Path) -> dict[str, Any]:
    store = ResultsStore(folder)
    present = store.stages()
    if "observables" not in present:
        _refuse([folder], f"stages {list(present)}", "the stage observables")
    return {
        stage: store.read(stage, record) for stage, record in RECORDS.items() if stage in present
    }


def _refuse(folders: Sequence[Path], got: str, expected: str) -> None:
    where = "size series in " + ", ".join(str(folder) for folder in folders)
    raise DataError(message(where, got, expected, "Run experiment=cell_sizes in a fresh folder."))
