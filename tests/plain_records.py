"""Records of stages that look at samples one by one or at none, written by hand for figures.

Others stand in ``velocity_records`` and ``spectra_records``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlepi.observables.control_variate.record import ControlledRecord, ControlVariateRecord
from mlepi.observables.domain.record import DomainRecord
from mlepi.observables.labelled_bands.record import (
    LabelledBandsRecord,
    LevelErrors,
    SampleBands,
)
from mlepi.observables.linear_response.record import LinearResponseRecord, SecondOrderRecord
from mlepi.observables.phonon_reference.record import PhononReferenceRecord
from mlepi.observables.sparse_bands.record import ContinuumRecord, SparseBandsRecord
from mlepi.observables.tight_binding.record import TightBindingRecord
from mlepi.units import THZ_TO_INVERSE_CM

TEMPERATURES = np.array([0.0, 150.0, 300.0])


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


def tight_binding_record() -> TightBindingRecord:
    levels = np.linspace(-0.8, 0.8, 8).reshape(1, 1, 8)
    return TightBindingRecord(
        -2.66, 2.9, 0.315, 7.8, 1.42, 3.35, 2, 8.6e5, 0.021, np.zeros((1, 3)), levels, levels + 0.02
    )


def control_variate_record() -> ControlVariateRecord:
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
    return ControlVariateRecord(TEMPERATURES, 30, 1000, one, one)


def sparse_bands_record() -> SparseBandsRecord:
    distances, flat = (
        np.array([0.0, 0.04, 0.06]),
        np.array([-0.2, -0.05, -0.001, 0.0, 0.001, 0.003, 0.06, 0.2]),
    )
    return SparseBandsRecord(
        kpoints=np.array([[1 / 3, 1 / 3, 0], [0, 0, 0], [0.5, 0, 0]]),
        distances=distances,
        labels=("K", "Γ", "M"),
        label_distances=distances,
        energies=-4.0 + flat * np.array([[1.0], [1.2], [1.5]]),
        first_state=44652,
        n_electrons=44656.0,
        fermi_energy=-4.0,
        electronic_temperature=10.0,
        error_bound=3e-7,
        proven=1,
        backend="pardiso",
        cpu_seconds=np.array([290.0, 100.0, 99.0]),
        continuum=ContinuumRecord(
            1.08, 5.7, 0.114, 0.113, "network", 1.097, distances, np.tile(1.1 * flat, (3, 1))
        ),
    )


def phonon_reference_record() -> PhononReferenceRecord:
    """One atom, three branches: errors of 3 cm⁻¹ at Γ and of 4 at M; shear of rigid layers."""
    bands = np.array([[0.0, 0.0, 1003.0], [50.0, 300.0, 1000.0], [100.0, 504.0, 1000.0]])
    known = np.array([[np.nan, np.nan, 1000.0], [100.0, 500.0, 1000.0]])
    return PhononReferenceRecord(
        source="another code",
        supercell=(2, 2, 1),
        names=("Γ", "M"),
        groups=("Γ", "M"),
        qpoints=np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
        contained=np.array([1, 1]),
        reference=known / THZ_TO_INVERSE_CM,
        frequencies=bands[[0, 2]] / THZ_TO_INVERSE_CM,
        band_distances=np.array([0.0, 0.7, 1.4]),
        band_frequencies=bands / THZ_TO_INVERSE_CM,
        band_labels=("G", "M"),
        band_label_distances=np.array([0.0, 1.4]),
        places=np.array([0.0, 1.4]),
        place_qpoints=np.array([0, 1]),
        rigid_reference={"shear": np.array([30.0, 34.0]) / THZ_TO_INVERSE_CM},
        rigid_frequencies={"shear": np.array([[31.0, 33.0], [31.0, 33.0]]) / THZ_TO_INVERSE_CM},
        rigid_steps=np.array([0.05, 0.1]),
    )


def labelled_bands_record() -> LabelledBandsRecord:
    """Four levels along five k-points, the network's a little higher."""
    levels = np.array([-1.0, -0.3, 0.3, 1.0]) + 0.1 * np.arange(5)[:, None]
    energies = np.linspace(-2.0, 2.0, 9)
    spectrum = np.exp(-((energies - 0.1 * np.arange(5)[:, None]) ** 2))
    sample = SampleBands(
        name="toy",
        n_atoms=16,
        fermi_energy=0.2,
        kpoints=np.linspace(0.0, 0.5, 5)[:, None] * np.array([1.0, 0.0, 0.0]),
        distances=np.linspace(0.0, 1.4, 5),
        labels=("Γ", "M"),
        label_distances=np.array([0.0, 1.4]),
        n_levels=12,
        labelled_levels=levels,
        levels=levels + 0.012,
        energies=energies,
        labelled_spectrum=spectrum,
        spectrum=0.9 * spectrum,
        plain=LevelErrors(0.030, 0.020, 0.010, 3, 2),
        shifted=LevelErrors(0.012, 0.011, 0.005, 0, 0),
    )
    return LabelledBandsRecord("labels.h5", (2, 2, 1), 2.0, {"0": sample})
