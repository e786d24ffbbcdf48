"""Parts of records that several observables near K share: v_F by one estimator, other windows.

v_F is quoted as the mean slope in the window and as v with γ₁ pinned by the split-off bands; the
free fit of v and γ₁ stands beside them.

A record that holds estimates of v_F has the attributes of ``VelocityAverage``; tables, series of
cell sizes and comparisons ask it for them, whichever stage made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class PinnedRecord:
    """v of the hyperbola with γ₁ pinned by the split-off bands, against temperature.

    NaN where the split-off bands are out of sight. Error bars as in ``VelocityRecord``.

    Attributes:
        distance: |k − K| at which the split-off bands were looked up.
        equilibrium_gamma_1: γ₁ of the undisplaced structure.
        gamma_1: (n_temperatures,).
        gamma_1_errors: (n_temperatures,).
        equilibrium_velocity: v of the undisplaced structure, same points.
        velocities: (n_temperatures,).
        velocity_errors: (n_temperatures,).
        ratios: (n_temperatures,), over that of the equilibrium.
        ratio_errors: (n_temperatures,).
        changes: (n_temperatures,), v(T) minus v of the first temperature.
        change_errors: (n_temperatures,).
    """

    distance: float = field(metadata=unit("1/Å"))
    equilibrium_gamma_1: float = field(metadata=unit("eV"))
    gamma_1: NDArray[np.float64] = field(metadata=unit("eV"))
    gamma_1_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="gamma_1", secondary=True)
    )
    equilibrium_velocity: float = field(metadata=unit("m/s"))
    velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    velocity_errors: NDArray[np.float64] = field(metadata=unit("m/s", error_of="velocities"))
    ratios: NDArray[np.float64] = field(metadata=unit("1"))
    ratio_errors: NDArray[np.float64] = field(metadata=unit("1", error_of="ratios"))
    changes: NDArray[np.float64] = field(metadata=unit("m/s"))
    change_errors: NDArray[np.float64] = field(
        metadata=unit("m/s", error_of="changes", secondary=True)
    )


@dataclass(frozen=True)
class FoldedDifferenceRecord:
    """Difference of averaged sorted levels between K and a step away from it, over the step.

    Where K folds onto Γ of the supercell the samples open K, and the difference falls with the
    opening: it depends on the cell and is no velocity, though a supercell band plot suggests it.

    Attributes:
        step: |k − K| of the second point; K→Γ and K→M are averaged.
        folded: whether K folds onto Γ of the supercell.
        equilibrium: of the undisplaced structure.
        values: (n_temperatures,), ½[E_c − E_v] at the step less that at K, over the step.
        errors: (n_temperatures,), standard errors.
        ratios: (n_temperatures,), over that of the equilibrium.
        ratio_errors: (n_temperatures,).
        equilibrium_opening: E_c − E_v at K, undisplaced.
        openings: (n_temperatures,), the same of the averaged sorted levels.
        opening_errors: (n_temperatures,).
    """

    step: float = field(metadata=unit("1/Å"))
    folded: bool = field(metadata=unit("1"))
    equilibrium: float = field(metadata=unit("m/s"))
    values: NDArray[np.float64] = field(metadata=unit("m/s"))
    errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    ratios: NDArray[np.float64] = field(metadata=unit("1"))
    ratio_errors: NDArray[np.float64] = field(metadata=unit("1"))
    equilibrium_opening: float = field(metadata=unit("eV"))
    openings: NDArray[np.float64] = field(metadata=unit("eV"))
    opening_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="openings", secondary=True)
    )


@dataclass(frozen=True)
class VelocityRecord:
    """Fermi velocity against temperature from one estimator.

    The last axis of ``energies`` is (valence, conduction), or (split-off valence, valence,
    conduction, split-off conduction) where the split-off bands of a bilayer take part in the fit.

    Error bars are standard errors of a bootstrap over groups of samples, with the same resamples at
    all temperatures; NaN for one group. A sorted average is NaN at temperatures where ghost states
    push the low bands out of the energy window.

    Attributes:
        distances: (n_points,), |k − K| of the points.
        equilibrium_energies: (n_points, n_bands), undisplaced, relative to the Dirac energy.
        energies: (n_temperatures, n_points, n_bands), relative to the Dirac energy of the
            equilibrium.
        energy_errors: (n_temperatures, n_points, n_bands).
        equilibrium_velocity: v of the free fit of the undisplaced structure, same points.
        velocities: (n_temperatures,), v of the free fit.
        velocity_errors: (n_temperatures,).
        ratios: (n_temperatures,), v_F(T) over that of the equilibrium.
        ratio_errors: (n_temperatures,).
        changes: (n_temperatures,), v_F(T) minus v_F of the first temperature.
        change_errors: (n_temperatures,), small thanks to common random numbers.
        equilibrium_gamma_1: γ₁ of the undisplaced structure; 0 with the linear dispersion.
        gamma_1: (n_temperatures,).
        gamma_1_errors: (n_temperatures,).
        equilibrium_slope: mean group velocity of the low bands in the window, undisplaced.
        slopes: (n_temperatures,), the same at temperature.
        slope_errors: (n_temperatures,).
        slope_ratios: (n_temperatures,), slope at temperature over that of the equilibrium; needs no
            model of the bands.
        slope_ratio_errors: (n_temperatures,).
        convergence_counts: (n_counts,), numbers of samples of the convergence study.
        convergence_velocities: (n_counts, n_temperatures), v of the free fit, first samples.
        convergence_errors: (n_counts, n_temperatures).
        pseudo_velocities: (n_groups, n_temperatures, 2), jackknife pseudo-values of v_F and of the
            mean slope, one per independent group of samples.
        slope_changes: (n_temperatures,), slope minus that of the first temperature; none in older
            files, like the following ones.
        slope_change_errors: (n_temperatures,), small thanks to common random numbers.
        convergence_slopes: (n_counts, n_temperatures), mean slope from the first samples.
        convergence_slope_errors: (n_counts, n_temperatures).
        pinned: v with γ₁ pinned by the split-off bands; None where there are none.
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
    """

    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    energy_errors: NDArray[np.float64] = field(metadata=unit("eV", error_of="energies"))
    equilibrium_velocity: float = field(metadata=unit("m/s"))
    velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    velocity_errors: NDArray[np.float64] = field(
        metadata=unit("m/s", error_of="velocities", secondary=True)
    )
    ratios: NDArray[np.float64] = field(metadata=unit("1"))
    ratio_errors: NDArray[np.float64] = field(metadata=unit("1", error_of="ratios", secondary=True))
    changes: NDArray[np.float64] = field(metadata=unit("m/s"))
    change_errors: NDArray[np.float64] = field(
        metadata=unit("m/s", error_of="changes", secondary=True)
    )
    equilibrium_gamma_1: float = field(metadata=unit("eV"))
    gamma_1: NDArray[np.float64] = field(metadata=unit("eV"))
    gamma_1_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="gamma_1", secondary=True)
    )
    equilibrium_slope: float = field(metadata=unit("m/s"))
    slopes: NDArray[np.float64] = field(metadata=unit("m/s"))
    slope_errors: NDArray[np.float64] = field(metadata=unit("m/s", error_of="slopes"))
    slope_ratios: NDArray[np.float64] = field(metadata=unit("1"))
    slope_ratio_errors: NDArray[np.float64] = field(metadata=unit("1", error_of="slope_ratios"))
    convergence_counts: NDArray[np.int64] = field(metadata=unit("1"))
    convergence_velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    convergence_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    pseudo_velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    slope_changes: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("m/s")
    )
    slope_change_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0),
        metadata=unit("m/s", error_of="slope_changes", secondary=True),
    )
    convergence_slopes: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("m/s")
    )
    convergence_slope_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("m/s")
    )
    pinned: PinnedRecord | None = None
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))


@dataclass(frozen=True)
class WindowRecord:
    """The same velocities from other windows of |k − K|.

    NaN where a window holds too few distances for a fit, and where there are no split-off bands.

    Attributes:
        windows: (n_windows, 2), smallest and largest |k − K|.
        equilibrium_velocities: (n_windows,), undisplaced.
        velocities: (n_windows, n_temperatures), v of the free fit.
        velocity_errors: (n_windows, n_temperatures), standard errors.
        equilibrium_slopes: (n_windows,), undisplaced.
        slopes: (n_windows, n_temperatures), mean group velocity of the low bands.
        slope_errors: (n_windows, n_temperatures), standard errors.
        equilibrium_pinned: (n_windows,), v with γ₁ pinned, undisplaced; none in older files.
        pinned: (n_windows, n_temperatures), v with γ₁ pinned by the split-off bands.
        pinned_errors: (n_windows, n_temperatures), standard errors.
    """

    windows: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    velocities: NDArray[np.float64] = field(metadata=unit("m/s"))
    velocity_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    equilibrium_slopes: NDArray[np.float64] = field(metadata=unit("m/s"))
    slopes: NDArray[np.float64] = field(metadata=unit("m/s"))
    slope_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    equilibrium_pinned: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("m/s")
    )
    pinned: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("m/s")
    )
    pinned_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("m/s")
    )


class VelocityAverage(Protocol):
    """What a record says of the estimates of v_F that it holds."""

    @property
    def temperatures(self) -> NDArray[np.float64]:
        """(n_temperatures,), K."""

    @property
    def n_samples(self) -> int:
        """Supercells per temperature."""

    @property
    def supercell(self) -> tuple[int, ...]:
        """Primitive cells along each lattice vector."""

    @property
    def velocity_window(self) -> tuple[float, ...]:
        """Smallest and largest |k − K| of the fits, Å⁻¹."""

    @property
    def dispersion(self) -> str:
        """Either "hyperbola" or "linear"."""

    @property
    def split_off_bands(self) -> bool:
        """Whether the split-off bands took part in the fits."""

    def velocity_estimates(self) -> Sequence[Estimate]:
        """Return the estimates of v_F that the record holds."""


class Estimate(NamedTuple):
    """v_F by one estimator.

    Attributes:
        name: of the estimator.
        velocity: from the window of the run.
        windows: the same from other windows.
        record: of its stage.
        method: how its spectra were made, whole sentences.
    """

    name: str
    velocity: VelocityRecord
    windows: WindowRecord
    record: VelocityAverage
    method: str = ""

    def where(self) -> str:
        """Say what the numbers depend on."""
        record = self.record
        low, high = record.velocity_window
        bands = " with split-off bands" if record.split_off_bands else ""
        return (
            f"{record.n_samples} samples of {'×'.join(str(n) for n in record.supercell)} cells, "
            f"{record.dispersion}{bands} at |k−K| = {low:g}–{high:g} Å⁻¹"
        )
