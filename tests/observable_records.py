"""Records of the observables, written by hand for figures and reports."""

from __future__ import annotations

import numpy as np

from mlepi.results import SelfEnergyRecord, VelocityRecord

TEMPERATURES = np.array([0.0, 150.0, 300.0])
MAP = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


def self_energy_record(velocity: VelocityRecord) -> SelfEnergyRecord:
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
        velocity=velocity,
    )
