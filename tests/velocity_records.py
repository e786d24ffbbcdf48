"""Records with estimates of v_F, written by hand for figures, tables and reports."""

from __future__ import annotations

import numpy as np

from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.observables.near_k.record import (
    FoldedDifferenceRecord,
    PinnedRecord,
    VelocityRecord,
    WindowRecord,
)
from mlepi.observables.self_energy.record import SelfEnergyRecord

TEMPERATURES = np.array([0.0, 150.0, 300.0])
MAP = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


def window_record() -> WindowRecord:
    known = np.array([[1.0], [np.nan]])  # the second window holds too few distances
    values, errors = 8.0e5 * known * np.ones(3), 0.03e5 * known * np.ones(3)
    return WindowRecord(
        np.array([[0.05, 0.1], [0.09, 0.1]]),
        8.7e5 * known[:, 0],
        values,
        errors,
        8.1e5 * known[:, 0],
        values - 0.5e5,
        errors,
        8.75e5 * known[:, 0],
        values + 0.5e5,
        errors,
    )


def velocity_record(v: float) -> VelocityRecord:
    energies = np.tile(np.array([[-0.3, 0.3]]), (4, 1))
    ones = np.ones(3)
    return VelocityRecord(
        distances=np.array([0.1, 0.05, 0.05, 0.1]),
        equilibrium_energies=energies,
        energies=np.tile(energies, (3, 1, 1)),
        energy_errors=np.full((3, 4, 2), 0.01),
        equilibrium_velocity=8.7e5,
        velocities=v * ones,
        velocity_errors=0.02e5 * ones,
        ratios=v / 8.7e5 * ones,
        ratio_errors=0.002 * ones,
        changes=np.array([0.0, -0.01e5, -0.02e5]),
        change_errors=np.array([0.0, 0.001e5, 0.001e5]),
        equilibrium_gamma_1=0.4,
        gamma_1=0.39 * ones,
        gamma_1_errors=0.01 * ones,
        equilibrium_slope=7.6e5,
        slopes=7.2e5 * ones,
        slope_errors=0.02e5 * ones,
        slope_ratios=0.947 * ones,
        slope_ratio_errors=0.003 * ones,
        convergence_counts=np.array([2, 30]),
        convergence_velocities=np.full((2, 3), v),
        convergence_errors=np.full((2, 3), 0.03e5),
        pseudo_velocities=np.full((30, 3, 2), v),
        slope_changes=np.array([0.0, -0.015e5, -0.03e5]),
        slope_change_errors=np.array([0.0, 0.002e5, 0.002e5]),
        convergence_slopes=np.full((2, 3), v - 1e5),
        convergence_slope_errors=np.full((2, 3), 0.02e5),
        pinned=PinnedRecord(
            distance=0.0,
            equilibrium_gamma_1=0.38,
            gamma_1=0.37 * ones,
            gamma_1_errors=0.002 * ones,
            equilibrium_velocity=8.75e5,
            velocities=(v + 0.25e5) * ones,
            velocity_errors=0.015e5 * ones,
            ratios=(v + 0.25e5) / 8.75e5 * ones,
            ratio_errors=0.0015 * ones,
            changes=np.array([0.0, -0.012e5, -0.024e5]),
            change_errors=np.array([0.0, 0.001e5, 0.001e5]),
        ),
    )


def folded_difference_record() -> FoldedDifferenceRecord:
    return FoldedDifferenceRecord(
        step=0.02,
        folded=True,
        equilibrium=2.25e5,
        values=np.array([1.5e5, 1.4e5, 1.35e5]),
        errors=np.full(3, 0.1e5),
        ratios=np.array([1.5, 1.4, 1.35]) / 2.25,
        ratio_errors=np.full(3, 0.1 / 2.25),
        equilibrium_opening=0.0,
        openings=np.array([0.025, 0.028, 0.030]),
        opening_errors=np.full(3, 0.002),
    )


def fermi_velocity_record() -> FermiVelocityRecord:
    energies = np.linspace(-1, 1, 41)
    lines = np.exp(-(((energies[None, :] - 5 * np.abs(MAP)[:, None]) / 0.1) ** 2))
    return FermiVelocityRecord(
        fermi_energy=-3.6,
        electronic_temperature=300.0,
        n_electrons=16.0,
        dirac_energy=-3.61,
        band_kpoints=np.zeros((7, 3)),
        band_distances=np.linspace(0, 3, 7),
        band_labels=("Γ", "K", "M", "Γ"),
        band_label_distances=np.array([0.0, 1.0, 2.0, 3.0]),
        bands=np.tile(np.linspace(-20, 10, 8), (7, 1)),
        dos_mesh=(6, 6, 1),
        dos_energies=np.linspace(-10, 6, 30),
        dos=np.ones(30),
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        line_shape="gaussian",
        line_width=0.05,
        peak_width=0.1,
        energies=energies,
        map_distances=MAP,
        equilibrium_spectral_function=lines,
        spectral_functions=np.stack([lines] * 3),
        captured_weights=np.array([0.99, 0.98, 0.97]),
        miscounted_shares=np.zeros(3),
        velocity_window=(0.04, 0.1),
        dispersion="hyperbola",
        split_off_bands=False,
        n_resamples=200,
        spectral=velocity_record(8.2e5),
        sorted_average=velocity_record(6.1e5),
        velocity_operator=velocity_record(7.4e5),
        band_slopes=np.full((3, 4, 2), 5.0),
        equilibrium_band_slopes=np.full((4, 2), 5.6),
        spectral_windows=window_record(),
        sorted_windows=window_record(),
        operator_windows=window_record(),
        folded_difference=folded_difference_record(),
    )


def self_energy_record(velocity: VelocityRecord | None = None) -> SelfEnergyRecord:
    energies = np.linspace(-1, 1, 41)
    bare = 5.0 * np.abs(MAP)[:, None] * np.array([-1.0, 1.0])
    found = np.stack([bare * (1.0 - 0.01 * (1 + i)) for i in range(3)])
    z = energies + 0.05j
    sigma = 0.01 / (z - bare[..., None])[None].repeat(3, axis=0)
    green = 1.0 / (z - bare[..., None] - sigma)
    return SelfEnergyRecord(
        temperatures=TEMPERATURES,
        n_samples=30,
        supercell=(6, 6, 1),
        dirac_energy=-3.61,
        broadening=0.05,
        energies=energies,
        map_distances=MAP,
        bare_energies=bare,
        spectral_functions=-green.imag / np.pi,
        self_energies=sigma,
        quasiparticle_energies=found,
        quasiparticle_errors=np.full_like(found, 0.002),
        weights=np.full_like(found, 0.9),
        weight_errors=np.full_like(found, 0.01),
        widths=np.full_like(found, 0.1),
        width_errors=np.full_like(found, 0.01),
        first_order_shifts=np.full_like(found, -0.005),
        first_order_errors=np.full_like(found, 0.001),
        second_moments=np.full_like(found, 0.1),
        velocity_window=(0.04, 0.1),
        dispersion="hyperbola",
        split_off_bands=False,
        n_resamples=200,
        velocity=velocity_record(8.1e5) if velocity is None else velocity,
        windows=window_record(),
    )
