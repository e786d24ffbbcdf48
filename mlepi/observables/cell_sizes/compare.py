"""From run folders that differ in the size of their cells to v_F in the limit of infinite cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.observables.near_k.record import Estimate
from mlepi.observables.near_k.velocity_tables import list_estimates
from mlepi.observables.self_energy.record import SelfEnergyRecord
from mlepi.physics.averages.size_series import extrapolate_sizes
from mlepi.results import ResultsStore

RECORDS: dict[str, type] = {"fermi_velocity": FermiVelocityRecord, "self_energy": SelfEnergyRecord}
"""Stages whose estimates are compared, the first of them in every run."""


def compare_sizes(folders: Sequence[Path]) -> CellSizesRecord:
    """Collect v_F of several runs and extrapolate it.

    Args:
        folders: of runs with the stage ``fermi_velocity``, and ``self_energy`` in all or none;
            N × N cells, otherwise equal.

    Returns:
        The record, sizes ascending.

    Raises:
        DataError: fewer than two sizes, cells that are not N × N, or runs that differ in more than
            their size.
    """
    runs = sorted(
        (_read(folder) for folder in folders),
        key=lambda records: records["fermi_velocity"].supercell,
    )
    velocities: list[FermiVelocityRecord] = [records["fermi_velocity"] for records in runs]
    _check_runs(folders, velocities)
    by_name = [{each.name: each for each in list_estimates(records)} for records in runs]
    names = [name for name in by_name[0] if all(name in found for found in by_name)]
    estimates = [[found[name] for found in by_name] for name in names]
    sizes = np.array([record.supercell[0] for record in velocities])
    values, errors = _stack(estimates)
    return CellSizesRecord(
        sizes=sizes,
        n_samples=np.array([record.n_samples for record in velocities]),
        temperatures=velocities[0].temperatures,
        velocity_window=velocities[0].velocity_window,
        dispersion=velocities[0].dispersion,
        estimators=tuple(names),
        equilibrium=np.array(
            [
                [row[0].velocity.equilibrium_velocity, row[0].velocity.equilibrium_slope]
                for row in estimates
            ]
        ),
        values=values,
        errors=errors,
        **_extrapolate(sizes, values, errors),
    )


def _stack(
    estimates: Sequence[Sequence[Estimate]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return v_F and mean slopes, m/s, and their errors from estimators × sizes.

    (n_estimators, 2, n_sizes, n_temperatures) each.
    """
    rows = [[each.velocity for each in row] for row in estimates]
    values = np.array([[[v.velocities for v in row], [v.slopes for v in row]] for row in rows])
    errors = np.array(
        [[[v.velocity_errors for v in row], [v.slope_errors for v in row]] for row in rows]
    )
    return values, errors


def _extrapolate(
    sizes: NDArray[np.int64], values: NDArray[np.float64], errors: NDArray[np.float64]
) -> Mapping[str, NDArray[Any]]:
    """Draw straight lines in 1/N through the sizes that tell; NaN where fewer than two do.

    Returns:
        The fields of ``CellSizesRecord`` that follow, (n_estimators, 2, n_temperatures) each.
    """
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
        limits[place], limit_errors[place] = fit.limit, fit.limit_error
        chi_squared[place], degrees[place] = fit.chi_squared, fit.degrees_of_freedom
    return {
        "limits": limits,
        "limit_errors": limit_errors,
        "chi_squared": chi_squared,
        "degrees_of_freedom": degrees,
    }


def _read(folder: Path) -> dict[str, Any]:
    store = ResultsStore(folder)
    present = store.stages()
    if "fermi_velocity" not in present:
        raise _refusal([folder], f"stages {list(present)}", "the stage fermi_velocity")
    return {
        stage: store.read(stage, record) for stage, record in RECORDS.items() if stage in present
    }


def _check_runs(folders: Sequence[Path], velocities: Sequence[FermiVelocityRecord]) -> None:
    """Refuse runs that do not differ in the size of N × N cells alone."""
    cells = [record.supercell for record in velocities]
    if len(set(cells)) != len(cells) or len(cells) < 2 or any(cell[0] != cell[1] for cell in cells):
        raise _refusal(
            folders,
            f"cells {[list(cell) for cell in cells]}",
            "at least two different sizes N × N, each once",
        )
    settings = [
        (record.velocity_window, record.dispersion, record.temperatures.tolist())
        for record in velocities
    ]
    if any(each != settings[0] for each in settings):
        raise _refusal(
            folders,
            "runs of different windows, dispersions or temperatures",
            "runs that differ in their size only",
        )


def _refusal(folders: Sequence[Path], got: str, expected: str) -> DataError:
    where = "size series in " + ", ".join(str(folder) for folder in folders)
    return DataError(message(where, got, expected, "Run experiment=cell_sizes in a fresh folder."))
