"""The record of the band_geometry stage.

Berry curvature, quantum metric and Berry phases of the averaged Bloch Hamiltonian.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class BandGeometryRecord:
    """Geometry of a set of bands near K.

    Error bars are those of a jackknife over blocks of samples.

    H and S of each supercell are averaged over its cells; their Bloch sums are the first and the
    zeroth moment of its spectral function. Averaged over the samples is H̃ = S^{-1/2} H S^{-1/2} of
    these, from the sample's own energy zero.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature.
        supercell: primitive cells along each lattice vector.
        bands: the chosen bands, counted from the lowest empty one (−1 is the highest occupied).
        distances: (n_points,), k − K along M–K–Γ, negative towards M.
        equilibrium_gaps: (n_points,), smallest distance of a chosen band from another, undisplaced.
        gaps: (n_temperatures, n_points).
        equilibrium_curvatures: (n_points,), Ω_z; NaN where chosen bands touch others.
        curvatures: (n_temperatures, n_points).
        curvature_errors: (n_temperatures, n_points).
        equilibrium_metrics: (n_points, 2, 2), g_xx … g_yy; NaN likewise.
        metrics: (n_temperatures, n_points, 2, 2).
        metric_errors: (n_temperatures, n_points, 2, 2).
        loop_radius: of the circle around K.
        equilibrium_berry_phase: of that circle, between −π and π.
        berry_phases: (n_temperatures,).
        berry_phase_errors: (n_temperatures,).
        map_steps: (n_map,), k_x − K_x and k_y − K_y of the maps.
        equilibrium_maps: (2, n_map, n_map), Ω_z and tr g, first index of the map along x.
        maps: (n_temperatures, 2, n_map, n_map).
        convergence_counts: (n_counts,), numbers of samples of the convergence study.
        convergence_traces: (n_counts, n_temperatures), mean of |k − K|² tr g over the line, from
            the first samples; ¼ on a cone.
        convergence_errors: (n_counts, n_temperatures).
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
        zero_shifts: (n_temperatures,), mean energy zero of the samples, least squares among the
            occupied states, from that of the undisplaced cell; it was taken out of every sample.
            None in records of earlier versions, whose blocks were averaged as they were.
        zero_shift_spreads: (n_temperatures,), standard deviation from sample to sample.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    bands: tuple[int, ...] = field(metadata=unit("1"))
    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_gaps: NDArray[np.float64] = field(metadata=unit("eV"))
    gaps: NDArray[np.float64] = field(metadata=unit("eV"))
    equilibrium_curvatures: NDArray[np.float64] = field(metadata=unit("Å²"))
    curvatures: NDArray[np.float64] = field(metadata=unit("Å²"))
    curvature_errors: NDArray[np.float64] = field(metadata=unit("Å²", error_of="curvatures"))
    equilibrium_metrics: NDArray[np.float64] = field(metadata=unit("Å²"))
    metrics: NDArray[np.float64] = field(metadata=unit("Å²"))
    metric_errors: NDArray[np.float64] = field(metadata=unit("Å²", error_of="metrics"))
    loop_radius: float = field(metadata=unit("1/Å"))
    equilibrium_berry_phase: float = field(metadata=unit("rad"))
    berry_phases: NDArray[np.float64] = field(metadata=unit("rad"))
    berry_phase_errors: NDArray[np.float64] = field(metadata=unit("rad", error_of="berry_phases"))
    map_steps: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_maps: NDArray[np.float64] = field(metadata=unit("Å²"))
    maps: NDArray[np.float64] = field(metadata=unit("Å²"))
    convergence_counts: NDArray[np.int64] = field(metadata=unit("1"))
    convergence_traces: NDArray[np.float64] = field(metadata=unit("1"))
    convergence_errors: NDArray[np.float64] = field(metadata=unit("1"))
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
    zero_shifts: NDArray[np.float64] | None = field(default=None, metadata=unit("eV"))
    zero_shift_spreads: NDArray[np.float64] | None = field(default=None, metadata=unit("eV"))

    @property
    def equilibrium_traces(self) -> NDArray[np.float64]:
        """Trace of the metric, undisplaced, (n_points,), Å²."""
        return np.asarray(np.trace(self.equilibrium_metrics, axis1=-2, axis2=-1))

    @property
    def traces(self) -> NDArray[np.float64]:
        """Trace of the metric, (n_temperatures, n_points), Å²."""
        return np.asarray(np.trace(self.metrics, axis1=-2, axis2=-1))

    @property
    def trace_errors(self) -> NDArray[np.float64]:
        """Sum of the errors of g_xx and g_yy, (n_temperatures, n_points), Å²: an upper bound."""
        return np.asarray(np.trace(self.metric_errors, axis1=-2, axis2=-1))

    @property
    def equilibrium_mean_trace(self) -> float:
        """Mean of |k − K|² tr g over the line, undisplaced."""
        return float(np.nanmean(self.distances**2 * self.equilibrium_traces))
