"""What second-order perturbation theory says of the errors of averages over samples.

An average over static displacements leaves phonon energies out of the denominators: dynamic less
static second order is that part of its error. A supercell has the wave vectors of its own cell
only: static second order on a denser mesh less that of the supercell is the part of its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mlepi.figures import Records
from mlepi.observables.linear_response.decomposition import is_comparable
from mlepi.observables.linear_response.record import LinearResponseRecord
from mlepi.physics.averages.error_budget import CELL, STATIC, ErrorPart

STAGE = "linear_response"


def second_order_parts(records: Records) -> Iterator[ErrorPart]:
    """Yield the harmonic/static and the cell part of the error of every velocity of a run.

    Those of averages over samples of the same cell, window and dispersion, and those of the static
    velocities of the record itself.

    Args:
        records: stage → record.
    """
    record = records.get(STAGE)
    if record is None:
        return
    sizes = {STATIC: _static(record), CELL: _cell(record)}
    sources = _describe(record)
    for part, of_part in sizes.items():
        for name in ("slopes", "velocities"):
            if part in sources:
                path = f"{STAGE}/in_supercell/static_{name}"
                yield ErrorPart(part, path, of_part[name], sources[part])
    for stage, other in records.items():
        if not hasattr(other, "velocity_estimates") or not is_comparable(record, other):
            continue
        rows = [np.flatnonzero(record.temperatures == t) for t in other.temperatures]
        for estimate in other.velocity_estimates():
            velocity = estimate.velocity
            names = [each.name for each in fields(other) if getattr(other, each.name) is velocity]
            for part in sources:
                of_part = {
                    name: np.array([values[row[0]] if len(row) else np.nan for row in rows])
                    for name, values in sizes[part].items()
                }
                # the change of a ratio is that of its numerator; of a change, that since the first
                of_part["slope_ratios"] = of_part["slopes"] / velocity.equilibrium_slope
                of_part["ratios"] = of_part["velocities"] / velocity.equilibrium_velocity
                of_part["changes"] = of_part["velocities"] - of_part["velocities"][0]
                of_part["slope_changes"] = of_part["slopes"] - of_part["slopes"][0]
                for name in names:
                    for path, values in of_part.items():
                        yield ErrorPart(part, f"{stage}/{name}/{path}", values, sources[part])


def _static(record: LinearResponseRecord) -> Mapping[str, NDArray[np.float64]]:
    best = record.in_supercell if record.interpolated is None else record.interpolated
    return {
        "slopes": best.dynamic_slopes - best.static_slopes,
        "velocities": best.dynamic_velocities - best.static_velocities,
    }


def _cell(record: LinearResponseRecord) -> Mapping[str, NDArray[np.float64]]:
    cell, mesh = record.in_supercell, record.interpolated
    if mesh is None:
        unknown = np.full(len(record.temperatures), np.nan)
        return {"slopes": unknown, "velocities": unknown}
    return {
        "slopes": mesh.static_slopes - cell.static_slopes,
        "velocities": mesh.static_velocities - cell.static_velocities,
    }


def _describe(record: LinearResponseRecord) -> dict[str, str]:
    """Say how every part was measured; those that were not are left out."""
    cell = "×".join(str(n) for n in record.supercell)
    if record.interpolated is None:
        return {STATIC: f"dynamic less static second order, wave vectors of the {cell} cell"}
    mesh = "×".join(str(n) for n in record.interpolated.mesh)
    return {
        STATIC: f"dynamic less static second order, {mesh} wave vectors",
        CELL: f"static second order, {mesh} less {cell} wave vectors",
    }
