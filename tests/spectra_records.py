"""Records of bands, spectra and band geometry, written by hand for figures and reports."""

from __future__ import annotations

import numpy as np

from mlepi.observables.band_geometry.record import BandGeometryRecord
from mlepi.observables.conductivity.record import ConductivityRecord
from mlepi.observables.dos.record import DosRecord
from mlepi.observables.effective_mass.record import EffectiveMassRecord
from mlepi.observables.gap.record import GapRecord

TEMPERATURES = np.array([0.0, 150.0, 300.0])
MAP = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


def gap_record() -> GapRecord:
    rest, energies = np.array([[-0.25, 0.25]]), np.linspace(-1, 1, 41)
    bands = np.stack([rest * (1.0 - 0.05 * i) for i in range(3)])
    return GapRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        reference=-3.6,
        align="none",
        peak_width=0.05,
        kpoints=np.array([[1 / 3, 1 / 3, 0.0]]),
        equilibrium=rest,
        energies=energies,
        centres=np.zeros(2),
        spectral_functions=np.exp(-((energies - bands[..., None]) ** 2) / 0.01),
        band_energies=bands,
        band_errors=np.full_like(bands, 0.003),
        equilibrium_gap=0.5,
        gaps=bands[:, 0, 1] - bands[:, 0, 0],
        gap_errors=np.full(3, 0.004),
        gap_changes=np.array([0.0, -0.025, -0.05]),
        gap_change_errors=np.array([0.0, 0.001, 0.001]),
        supercell_edges=np.tile([-0.24, 0.24, 0.48], (3, 1)),
        supercell_edge_errors=np.full((3, 3), 0.002),
    )


def effective_mass_record() -> EffectiveMassRecord:
    distances, signs = np.linspace(-0.03, 0.03, 7), np.array([-1.0, 1.0])
    bands = signs * np.sqrt(0.25**2 + (5.6 * distances[:, None]) ** 2)
    masses = np.tile(0.06 * signs, (3, 1))
    return EffectiveMassRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        kpoint=np.array([1 / 3, 1 / 3, 0.0]),
        toward=np.zeros(3),
        order=4,
        peak_width=0.05,
        distances=distances,
        equilibrium=bands,
        band_energies=np.stack([bands] * 3),
        band_errors=np.full((3, 7, 2), 0.002),
        equilibrium_masses=0.06 * signs,
        masses=masses,
        mass_errors=np.full((3, 2), 0.003),
        mass_changes=np.zeros((3, 2)),
        mass_change_errors=np.full((3, 2), 0.001),
    )


def dos_record() -> DosRecord:
    energies = np.linspace(-10, 6, 40)
    dos = 1.0 + 0.1 * energies**2
    return DosRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        mesh=(2, 2, 1),
        reference=-3.6,
        align="none",
        width=0.15,
        energies=energies,
        channels=("C p", "C s"),
        n_electrons=16.0,
        n_orbitals=32,
        equilibrium=dos,
        equilibrium_projections=np.stack([0.7 * dos, 0.3 * dos]),
        dos=np.stack([dos] * 3),
        dos_errors=np.full((3, 40), 0.05),
        projections=np.stack([np.stack([0.7 * dos, 0.3 * dos])] * 3),
        integrated=np.cumsum(np.stack([dos] * 3), axis=1),
        fermi_shifts=np.zeros(3),
        fermi_shift_errors=np.full(3, 0.001),
    )


def conductivity_record() -> ConductivityRecord:
    energies = np.linspace(0, 2, 21)
    sigma = np.ones((3, 21)) * (1.0 - 1e-4 * TEMPERATURES[:, None])
    return ConductivityRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        n_layers=2,
        mesh=(2, 2, 1),
        equilibrium_mesh=(120, 120, 1),
        electronic_temperature=300.0,
        line_width=0.1,
        universal_conductivity=6.0853e-5,
        energies=energies,
        equilibrium_conductivity=np.ones(21),
        conductivities=sigma,
        conductivity_errors=np.full((3, 21), 0.02),
        equilibrium_joint_density=5e-3 * energies,
        joint_densities=sigma * 5e-3 * energies,
        joint_density_errors=np.full((3, 21), 1e-4),
        fermi_shifts=np.array([-0.03, -0.03, -0.04]),
        ghosts=np.zeros(3),
        window=(0.5, 1.5),
        equilibrium_mean=1.0,
        means=sigma.mean(axis=1),
        mean_errors=np.full(3, 0.01),
        convergence_counts=np.array([2, 30]),
        convergence_means=np.ones((2, 3)),
        convergence_errors=np.full((2, 3), 0.02),
    )


def geometry_record() -> BandGeometryRecord:
    metrics = np.tile(np.eye(2), (3, 5, 1, 1)) * (1.0 + 1e-3 * TEMPERATURES[:, None, None, None])
    return BandGeometryRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        bands=(-2, -1),
        distances=MAP,
        equilibrium_gaps=np.full(5, 0.2),
        gaps=np.full((3, 5), 0.2),
        equilibrium_curvatures=np.zeros(5),
        curvatures=np.zeros((3, 5)),
        curvature_errors=np.full((3, 5), 0.1),
        equilibrium_metrics=metrics[0],
        metrics=metrics,
        metric_errors=0.1 * metrics,
        loop_radius=0.06,
        equilibrium_berry_phase=0.0,
        berry_phases=np.zeros(3),
        berry_phase_errors=np.full(3, 0.01),
        map_steps=MAP,
        equilibrium_maps=np.ones((2, 5, 5)),
        maps=np.ones((3, 2, 5, 5)),
        convergence_counts=np.array([2, 30]),
        convergence_traces=np.ones((2, 3)),
        convergence_errors=np.full((2, 3), 0.02),
    )
