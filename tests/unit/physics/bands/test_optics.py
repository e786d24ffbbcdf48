"""Optical response of graphene.

The universal conductivity, its lattice correction, the f-sum rule, the cone's joint density.
"""

from __future__ import annotations

import numpy as np
import pytest
from toys import HOPPING, LATTICE_CONSTANT, VELOCITY, honeycomb, tight_binding

from mlepi.errors import PhysicsError, StructureError
from mlepi.physics.bands.optics import (
    fermi_occupations,
    joint_density,
    sheet_area,
    sheet_conductivity,
)
from mlepi.physics.bands.velocity_matrices import (
    derivatives_at,
    lay_out_derivatives,
    velocity_matrices,
)
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import lay_out_blocks
from mlepi.units import BOLTZMANN

ATOMS = honeycomb()
AREA = sheet_area(ATOMS.cell.array)


class Sheet:
    """The monolayer on an N×N mesh shifted off all symmetric points.

    Only k with transitions below ``largest`` are solved.
    """

    def __init__(self, n, largest=np.inf, overlap=0.0):
        edges, shifts, h, s, offsets = tight_binding(ATOMS, overlap=overlap)
        where = (edges, shifts, offsets)
        h_layout, s_layout = (lay_out_blocks(x, *where) for x in (h, s))
        slopes = [lay_out_derivatives(x, *where, ATOMS.cell.array, ATOMS.positions) for x in (h, s)]
        mesh = (np.arange(n) + 0.31) / n
        kpoints = np.stack([*(x.ravel() for x in np.meshgrid(mesh, mesh)), np.zeros(n * n)], axis=1)
        # |Σ e^{ik·δ}| up to a lattice vector
        hopping = np.abs(np.exp(2j * np.pi * kpoints[:, :2] @ [[1, 0], [1, 1]]) @ [1, 1] + 1)
        self.n, self.states = n, []
        for k in kpoints[2 * HOPPING * hopping < largest]:
            values, vectors = solve_bands(h_layout.at(k), s_layout.at(k), vectors=True)
            matrices = velocity_matrices(values, vectors, *(derivatives_at(x, k) for x in slopes))
            self.states.append((values, matrices))

    def conductivity(self, energies, temperature, width):
        spectra = [
            sheet_conductivity(energies, e, v, 0.0, temperature, width, AREA)
            for e, v in self.states
        ]
        return np.sum(spectra, axis=0) / self.n**2

    def joint(self, energies, temperature, width):
        one = np.ones((1, 2))
        return (
            np.sum(
                [
                    joint_density(energies, e, one, 0.0, temperature, width, AREA)
                    for e, _ in self.states
                ],
                axis=0,
            )
            / self.n**2
        )


def test_graphene_has_the_universal_conductivity():
    """σ = σ₀ (1 + ω²/9t²) tanh(ω/4k_BT) to second order in ω/t.

    At E = xt = ω/2 the density of states is ∝ x(1 + x²/3), and with |∇φ|² = d²t²(9 − x²)/2 and
    Gauss's theorem the mean square of the interband velocity is ∝ 1 + x²/9. The next order, from
    contours of constant energy, is 0.28 x⁴ = 1.4e-4 at 0.8 eV; Gaussian lines turn ω² into ω² +
    width²; the mesh errs by less than 12 exp(−2π² (width/2ħvΔk)²) = 6e-4 times a Bessel function <
    0.3.
    """
    energies, width, temperature, n = np.array([0.6, 0.8]), 0.12, 100.0, 200
    sheet = Sheet(n, largest=energies.max() + 6 * width)
    step = 2 * VELOCITY * 4 * np.pi / (np.sqrt(3) * LATTICE_CONSTANT * n)
    mesh_error = 12 * np.exp(-2 * (np.pi * width / step) ** 2) * 0.3
    sigma = sheet.conductivity(energies, temperature, width)
    expected = (1 + (energies**2 + width**2) / (9 * HOPPING**2)) * np.tanh(
        energies / (4 * BOLTZMANN * temperature)
    )
    np.testing.assert_allclose(sigma, np.stack([expected] * 2), atol=1.5e-4 + mesh_error)


