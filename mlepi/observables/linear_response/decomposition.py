"""What an average of v_F over samples holds: second order, what is beyond, what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.linear_response.record import LinearResponseRecord
from mlepi.observables.near_k.record import VelocityRecord
from mlepi.results.quantities import half_interval

AVERAGES = ("spectral peak", "self-energy")
"""Estimators of v_F from samples that follow the same bands as perturbation theory, and are
compared with it."""

SMALL_REMAINDER = 0.5
"""Perturbation theory corrects an average only where what lies beyond second order is less than
this part of the second order."""


class SampleAverage(Protocol):
    """What a record says of an average of v_F over samples, whichever stage made it."""

    @property
    def temperatures(self) -> NDArray[np.float64]:
        """K, (n_temperatures,)."""
        ...

    @property
    def supercell(self) -> tuple[int, ...]:
        """Primitive cells along each lattice vector."""
        ...

    @property
    def velocity_window(self) -> tuple[float, ...]:
        """Smallest and largest |k − K| of the fit, Å⁻¹."""
        ...

    @property
    def dispersion(self) -> str:
        """Model of the bands that was fitted."""
        ...


@dataclass(frozen=True)
class Decomposition:
    """Mean slope of the low bands over that of the undisplaced structure, and its changes by part.

    All arrays are (n_temperatures,).

    Attributes:
        temperatures: K, those that the average and the perturbation theory share.
        average: name of the average over samples.
        second_order: adiabatic slope ratio to second order, wave vectors of the supercell.
        dynamic: the same with the phonon energies in the denominators.
        fan: change by the Fan term.
        debye_waller: change by the Debye–Waller term.
        all_orders: slope ratio of the average over samples.
        all_orders_errors: half of its 68 % interval.
        nonadiabatic: change by phonon energies, wave vectors of the denser mesh where there is one.
        size: change of the adiabatic second order from the wave vectors of the supercell to the
            denser mesh; NaN without one.
    """

    temperatures: NDArray[np.float64]
    average: str
    second_order: NDArray[np.float64]
    dynamic: NDArray[np.float64]
    fan: NDArray[np.float64]
    debye_waller: NDArray[np.float64]
    all_orders: NDArray[np.float64]
    all_orders_errors: NDArray[np.float64]
    nonadiabatic: NDArray[np.float64]
    size: NDArray[np.float64]

    @property
    def beyond(self) -> NDArray[np.float64]:
        """What the average holds beyond second order, of the same supercell.

        Its error is that of the average.
        """
        return self.all_orders - self.second_order

    @property
    def total(self) -> NDArray[np.float64]:
        """The average, corrected to second order for phonon energies and for the supercell's size.

        NaN where higher orders are not small, beyond two standard errors: second order of this cell
        then means little.
        """
        large = np.abs(self.beyond) - 2.0 * self.all_orders_errors > SMALL_REMAINDER * np.abs(
            self.second_order - 1.0
        )
        return np.where(
            large, np.nan, self.all_orders + self.nonadiabatic + np.nan_to_num(self.size)
        )


def decompose(
    record: LinearResponseRecord,
    velocity: VelocityRecord,
    temperatures: NDArray[np.float64],
    name: str,
) -> Decomposition:
    """Compare an average over samples with perturbation theory.

    Args:
        record: of the linear_response stage.
        velocity: of the average, fitted at the same points.
        temperatures: (n_temperatures,), K, of the average.
        name: of the average.
    """
    shared = [t for t in temperatures if t in record.temperatures]
    rows = [int(np.flatnonzero(temperatures == t)[0]) for t in shared]
    own = [int(np.flatnonzero(record.temperatures == t)[0]) for t in shared]
    slope, cell, mesh = record.equilibrium_slope, record.in_supercell, record.interpolated
    best = cell if mesh is None else mesh
    size = (
        np.full(len(own), np.nan)
        if mesh is None
        else (mesh.static_slopes - cell.static_slopes)[own] / slope
    )
    return Decomposition(
        temperatures=np.array(shared),
        average=name,
        second_order=cell.static_slopes[own] / slope,
        dynamic=cell.dynamic_slopes[own] / slope,
        fan=cell.fan_slopes[own] / slope,
        debye_waller=cell.debye_waller_slopes[own] / slope,
        all_orders=velocity.slope_ratios[rows],
        all_orders_errors=half_interval(velocity, "slope_ratio_errors")[rows],
        nonadiabatic=best.nonadiabatic_slopes[own] / slope,
        size=size,
    )


def decompose_averages(
    record: LinearResponseRecord,
    averages: Iterable[tuple[str, VelocityRecord, SampleAverage]],
) -> list[Decomposition]:
    """Compare every average over samples that can be compared with perturbation theory.

    Args:
        record: of the linear_response stage.
        averages: name, velocity and record of the stage of each.
    """
    return [
        decompose(record, velocity, of_stage.temperatures, name)
        for name, velocity, of_stage in averages
        if name in AVERAGES and is_comparable(record, of_stage)
    ]


def is_comparable(record: LinearResponseRecord, other: SampleAverage) -> bool:
    """Tell whether an average rests on the same supercell, the same points and the same fit.

    Args:
        record: of the linear_response stage.
        other: of the stage that averaged samples.
    """
    return (
        tuple(other.supercell) == tuple(record.supercell)
        and tuple(other.velocity_window) == tuple(record.velocity_window)
        and other.dispersion == record.dispersion
        and bool(np.any(np.isin(other.temperatures, record.temperatures)))
    )
