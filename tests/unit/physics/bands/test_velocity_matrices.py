"""∂H/∂k and ∂S/∂k against finite differences, the analytic cone, and changes of gauge."""

from __future__ import annotations

import numpy as np
import pytest
from toys import HOPPING, LATTICE_CONSTANT, VELOCITY, honeycomb, tight_binding

from mlepi.errors import PhysicsError
from mlepi.physics.bands.lattice import hexagonal_points, to_fractional
from mlepi.physics.bands.velocity_matrices import (
    band_velocities,
    derivative_blocks,
    derivatives_at,
    derivatives_at_many,
    lay_out_derivatives,
    velocity_matrices,
)
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum, lay_out_blocks

KPOINT = np.array([0.21, 0.13, 0.0])
STEP = 1e-4  # Å⁻¹; central differences err by h²/6·a³t ≈ 1e-7 eV·Å


class Toy:
    def __init__(self, overlap=0.13, bilayer=True, gauge="atomic", shake=0.05):
        self.atoms = honeycomb(bilayer)
        self.atoms.positions += shake * np.random.default_rng(3).normal(
            size=self.atoms.positions.shape
        )
        self.edges, self.shifts, self.h, self.s, self.offsets = tight_binding(
            self.atoms, overlap=overlap
        )
        self.positions = self.atoms.positions if gauge == "atomic" else None
        where = (self.edges, self.shifts, self.offsets)
        self.layouts = [lay_out_blocks(x, *where) for x in (self.h, self.s)]
        self.derivatives = [
            lay_out_derivatives(x, *where, self.atoms.cell.array, self.positions, (0, 1, 2))
            for x in (self.h, self.s)
        ]

    def matrices(self, kpoint):
        return [layout.at(kpoint) for layout in self.layouts]

    def solve(self, kpoint):
        return solve_bands(*self.matrices(kpoint), vectors=True)

    def slopes(self, kpoint):
        return [derivatives_at(layouts, kpoint) for layouts in self.derivatives]

    def differences(self, function, kpoint):
        """Central differences along x, y, z in Å⁻¹."""
        steps = to_fractional(STEP * np.eye(3), self.atoms.cell.array)
        return np.array(
            [(function(kpoint + step) - function(kpoint - step)) / (2 * STEP) for step in steps]
        )


@pytest.mark.parametrize("overlap", [0.0, 0.13])
@pytest.mark.parametrize("gauge", ["lattice", "atomic"])
def test_band_velocities_are_slopes_of_the_bands(overlap, gauge):
    toy = Toy(overlap, gauge=gauge)
    values, vectors = toy.solve(KPOINT)
    velocities = band_velocities(values, vectors, *toy.slopes(KPOINT))
    expected = toy.differences(lambda k: toy.solve(k)[0], KPOINT)
    np.testing.assert_allclose(velocities, expected, atol=2e-6)
    assert np.abs(expected[:2]).max() > 1.0


def test_derivatives_of_the_lattice_gauge_are_those_of_the_bloch_sums():
    toy = Toy(gauge="lattice")
    for matrix, layouts in zip((0, 1), toy.derivatives, strict=True):
        expected = toy.differences(lambda k, m=matrix: toy.layouts[m].at(k), KPOINT)
        np.testing.assert_allclose(derivatives_at(layouts, KPOINT), expected, atol=2e-6)


def test_derivatives_of_the_atomic_gauge_carry_the_phases_of_the_lattice_gauge():
    toy = Toy()
    sites = np.linalg.solve(toy.atoms.cell.array.T, toy.atoms.positions.T).T

    def atomic(k):
        phases = np.exp(2j * np.pi * sites @ k)
        return phases.conj()[:, None] * toy.layouts[0].at(k) * phases

    phases = np.exp(2j * np.pi * sites @ KPOINT)
    expected = phases[:, None] * toy.differences(atomic, KPOINT) * phases.conj()
    np.testing.assert_allclose(derivatives_at(toy.derivatives[0], KPOINT), expected, atol=2e-6)


