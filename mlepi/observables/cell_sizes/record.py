"""The record of a series of cell sizes: v_F by every estimator, and its limit of infinite cells.

``values`` holds v of the free fit and the mean slope; what is quoted beside the slope, v with γ₁
pinned by the split-off bands, has fields of its own, which older files lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit

OWN_UNIT = "as the quantity"


@dataclass(frozen=True)
class QuantityLimits:
    """One quantity of a record in cells of several sizes, and straight lines in 1/N through it.

    All numbers are in the unit of the quantity; NaN where fewer than two sizes tell.

    Attributes:
        unit_name: of the quantity.
        values: (n_sizes, n_temperatures, …).
        errors: (n_sizes, n_temperatures, …), standard errors.
        limits: (n_temperatures, …), at 1/N → 0.
        limit_errors: (n_temperatures, …), from the errors of the values.
        chi_squared: (n_temperatures, …).
        degrees_of_freedom: (n_temperatures, …).
        distances: (n_sizes, n_temperatures, …), values less the limit.
        distance_errors: (n_sizes, n_temperatures, …), standard errors of these, larger where the
            sizes are on no line (``SizeFit``).
    """

    unit_name: str = field(metadata=unit("1"))
    values: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))
    errors: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))
    limits: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))
    limit_errors: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))
    chi_squared: NDArray[np.float64] = field(metadata=unit("1"))
    degrees_of_freedom: NDArray[np.int64] = field(metadata=unit("1"))
    distances: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))
    distance_errors: NDArray[np.float64] = field(metadata=unit(OWN_UNIT))

    def cell_parts(self) -> NDArray[np.float64]:
        """Return the size of the error of every cell: (n_sizes, n_temperatures, …).

        The distance from the limit, or its standard error where that is larger: a series too noisy
        to see a distance has not shown that there is none.
        """
        return np.maximum(np.abs(self.distances), self.distance_errors)


@dataclass(frozen=True)
class CellSizesRecord:
    """Velocities of runs with cells of several sizes, and straight lines in 1/N through them.

    Attributes:
        sizes: (n_sizes,), N of N × N cells.
        n_samples: (n_sizes,), supercells per temperature.
        temperatures: (n_temperatures,).
        velocity_window: smallest and largest |k − K| of the fits.
        dispersion: "hyperbola" or "linear".
        estimators: names.
        equilibrium: (n_estimators, 2), v_F and mean slope of the undisplaced structure.
        values: (n_estimators, 2, n_sizes, n_temperatures), v of the free fit and mean slope; NaN
            where a run does not tell.
        errors: (n_estimators, 2, n_sizes, n_temperatures), bootstrap.
        limits: (n_estimators, 2, n_temperatures), value at 1/N → 0; NaN with fewer than two sizes
            that tell.
        limit_errors: (n_estimators, 2, n_temperatures).
        chi_squared: (n_estimators, 2, n_temperatures).
        degrees_of_freedom: (n_estimators, 2, n_temperatures).
        project_out: what the samples leave out, as the sampling stage names it.
        relaxation: of the structure, as the structure stage names it; empty where not known.
        equilibrium_pinned: (n_estimators,), v with γ₁ pinned, undisplaced; NaN without split-off
            bands.
        pinned: (n_estimators, n_sizes, n_temperatures).
        pinned_errors: (n_estimators, n_sizes, n_temperatures).
        windows: (n_windows, 2), smallest and largest |k − K|, that of the fits first.
        models: names of the models of the bands.
        window_ratios: (n_estimators, n_windows, n_models, n_sizes, n_temperatures), velocity over
            that of the undisplaced structure.
        window_ratio_errors: (n_estimators, n_windows, n_models, n_sizes, n_temperatures).
        folds: (n_sizes,) bool, whether K folds onto Γ of the supercell.
        difference_step: dk of the folded finite difference.
        differences: (n_sizes, n_temperatures), folded finite difference over that of the
            undisplaced structure: an opening of K, not a velocity.
        difference_errors: (n_sizes, n_temperatures).
        openings: (n_sizes, n_temperatures), E_c − E_v of the averaged sorted levels at K.
        opening_errors: (n_sizes, n_temperatures).
        shear: (n_sizes, n_temperatures), ⟨d²⟩ of neighbouring layers in plane in the samples, the
            largest of all pairs.
        mesh_shear: (n_sizes, n_temperatures), the same on a dense mesh, by the force constants of
            each size.
        spreads: (n_estimators, n_sizes, n_temperatures), half the range of ``window_ratios`` over
            windows outside the parabolic core and the models that are quoted.
        ghosts: (n_sizes, n_temperatures, 2), samples with a ghost state, by H as predicted and with
            the level shift; NaN where they were not counted.
        left_out: (n_sizes,), snapshots that no average contains because of them.
        structure: of the samples at rest: lattice constant, spacing of the lowest pair of layers,
            largest force on an atom but for what holds the layers, largest out-of-plane force on a
            layer per atom; NaN where not known.
        networks: electron and phonon network, as the config names them.
        system: what the runs share, "structure", "phonon", "hamiltonian", "sampling" and
            "level_shift" → settings and digests, JSON.
        observables: stage → settings that the runs share, JSON.
        quantities: stage and path of every quantity, with dots between them → its limits.
    """

    sizes: NDArray[np.int64] = field(metadata=unit("1"))
    n_samples: NDArray[np.int64] = field(metadata=unit("1"))
    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    velocity_window: tuple[float, ...] = field(metadata=unit("1/Å"))
    dispersion: str = field(metadata=unit("1"))
    estimators: tuple[str, ...] = field(metadata=unit("1"))
    equilibrium: NDArray[np.float64] = field(metadata=unit("m/s"))
    values: NDArray[np.float64] = field(metadata=unit("m/s"))
    errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    limits: NDArray[np.float64] = field(metadata=unit("m/s"))
    limit_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    chi_squared: NDArray[np.float64] = field(metadata=unit("1"))
    degrees_of_freedom: NDArray[np.int64] = field(metadata=unit("1"))
    project_out: str = "none"
    relaxation: str = ""
    equilibrium_pinned: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 1), metadata=unit("m/s")
    )
    pinned: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 3), metadata=unit("m/s")
    )
    pinned_errors: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 3), metadata=unit("m/s")
    )
    windows: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("1/Å")
    )
    models: tuple[str, ...] = field(default=(), metadata=unit("1"))
    window_ratios: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 5), metadata=unit("1")
    )
    window_ratio_errors: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 5), metadata=unit("1")
    )
    folds: NDArray[np.bool_] = field(
        default_factory=lambda: np.empty(0, dtype=np.bool_), metadata=unit("1")
    )
    difference_step: float = field(default=float("nan"), metadata=unit("1/Å"))
    differences: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("1")
    )
    difference_errors: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("1")
    )
    openings: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("eV")
    )
    opening_errors: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("eV")
    )
    shear: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("Å²")
    )
    mesh_shear: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 2), metadata=unit("Å²")
    )
    spreads: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 3), metadata=unit("1")
    )
    ghosts: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0,) * 3), metadata=unit("1")
    )
    left_out: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64), metadata=unit("1")
    )
    structure: tuple[float, ...] = field(default=(), metadata=unit("Å, Å, eV/Å, eV/Å"))
    networks: tuple[str, ...] = field(default=(), metadata=unit("1"))
    system: Mapping[str, str] = field(default_factory=dict)
    observables: Mapping[str, str] = field(default_factory=dict)
    quantities: Mapping[str, QuantityLimits] = field(default_factory=dict)
