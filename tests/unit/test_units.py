import math

import pytest
from ase import units as ase_units
from phonopy.physical_units import get_physical_units
from scipy import constants

from mlepi import units

ELECTRONVOLT = constants.e  # J
ANGSTROM = 1e-10  # m
TERAHERTZ = 1e12  # 1/s
AMU = constants.atomic_mass  # kg


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (units.BOHR, constants.value("Bohr radius") / ANGSTROM),
        (units.HARTREE, constants.value("Hartree energy in eV")),
        (units.RYDBERG, constants.value("Rydberg constant times hc in eV")),
        (units.BOLTZMANN, constants.k / ELECTRONVOLT),
        (units.PLANCK, constants.h / ELECTRONVOLT * TERAHERTZ),
        (units.HBAR, constants.hbar / ELECTRONVOLT * TERAHERTZ),
        (units.THZ_TO_INVERSE_CM, TERAHERTZ / constants.c / 100.0),
        (units.AMU_ANGSTROM2_THZ2, AMU * ANGSTROM**2 * TERAHERTZ**2 / ELECTRONVOLT),
        (units.HBAR2_PER_AMU, constants.hbar**2 / AMU / ANGSTROM**2 / ELECTRONVOLT),
        (
            units.FORCE_CONSTANT_TO_THZ,
            math.sqrt(ELECTRONVOLT / ANGSTROM**2 / AMU) / (2.0 * math.pi) / TERAHERTZ,
        ),
        (units.EV_ANGSTROM_TO_METRE_PER_SECOND, ELECTRONVOLT * ANGSTROM / constants.hbar),
        (units.CONDUCTANCE_QUANTUM, 2.0 * constants.e**2 / constants.h),
        (units.UNIVERSAL_CONDUCTIVITY, constants.e**2 / (4.0 * constants.hbar)),
    ],
)
def test_unit_agrees_with_the_si_constants(value, reference):
    # The package stores CODATA 2018, scipy the newest set; they differ by some 1e-9, rounding by
    # less than 1e-8.
    assert value == pytest.approx(reference, rel=1e-8)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (units.BOHR, ase_units.Bohr),
        (units.HARTREE, ase_units.Hartree),
        (units.RYDBERG, ase_units.Rydberg),
        (units.BOLTZMANN, ase_units.kB),
        (units.THZ_TO_INVERSE_CM * ase_units.invcm, units.PLANCK),
    ],
)
def test_unit_agrees_with_ase(value, reference):
    # ASE's default set is CODATA 2014.
    assert value == pytest.approx(reference, rel=1e-6)


def test_frequency_conversion_agrees_with_phonopy():
    # phonopy's default set is older than CODATA 2018: 1.3e-7 relative, 2e-4 cm⁻¹ at the G mode.
    assert pytest.approx(get_physical_units().DefaultToTHz, rel=2e-7) == units.FORCE_CONSTANT_TO_THZ


def test_zero_point_amplitude_of_a_one_thz_carbon_oscillator():
    # ⟨x²⟩ = ħ/(2mω), evaluated in SI.
    mass, frequency = 12.011, 1.0
    in_si = (
        constants.hbar / (2.0 * mass * AMU * 2.0 * math.pi * frequency * TERAHERTZ) / ANGSTROM**2
    )
    ours = units.HBAR2_PER_AMU / (2.0 * mass * units.PLANCK * frequency)
    assert ours == pytest.approx(in_si, rel=1e-8)