def test_temperature_and_doping_of_the_electrons_block_transitions():
    """σ(ω) ∝ ½[tanh((ω + 2μ)/4k_BT) + tanh((ω − 2μ)/4k_BT)]: at ω = 2μ half of it is left."""
    energies, eigenvalues = np.array([0.5, 0.8, 1.1]), np.array([-0.4, 0.4])
    velocities = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    width, thermal = 0.1, BOLTZMANN * 900.0
    neutral, doped = (
        sheet_conductivity(energies, eigenvalues, velocities, mu, 900.0, width, 1.0)
        for mu in (0.0, 0.4)
    )
    factor = 0.5 * (np.tanh(1.6 / 4 / thermal) + np.tanh(0.0)) / np.tanh(0.8 / 4 / thermal)
    np.testing.assert_allclose(doped, factor * neutral, rtol=1e-12)
    line = np.exp(-0.5 * ((energies - 0.8) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    strength = 4 * np.pi * 2 * np.tanh(0.8 / 4 / thermal) / 0.8
    np.testing.assert_allclose(neutral[0], strength * line, rtol=1e-6)


def test_f_sum_rule_of_tight_binding():
    """∫₀^∞ (σ_xx + σ_yy) dω = −2π g_s d² E_hop/A in e²/4ħ·eV for bonds of length d alone.

    The Drude peak is included. Σ_n (f_m − f_n)/(E_n − E_m)|v_mn|² sums to ⟨∂²H/∂k²⟩ of the occupied
    states; two derivatives of e^{ik·δ} are −d². At 5000 K occupations are smooth over πk_BT = 1.4
    eV, and a mesh of 30×30 errs by exp(−πk_BT·30a/ħv) = 3e-8.
    """
    energies, temperature = np.linspace(0.0, 20.0, 801), 5000.0
    sheet = Sheet(30)
    sigma = sheet.conductivity(energies, temperature, 0.15).sum(axis=0)
    hopping = (
        sum(
            2.0 * values @ fermi_occupations(values, 0.0, temperature) for values, _ in sheet.states
        )
        / sheet.n**2
    )
    expected = -2.0 * np.pi * LATTICE_CONSTANT**2 / 3.0 * hopping / AREA
    assert np.trapezoid(sigma, energies) == pytest.approx(expected, rel=1e-4)


def test_joint_density_of_the_cone_is_linear():
    """J = ω/2πħ²v² for two spins and two valleys.

    Trigonal warping enters as ω², which two energies eliminate.
    """
    energies, width = np.array([0.3, 0.6]), 0.05
    sheet = Sheet(420, largest=0.95)
    density = sheet.joint(energies, 30.0, width)
    reference = energies / (2 * np.pi * VELOCITY**2)
    first, second = density / reference
    assert (4.0 * first - second) / 3.0 == pytest.approx(1.0, abs=1e-3)
    # ρ ∝ x(1 + x²/3), x = ω/2t
    assert second == pytest.approx(1.0 + (0.3 / HOPPING) ** 2 / 3.0, abs=3e-3)


def test_order_of_states_does_not_matter():
    rng = np.random.default_rng(1)
    values = rng.normal(size=6)
    velocities = rng.normal(size=(2, 6, 6)) + 1j * rng.normal(size=(2, 6, 6))
    velocities += velocities.conj().swapaxes(1, 2)
    weights = rng.uniform(size=(3, 6))
    energies, order = np.linspace(0, 3, 7), rng.permutation(6)
    settings = (0.1, 300.0, 0.1, 5.0)
    np.testing.assert_allclose(
        sheet_conductivity(energies, values[order], velocities[:, order][:, :, order], *settings),
        sheet_conductivity(energies, values, velocities, *settings),
    )
    np.testing.assert_allclose(
        joint_density(energies, values[order], weights[:, order], *settings),
        joint_density(energies, values, weights, *settings),
    )


def test_bases_of_a_level_do_not_matter():
    rng = np.random.default_rng(2)
    values = np.array([-1.0, 0.2, 0.2, 0.2, 1.3])
    velocities = rng.normal(size=(2, 5, 5)) + 1j * rng.normal(size=(2, 5, 5))
    velocities += velocities.conj().swapaxes(1, 2)
    turn = np.eye(5, dtype=complex)
    turn[1:4, 1:4] = np.linalg.qr(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)))[0]
    turned = turn.conj().T @ velocities @ turn
    energies = np.linspace(0, 3, 7)
    np.testing.assert_allclose(
        sheet_conductivity(energies, values, turned, 0.1, 300.0, 0.1, 5.0),
        sheet_conductivity(energies, values, velocities, 0.1, 300.0, 0.1, 5.0),
        rtol=1e-9,
    )


def test_wrong_input_is_refused():
    with pytest.raises(
        PhysicsError, match=r"electronic temperature: got 0\.0 K; expected a number > 0"
    ):
        fermi_occupations(np.zeros(2), 0.0, 0.0)
    with pytest.raises(StructureError, match="the first two in the xy plane"):
        sheet_area([[1.0, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]])
