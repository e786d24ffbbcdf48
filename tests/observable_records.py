"""Records of the observables, written by hand for figures and reports.

Those with estimates of v_F stand in ``velocity_records``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from velocity_records import self_energy_record, window_record  # noqa: F401

from mlepi.results import (
    BandGeometryRecord,
    ConductivityRecord,
    ControlledRecord,
    ControlRecord,
    DomainRecord,
    DosRecord,
    EffectiveMassRecord,
    GapRecord,
    LinearResponseRecord,
    SecondOrderRecord,
    TightBindingRecord,
)

TEMPERATURES = np.array([0.0, 150.0, 300.0])
MAP = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


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


def second_order_record(mesh, slope: float) -> SecondOrderRecord:
    """Fan −6 %, Debye–Waller −1 %, phonon energies +2 % of the slope."""
    shift = 5.0 * np.array([0.1, 0.05, 0.05, 0.1])[:, None] * np.array([-1.0, 1.0])
    terms = [share * np.tile(shift, (3, 1, 1)) for share in (-0.06, -0.01, 0.02)]
    ones = np.ones(3)
    return SecondOrderRecord(
        mesh=mesh,
        n_resting_modes=0,
        mean_square_displacements=np.array([0.006, 0.007, 0.009]),
        fan=terms[0],
        debye_waller=terms[1],
        nonadiabatic=terms[2],
        static_velocities=0.93 * slope * ones,
        static_gamma_1=0.36 * ones,
        static_slopes=0.93 * slope * ones,
        dynamic_velocities=0.95 * slope * ones,
        dynamic_gamma_1=0.36 * ones,
        dynamic_slopes=0.95 * slope * ones,
        fan_slopes=-0.06 * slope * ones,
        debye_waller_slopes=-0.01 * slope * ones,
        nonadiabatic_slopes=0.02 * slope * ones,
    )


def linear_response_record(slope: float = 7.0e5) -> LinearResponseRecord:
    distances = np.array([-0.1, -0.05, 0.05, 0.1])
    denser = second_order_record((24, 24, 1), slope)
    return LinearResponseRecord(
        temperatures=TEMPERATURES,
        supercell=(6, 6, 1),
        derivatives="forward-mode differentiation",
        translation_residual=6e-14,
        border_share=1e-3,
        broadening=0.05,
        chemical_potential=0.0,
        dirac_energy=-3.6,
        map_distances=distances,
        equilibrium_energies=5.0 * np.abs(distances)[:, None] * np.array([-1.0, 1.0]),
        velocity_window=(0.04, 0.1),
        dispersion="hyperbola",
        split_off_bands=False,
        equilibrium_velocity=8.7e5,
        equilibrium_gamma_1=0.36,
        equilibrium_slope=slope,
        in_supercell=second_order_record((6, 6, 1), slope),
        interpolated=replace(denser, static_slopes=0.96 * slope * np.ones(3)),
    )


def domain_record() -> DomainRecord:
    rng = np.random.default_rng(0)
    values = rng.normal([1.3, 1.55, 3.0, 3.3, 0.2, 0.3], 0.02, size=(30, 3, 6))
    return DomainRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        quantities=(
            "nearest pair",
            "longest bond",
            "nearest interlayer pair",
            "spacing",
            "height",
            "displacement",
        ),
        source="data.h5, train of split.json",
        n_training=2,
        training_values=np.array(
            [[1.25, 1.5, 2.9, 3.1, 0.1, np.nan], [1.3, 1.6, 3.1, 3.4, 0.25, np.nan]]
        ),
        training_ranges=np.array(
            [[1.25, 1.3], [1.5, 1.6], [2.9, 3.1], [3.1, 3.4], [0.1, 0.25], [np.nan, np.nan]]
        ),
        values=values,
        distances=np.full((30, 3), -0.5),
        worst_quantities=np.zeros((30, 3), dtype=np.int64),
        ghosts=np.zeros((30, 3), dtype=np.int64),
        n_electron_networks=2,
        hamiltonian_spreads=np.full((30, 3), 1e-3),
        training_hamiltonian_spreads=np.array([0.5e-3, 1.5e-3]),
        n_phonon_networks=1,
        force_spreads=np.empty((0, 0)),
        training_force_spreads=np.empty(0),
        rank_by="distance",
        worst_samples=np.array([3]),
        worst_temperatures=np.array([300.0]),
        label_files=("label/openmx/sample_000003_300K.dat",),
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


def tight_binding_record() -> TightBindingRecord:
    levels = np.linspace(-0.8, 0.8, 8).reshape(1, 1, 8)
    return TightBindingRecord(
        -2.66, 2.9, 0.315, 7.8, 1.42, 3.35, 2, 8.6e5, 0.021, np.zeros((1, 3)), levels, levels + 0.02
    )


def control_record() -> ControlRecord:
    ones = np.ones((3, 3))
    one = ControlledRecord(
        plain=8.2e5 * ones,
        plain_errors=0.03e5 * ones,
        values=8.15e5 * ones,
        errors=0.01e5 * ones,
        coefficients=ones,
        correlations=0.97 * ones,
        variance_reductions=9.0 * ones,
        sample_reductions=17.0 * ones,
    )
    return ControlRecord(TEMPERATURES, 30, 1000, one, one)
