"""One frozen record per stage: what it found, in internal units.

Observables have their own file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.results.hdf5 import unit


@dataclass(frozen=True)
class StructureRecord:
    """The equilibrium structure of a run.

    Attributes:
        atoms: one cell, with the layer of each atom.
        source: file or builder that it came from.
        relaxation: "none", "positions" or "positions_and_cell".
        n_steps: relaxation steps taken.
        energy: eV, of the phonon network; None when it was not asked.
        max_force: eV/Å, largest force on an atom in the result; None likewise.
        spacings: (n_layers − 1,), distance between the mean planes of neighbouring layers, from
            bottom to top.
        note: why this structure was chosen, in the words of the config.
    """

    atoms: Atoms
    source: str
    relaxation: str = "none"
    n_steps: int = 0
    energy: float | None = field(default=None, metadata=unit("eV"))
    max_force: float | None = field(default=None, metadata=unit("eV/Å"))
    spacings: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), metadata=unit("Å"))
    note: str = ""


@dataclass(frozen=True)
class PhononRecord:
    """Force constants of the supercell with bands and density of states.

    Attributes:
        atoms: one cell.
        supercell: number of cells along each lattice vector.
        force_constants: (n_atoms, n_supercell, 3, 3), columns in the order of
            ``atoms.repeat(supercell)``.
        raw_sum_rule_residual: largest |Σ_b Φ_ab| of the plain derivatives.
        sum_rule_residual: the same of the stored force constants.
        band_qpoints: (n_qpoints, 3), fractional.
        band_distances: (n_qpoints,), along the path.
        band_frequencies: (n_qpoints, 3 n_atoms), imaginary shown negative.
        band_labels: special points of the path.
        band_label_distances: (n_labels,).
        dos_frequencies: (n_points,).
        dos: (n_points,), integrates to 3 n_atoms.
        lowest_frequency: of the modes of the supercell, translations apart; negative when
            imaginary.
        method: "displacements" or "derivatives".
        sum_rules: "none", "translational" or "rotational", imposed after the symmetry.
        raw_rotational_residual: largest violation of the rotational rule with its force terms,
            before the rules were imposed.
        rotational_residual: the same of the stored force constants.
        raw_huang_residual: largest violation of the Huang rule of a cell with its stress terms,
            before the rules were imposed.
        huang_residual: the same of the stored force constants.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    force_constants: NDArray[np.float64] = field(metadata=unit("eV/Å²"))
    raw_sum_rule_residual: float = field(metadata=unit("eV/Å²"))
    sum_rule_residual: float = field(metadata=unit("eV/Å²"))
    band_qpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    band_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    band_frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    band_labels: tuple[str, ...] = field(metadata=unit("1"))
    band_label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    dos_frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    dos: NDArray[np.float64] = field(metadata=unit("1/THz"))
    lowest_frequency: float = field(metadata=unit("THz"))
    method: str = "displacements"
    sum_rules: str = "none"
    raw_rotational_residual: float = field(default=float("nan"), metadata=unit("eV/Å"))
    rotational_residual: float = field(default=float("nan"), metadata=unit("eV/Å"))
    raw_huang_residual: float = field(default=float("nan"), metadata=unit("eV"))
    huang_residual: float = field(default=float("nan"), metadata=unit("eV"))

    def build_force_constants(self) -> ForceConstants:
        """Return the force constants in the form that ``mlepi.physics`` takes."""
        return ForceConstants(
            self.atoms, self.supercell, self.force_constants, self.raw_sum_rule_residual
        )


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
        project_out: "none", or "ZA" when rigid out-of-plane waves were left out.
        za_shares: (n_temperatures,), share of these waves in the harmonic mass-weighted ⟨u²⟩,
            before they were left out.
        convergence_counts: (n_counts,), sample sizes.
        convergence: (n_counts, n_temperatures, 2), ⟨u²⟩ of the first so many samples, in plane and
            out of plane, mean over atoms.
        convergence_errors: (n_counts, n_temperatures, 2), standard errors by the groups; NaN with
            fewer than two.
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


@dataclass(frozen=True)
class HamiltonianRecord:
    """Hamiltonian and overlap of the equilibrium structure; the blocks lie in a file of their own.

    Attributes:
        file: name in the run folder, layout of ``mlepi.results.hamiltonian_file``.
        checksum: SHA-256 of the blocks and edges in that file.
        n_orbitals: size of H(k) and S(k).
        n_edges: blocks, on-site ones and both directions included.
        kpoints: (n_kpoints, 3), where the overlap was examined.
        smallest_overlap_eigenvalues: (n_kpoints,); values near or below zero mean ghost states.
    """

    file: str
    checksum: str
    n_orbitals: int
    n_edges: int
    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    smallest_overlap_eigenvalues: NDArray[np.float64] = field(metadata=unit("1"))
