"""Internal units (Å, eV, amu, K, THz, e) and the only conversion factors of the package.

Values are CODATA 2018 (https://physics.nist.gov/cuu/Constants), the set that ASE and phonopy use as
well. OpenMX multiplies with its own, older constants; a reader of OpenMX numbers converts with the
values below, which differ from those by about 1e-7 relative.
"""

from __future__ import annotations

import math

BOHR = 0.529177210903
"""1 Bohr in Å."""

HARTREE = 27.211386245988
"""1 Hartree in eV."""

RYDBERG = HARTREE / 2.0
"""1 Rydberg in eV."""

COULOMB = HARTREE * BOHR
"""e²/(4πε₀) in eV·Å."""

JOULE_NM6_PER_MOLE = 10.36426966
"""1 J·nm⁶/mol, a unit of dispersion coefficients, in eV·Å⁶."""

BOLTZMANN = 8.617333262e-5
"""k_B in eV/K."""

PLANCK = 4.135667696e-3
"""h in eV/THz, so that h·ν of a frequency in THz is an energy in eV."""

THZ_TO_INVERSE_CM = 33.3564095198
"""1 THz in cm⁻¹."""

AMU_ANGSTROM2_THZ2 = 1.03642696e-4
"""1 amu·Å²·THz² (angular, i.e. amu·Å²/ps²) in eV."""

HBAR = PLANCK / (2.0 * math.pi)
"""ħ in eV·ps."""

HBAR2_PER_AMU = HBAR**2 / AMU_ANGSTROM2_THZ2
"""ħ²/amu in eV·Å² (4.18016e-3)."""

HBAR2_PER_ELECTRON_MASS = HBAR2_PER_AMU / 5.48579909065e-4
"""ħ²/m_e in eV·Å² (7.61996): divided by the curvature d²E/dk² of a band in eV·Å², its effective
mass in electron masses."""

FORCE_CONSTANT_TO_THZ = math.sqrt(1.0 / AMU_ANGSTROM2_THZ2) / (2.0 * math.pi)
"""√(eV/(Å²·amu)) in THz: a frequency is this factor times the root of a dynamical-matrix
eigenvalue."""

EV_ANGSTROM_TO_METRE_PER_SECOND = 1.0e2 / HBAR
"""dE/dk in eV·Å times this factor is a velocity in m/s (1 Å/ps = 100 m/s)."""

CONDUCTANCE_QUANTUM = 7.748091729e-5
"""2e²/h in S."""

UNIVERSAL_CONDUCTIVITY = math.pi / 4.0 * CONDUCTANCE_QUANTUM
"""e²/4ħ in S (6.0853e-5), the sheet conductivity of undoped graphene with massless electrons."""
