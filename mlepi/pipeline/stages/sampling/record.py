"""The record of the sampling stage: the thermal ensemble and how well its snapshots show it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.results import unit


@dataclass(frozen=True)
class SamplingRecord:
    """The thermal ensemble.

    Snapshots are not stored: seed, index and force constants give them again.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: snapshots per temperature.
        seed: of the ensemble.
        statistics: "quantum" or "classical".
        imaginary: what was done with modes that have no positive frequency.
        floor_frequency: used with imaginary = "floor".
        n_soft_modes: number of modes that were frozen or raised to the floor.
        mean_square_displacements: (n_temperatures, n_atoms, 3), exact ⟨u²⟩ of the Gaussian.
        sampled_mean_square_displacements: (n_temperatures, n_atoms, 3), of the snapshots of this
            run.
        max_displacements: (n_temperatures,), largest displacement of any atom in any snapshot.
        sampler: class of the sampler.
        n_groups: groups of samples that are independent of each other; error bars count these.
        effective_sample_size: number of equally weighted samples that would be as precise;
            ``n_samples`` without weights.
        project_out: "none", "ZA" when rigid out-of-plane waves were left out, or
            "interlayer_gamma" when the rigid-layer modes of Γ were frozen.
        za_shares: (n_temperatures,), share of these waves in the harmonic mass-weighted ⟨u²⟩,
            before they were left out.
        convergence_counts: (n_counts,), sample sizes.
        convergence: (n_counts, n_temperatures, 2), ⟨u²⟩ of the first so many samples, in plane and
            out of plane, mean over atoms.
        convergence_errors: (n_counts, n_temperatures, 2), standard errors by the groups; NaN with
            fewer than two.
        advice: what the sampler has to say about this number of samples.
        supercell: primitive cells along each lattice vector; none in older files, like all that
            follows.
        interlayer_motion: (n_temperatures, n_layers − 1, 2), mean square motion of neighbouring
            layers against each other, cell by cell, of the ensemble that is sampled: shear ⟨d_x² +
            d_y²⟩ and spacing ⟨d_z²⟩.
        harmonic_interlayer_motion: the same with the modes that were projected out.
        mesh_interlayer_motion: the same on a dense mesh of wave vectors, as of a large crystal.
        interlayer_mesh: divisions of that mesh.
        n_soft_mesh_modes: modes of the mesh without a positive frequency, left at rest.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    seed: int = field(metadata=unit("1"))
    statistics: str = field(metadata=unit("1"))
    imaginary: str = field(metadata=unit("1"))
    floor_frequency: float = field(metadata=unit("THz"))
    n_soft_modes: int = field(metadata=unit("1"))
    mean_square_displacements: NDArray[np.float64] = field(metadata=unit("Å²"))
    sampled_mean_square_displacements: NDArray[np.float64] = field(metadata=unit("Å²"))
    max_displacements: NDArray[np.float64] = field(metadata=unit("Å"))
    sampler: str = "MonteCarlo"
    n_groups: int = field(default=0, metadata=unit("1"))
    effective_sample_size: float = field(default=0.0, metadata=unit("1"))
    project_out: str = "none"
    za_shares: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), metadata=unit("1"))
    convergence_counts: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64), metadata=unit("1")
    )
    convergence: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0, 2)), metadata=unit("Å²")
    )
    convergence_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0, 2)), metadata=unit("Å²")
    )
    advice: tuple[str, ...] = ()
    supercell: tuple[int, ...] = field(default=(), metadata=unit("1"))
    interlayer_motion: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0, 2)), metadata=unit("Å²")
    )
    harmonic_interlayer_motion: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0, 2)), metadata=unit("Å²")
    )
    mesh_interlayer_motion: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0, 2)), metadata=unit("Å²")
    )
    interlayer_mesh: tuple[int, ...] = field(default=(), metadata=unit("1"))
    n_soft_mesh_modes: int = field(default=0, metadata=unit("1"))

    def build_distribution(self, phonon: PhononRecord, device: str) -> HarmonicEnsemble:
        """Return the harmonic distribution.

        Args:
            phonon: force constants of the same run.
            device: where displacements are computed.
        """
        return HarmonicEnsemble(
            compute_modes(phonon.build_force_constants()),
            tuple(self.temperatures),
            self.statistics,  # type: ignore[arg-type]
            self.imaginary,  # type: ignore[arg-type]
            self.floor_frequency,
            self.project_out,  # type: ignore[arg-type]
            device,
        )