def test_derivatives_are_hermitian_and_blocks_antisymmetric():
    toy = Toy()
    for kpoint in (KPOINT, np.zeros(3), np.array([0.5, 0.0, 0.0])):
        for matrix in [*toy.slopes(kpoint)[0], *toy.slopes(kpoint)[1]]:
            np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-12)
    many = derivatives_at_many(toy.derivatives[0], [KPOINT, 2 * KPOINT])
    np.testing.assert_allclose(
        many[:, 1], derivatives_at(toy.derivatives[0], 2 * KPOINT), atol=1e-12
    )
    blocks = derivative_blocks(toy.h, toy.edges, toy.shifts, toy.atoms.cell.array, toy.positions)
    np.testing.assert_allclose(
        1j * bloch_sum(blocks[1], toy.edges, toy.shifts, toy.offsets, [KPOINT])[0],
        many[1, 0],
        atol=1e-12,
    )
    assert np.all(
        blocks[:, np.flatnonzero((toy.edges[0] == toy.edges[1]) & ~toy.shifts.any(axis=1))] == 0.0
    )


@pytest.mark.parametrize("overlap", [0.0, 0.13])
def test_velocity_matrices_are_hermitian_operators(overlap):
    toy = Toy(overlap)
    values, vectors = toy.solve(KPOINT)
    matrices = velocity_matrices(values, vectors, *toy.slopes(KPOINT))
    np.testing.assert_allclose(matrices, matrices.conj().swapaxes(1, 2), atol=1e-12)
    slopes = band_velocities(values, vectors, *toy.slopes(KPOINT))
    np.testing.assert_allclose(np.diagonal(matrices, axis1=1, axis2=2).real, slopes, atol=1e-12)
    phases = np.exp(1j * np.random.default_rng(0).uniform(0, 2 * np.pi, len(values)))
    turned = velocity_matrices(values, vectors * phases, *toy.slopes(KPOINT))
    np.testing.assert_allclose(turned, phases.conj()[:, None] * matrices * phases, atol=1e-12)


def test_interband_velocity_does_not_depend_on_the_choice_of_the_unit_cell():
    """An atom moved into the next cell changes R and τ, and nothing measurable in atomic gauge."""
    toy, moved = Toy(), Toy()
    atom, step = 1, np.array([1, -1, 0])
    moved.atoms.positions[atom] += step @ moved.atoms.cell.array
    shifts = (
        toy.shifts - step * (toy.edges[0] == atom)[:, None] + step * (toy.edges[1] == atom)[:, None]
    )
    where = (toy.edges, shifts, toy.offsets)
    layouts = [lay_out_blocks(x, *where) for x in (toy.h, toy.s)]
    values, vectors = solve_bands(*(layout.at(KPOINT) for layout in layouts), vectors=True)
    atomic, lattice = (
        [
            derivatives_at(lay_out_derivatives(x, *where, toy.atoms.cell.array, p), KPOINT)
            for x in (toy.h, toy.s)
        ]
        for p in (moved.atoms.positions, None)
    )
    expected = np.abs(velocity_matrices(*toy.solve(KPOINT), *(x[:2] for x in toy.slopes(KPOINT))))
    np.testing.assert_allclose(
        np.abs(velocity_matrices(values, vectors, *atomic)), expected, atol=1e-10
    )
    assert np.abs(np.abs(velocity_matrices(values, vectors, *lattice)) - expected).max() > 0.1


@pytest.mark.parametrize("overlap", [0.0, 0.13])
def test_cone_has_the_analytic_velocity_within_and_between_its_bands(overlap):
    """At K of the monolayer v_x and v_y are ħv = √3at/2 times two Pauli matrices.

    E(K) = 0, where no overlap matters.
    """
    toy = Toy(overlap, bilayer=False, shake=0.0)
    values, vectors = toy.solve(hexagonal_points(toy.atoms.cell.array)["K"])
    matrices = velocity_matrices(
        values, vectors, *toy.slopes(hexagonal_points(toy.atoms.cell.array)["K"])
    )[:2]
    assert pytest.approx(np.sqrt(3) / 2 * LATTICE_CONSTANT * HOPPING) == VELOCITY
    for matrix in matrices:
        np.testing.assert_allclose(matrix @ matrix, VELOCITY**2 * np.eye(2), atol=1e-9)
    np.testing.assert_allclose(
        matrices[0] @ matrices[1] + matrices[1] @ matrices[0], np.zeros((2, 2)), atol=1e-9
    )


def test_arrays_that_do_not_belong_together_are_refused():
    toy = Toy()
    values, vectors = toy.solve(KPOINT)
    h, s = toy.slopes(KPOINT)
    with pytest.raises(PhysicsError, match=r"velocities: got \(3,\) eigenvalues, \(4, 4\) states"):
        band_velocities(values[:3], vectors, h, s)
    with pytest.raises(PhysicsError, match="derivatives of H and S of the same structure"):
        velocity_matrices(values, vectors, h, s[:2])
