"""What window and order of the fit do to effective masses: the estimator part of their errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlepi.figures import Records
from mlepi.observables.effective_mass.record import EffectiveMassRecord
from mlepi.physics.averages.error_budget import ESTIMATOR, ErrorPart, estimator_spread
from mlepi.physics.bands.velocities import effective_masses

STAGE = "effective_mass"


def fit_parts(records: Records) -> Iterator[ErrorPart]:
    """Yield half the range of masses over fits of other order and of a narrower window.

    Relative to the undisplaced structure by the same fit, times the undisplaced mass of the run, as
    for velocities. Not measured where the run has distances for its own fit only.

    Args:
        records: of a run.
    """
    record: EffectiveMassRecord = records[STAGE]
    fits = list_fits(record)
    ratios = np.array(
        [
            effective_masses(record.distances[inside], record.band_energies[:, inside], order)
            / effective_masses(record.distances[inside], record.equilibrium[inside], order)
            for inside, order in fits
        ]
    )
    reach = [float(np.abs(record.distances[inside]).max()) for inside, _ in fits]
    told = ", ".join(f"{order} to {far:g}" for (_, order), far in zip(fits, reach, strict=True))
    source = f"half the range of polynomials of order {told} Å⁻¹"
    for path, estimates in (("masses", ratios), ("mass_changes", ratios - ratios[:, :1])):
        sizes = np.abs(record.equilibrium_masses) * estimator_spread(list(estimates))
        yield ErrorPart(ESTIMATOR, f"{STAGE}/{path}", sizes, source)


def list_fits(record: EffectiveMassRecord) -> list[tuple[NDArray[np.bool_], int]]:
    """Return points and order of every fit that the distances allow, that of the run first."""
    far = np.abs(record.distances)
    everywhere, inner = np.ones(len(far), dtype=np.bool_), far < far.max() - 1e-9
    other = 4 if record.order == 2 else 2
    fits = [(everywhere, record.order), (everywhere, other), (inner, record.order)]
    return [
        (inside, order)
        for number, (inside, order) in enumerate(fits)
        if number == 0 or len(np.unique(far[inside].round(9))) > order // 2
    ]
