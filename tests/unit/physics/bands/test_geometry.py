"""Berry curvature and quantum metric of massive cones, valleys and Chern insulators.

Independence of every choice of gauge.
"""

from __future__ import annotations

import numpy as np
import pytest
from toys import VELOCITY, honeycomb, tight_binding

from mlepi.errors import PhysicsError
from mlepi.physics.bands.geometry import (
    berry_curvature,
    build_geometry,
    geometric_tensor,
    inverse_root_slopes,
    link,
    loop_phase,
    quantum_metric,
    tensor_of,
)
from mlepi.physics.bands.lattice import hexagonal_points, to_fractional

MASS = 0.3  # eV
LOWER = np.array([True, False])
KPOINT = np.array([0.29, 0.37, 0.0])


def states_at(geometry, kpoint):
    return np.linalg.eigh(geometry.orthonormal_hamiltonian(kpoint))[1]


def tensor_at(geometry, kpoint, chosen):
    return tensor_of(geometry.orthonormalise(kpoint), chosen)


def phase(geometry, kpoints, chosen):
    matrices = np.array([geometry.orthonormal_hamiltonian(k) for k in kpoints])
    return loop_phase(kpoints, matrices, chosen, geometry.sites)


def plaquette_fluxes(along, across):
    """Berry phase of every plaquette of a grid, counter-clockwise, in (−π, π] (Fukui et al.).

    ``along`` (n − 1, m) are det⟨u(i, j)|u(i + 1, j)⟩, ``across`` (n, m − 1) are det⟨u(i, j)|u(i,
    j + 1)⟩; the sum over a closed Brillouin zone is 2π times the Chern number.
    """
    return -np.angle(along[:, :-1] * across[1:] * along[:, 1:].conj() * across[:-1].conj())


def fluxes(geometry, grid, chosen):
    """Berry phases of the plaquettes of a grid (n, m, 3) of k-points, states shared modulo G."""
    known = {}

    def states(kpoint):
        key = tuple(np.round(np.mod(kpoint + 1e-9, 1.0), 6).tolist())
        if key not in known:
            known[key] = states_at(geometry, kpoint)[:, chosen]
        return known[key]

    def between(i, j, k, l):
        step = grid[k, l] - grid[i, j]
        return link(step, states(grid[i, j]), states(grid[k, l]), geometry.sites)

    n, m = grid.shape[:2]
    along = np.array([[between(i, j, i + 1, j) for j in range(m)] for i in range(n - 1)])
    across = np.array([[between(i, j, i, j + 1) for j in range(m - 1)] for i in range(n)])
    return plaquette_fluxes(along, across)


def sheet(mass=MASS, overlap=0.0, bilayer=False, shift=0.0, move=None):
    """A honeycomb with ± ``mass`` on its sublattices; ``shift`` adds a multiple of S.

    ``move`` puts atom 1 into another cell.
    """
    atoms = honeycomb(bilayer)
    edges, shifts, h, s, offsets = tight_binding(atoms, overlap=overlap)
    sites = (edges[0] == edges[1]) & ~shifts.any(axis=1)
    h = h + np.where(sites, mass * (-1.0) ** edges[0], 0.0)[:, None, None] + shift * s
    if move is not None:
        atoms.positions[1] += move @ atoms.cell.array
        shifts = shifts - np.outer(edges[0] == 1, move) + np.outer(edges[1] == 1, move)
    return build_geometry(h, s, edges, shifts, offsets, atoms.cell.array, atoms.positions)


def circle(radius, n=60, valley="K"):
    cell = honeycomb().cell.array
    turns = 2 * np.pi * np.arange(n) / n
    steps = radius * np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    return hexagonal_points(cell)[valley] + to_fractional(steps, cell)


def zone(n):
    return np.stack(np.meshgrid(np.arange(n + 1), np.arange(n + 1), [0], indexing="ij"), axis=-1)[
        :, :, 0
    ] / n + [0.11, 0.07, 0.0]


def test_massive_cone_has_the_analytic_geometry():
    """H = v(σ_x k_x + σ_y k_y) + mσ_z: |Ω| = v²m/2E³, tr g = v²(1 + m²/E²)/4E², E² = v²k² + m².

    At K the lattice adds nothing.
    """
    corner = hexagonal_points(honeycomb().cell.array)["K"]
    values, tensor = tensor_at(sheet(), corner, LOWER)
    np.testing.assert_allclose(values, [-MASS, MASS], atol=1e-12)
    np.testing.assert_allclose(
        quantum_metric(tensor), VELOCITY**2 / (4 * MASS**2) * np.eye(2), rtol=1e-9, atol=1e-9
    )
    assert abs(berry_curvature(tensor)) == pytest.approx(VELOCITY**2 / (2 * MASS**2), rel=1e-9)
    rng = np.random.default_rng(0)
    for k in rng.normal(scale=0.1, size=(5, 2)):
        energy = np.hypot(VELOCITY * np.linalg.norm(k), MASS)
        pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]]])
        h = VELOCITY * np.tensordot(k, pauli, axes=1) + MASS * np.diag([1.0, -1.0])
        levels, vectors = np.linalg.eigh(h)
        tensor = geometric_tensor(levels, VELOCITY * vectors.conj().T @ pauli @ vectors, LOWER)
        assert abs(berry_curvature(tensor)) == pytest.approx(VELOCITY**2 * MASS / (2 * energy**3))
        expected = VELOCITY**2 / (4 * energy**2) * (1 + MASS**2 / energy**2)
        assert np.trace(quantum_metric(tensor)) == pytest.approx(expected)


@pytest.mark.parametrize("overlap", [0.0, 0.13])
def test_metric_bounds_the_curvature(overlap):
    """det g = Ω²/4 for one of two bands, hence tr g ≥ |Ω|.

    The inequality holds for every set of bands.
    """
    single, double = sheet(overlap=overlap), sheet(overlap=overlap, bilayer=True)
    for k in np.random.default_rng(1).uniform(size=(6, 3)) * [1, 1, 0]:
        tensor = tensor_at(single, k, LOWER)[1]
        assert np.linalg.det(quantum_metric(tensor)) == pytest.approx(
            berry_curvature(tensor) ** 2 / 4, rel=1e-8, abs=1e-9
        )
        for chosen in (
            [True, False, False, False],
            [True, True, False, False],
            [False, True, False, True],
        ):
            tensor = tensor_at(double, k, np.array(chosen))[1]
            assert np.trace(quantum_metric(tensor)) >= abs(berry_curvature(tensor)) - 1e-12
            np.testing.assert_allclose(tensor, tensor.conj().T, atol=1e-12)


@pytest.mark.parametrize("overlap", [0.0, 0.13])
def test_plaquettes_agree_with_the_curvature(overlap):
    """The flux through a square of side h is Ωh² to relative order h².

    Extrapolated from two sizes.
    """
    geometry, cell = sheet(overlap=overlap, bilayer=True), honeycomb().cell.array
    chosen = np.array([True, True, False, False])
    expected = berry_curvature(tensor_at(geometry, KPOINT, chosen)[1])
    found = []
    for h in (0.01, 0.005):
        corners = h * np.array([[[-1, -1, 0], [-1, 1, 0]], [[1, -1, 0], [1, 1, 0]]]) / 2
        found.append(fluxes(geometry, KPOINT + to_fractional(corners, cell), chosen)[0, 0] / h**2)
    assert (4 * found[1] - found[0]) / 3 == pytest.approx(expected, rel=1e-4)
    assert abs(expected) > 0.01


def test_valleys_have_half_a_chern_number_of_opposite_sign():
    """γ = ±π(1 − m/√(v²κ² + m²)) on a circle of radius κ.

    Warping of the cone enters as (κa)² = 0.01.
    """
    mass, radius = 0.02, 0.04
    phases = [phase(sheet(mass), circle(radius, valley=valley), LOWER) for valley in ("K", "K'")]
    assert phases[0] == pytest.approx(-phases[1], abs=1e-9)
    expected = np.pi * (1 - mass / np.hypot(VELOCITY * radius, mass))
    assert abs(phases[0]) == pytest.approx(expected, abs=0.01 * np.pi)
    massless = phase(sheet(0.0), circle(radius), LOWER)
    assert abs(massless) == pytest.approx(np.pi, abs=1e-6)
    bilayer = phase(sheet(0.0, bilayer=True), circle(radius), np.array([True, True, False, False]))
    assert bilayer == pytest.approx(0.0, abs=1e-6)  # 2π


@pytest.mark.parametrize("overlap", [0.0, 0.13])
def test_time_reversal_makes_the_total_chern_number_vanish(overlap):
    found = fluxes(sheet(overlap=overlap), zone(18), LOWER)
    assert found.sum() == pytest.approx(0.0, abs=1e-8)
    assert np.abs(found).max() > 0.05


@pytest.mark.parametrize(("mass", "chern"), [(-1.0, 1), (1.0, -1), (3.0, 0)])
def test_chern_insulator(mass, chern):
    """H = sin k_x σ_x + sin k_y σ_y + (m + cos k_x + cos k_y)σ_z (Qi, Wu and Zhang 2006).

    C = ±1 for 0 < |m| < 2.
    """
    k = 2 * np.pi * np.arange(13) / 12
    kx, ky = np.meshgrid(k, k, indexing="ij")
    z = mass + np.cos(kx) + np.cos(ky)
    h = np.moveaxis(
        np.array([[z, np.sin(kx) - 1j * np.sin(ky)], [np.sin(kx) + 1j * np.sin(ky), -z]]),
        (0, 1),
        (2, 3),
    )
    lower = np.linalg.eigh(h)[1][..., 0]
    lower[-1], lower[:, -1] = lower[0], lower[:, 0]
    along = np.sum(lower[:-1].conj() * lower[1:], axis=-1)
    across = np.sum(lower[:, :-1].conj() * lower[:, 1:], axis=-1)
    assert plaquette_fluxes(along, across).sum() / (2 * np.pi) == pytest.approx(chern, abs=1e-9)
    slopes = np.array(
        [
            [[-np.sin(kx), np.cos(kx) + 0j], [np.cos(kx) + 0j, np.sin(kx)]],
            [[-np.sin(ky), -1j * np.cos(ky)], [1j * np.cos(ky), np.sin(ky)]],
        ]
    )
    values, vectors = np.linalg.eigh(h)
    slopes = np.moveaxis(slopes, (1, 2), (3, 4))
    velocities = vectors.conj().swapaxes(2, 3) @ slopes @ vectors
    curvature = [
        berry_curvature(geometric_tensor(values[i, j], velocities[:, i, j], LOWER))
        for i in range(12)
        for j in range(12)
    ]
    assert np.sum(curvature) * (2 * np.pi / 12) ** 2 / (2 * np.pi) == pytest.approx(chern, abs=0.15)


def test_geometry_does_not_depend_on_energy_zero_cell_or_phases():
    plain = sheet(overlap=0.13, bilayer=True)
    chosen = np.array([True, True, False, False])
    expected = tensor_at(plain, KPOINT, chosen)[1]
    for other in (
        sheet(overlap=0.13, bilayer=True, shift=2.5),
        sheet(overlap=0.13, bilayer=True, move=np.array([1, -1, 0])),
    ):
        np.testing.assert_allclose(tensor_at(other, KPOINT, chosen)[1], expected, atol=1e-9)
        assert phase(other, circle(0.2, 24), chosen) == pytest.approx(
            phase(plain, circle(0.2, 24), chosen), abs=1e-9
        )
    np.testing.assert_allclose(
        tensor_at(plain, KPOINT + np.array([1.0, -2.0, 0.0]), chosen)[1], expected, atol=1e-9
    )
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2)))[0]
    left, right = (states_at(plain, k)[:, chosen] for k in (KPOINT, KPOINT + 0.01))
    found = link(np.full(3, 0.01), left, right, plain.sites)
    turned = link(np.full(3, 0.01), left @ turn, right, plain.sites)
    assert turned == pytest.approx(np.linalg.det(turn).conj() * found)


def test_metric_is_the_distance_of_neighbouring_states():
    """1 − |⟨u_k|u_{k+q}⟩|² = q·g·q up to the fourth order (Provost and Vallee 1980)."""
    geometry, cell = sheet(), honeycomb().cell.array
    metric = quantum_metric(tensor_at(geometry, KPOINT, LOWER)[1])
    for direction in ([1.0, 0.0, 0.0], [0.6, 0.8, 0.0]):
        q = 1e-3 * np.array(direction)
        ends = [KPOINT + sign * to_fractional(q, cell) / 2 for sign in (-1, 1)]
        vectors = [states_at(geometry, k)[:, LOWER] for k in ends]
        distance = 1 - abs(link(ends[1] - ends[0], *vectors, geometry.sites)) ** 2
        assert distance == pytest.approx(q[:2] @ metric @ q[:2], rel=1e-4)


def test_slopes_of_the_inverse_root_are_its_differences():
    rng = np.random.default_rng(5)
    factor, slope = (rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)) for _ in range(2))
    overlap, slope = factor @ factor.conj().T + np.eye(4), slope + slope.conj().T
    h = 1e-5
    inverse_root, slopes = inverse_root_slopes(overlap, slope[None])
    np.testing.assert_allclose(inverse_root @ overlap @ inverse_root, np.eye(4), atol=1e-12)
    ends = [inverse_root_slopes(overlap + sign * h * slope, slope[None])[0] for sign in (1, -1)]
    np.testing.assert_allclose(slopes[0], (ends[0] - ends[1]) / (2 * h), atol=1e-9)


def test_touching_bands_have_no_geometry():
    corner = hexagonal_points(honeycomb().cell.array)["K"]
    tensor = tensor_at(sheet(0.0), corner, LOWER)[1]
    assert np.all(np.isnan(quantum_metric(tensor)))
    assert np.isnan(berry_curvature(tensor))


def test_matrices_on_different_edges_are_refused():
    edges, shifts, h, s, offsets = tight_binding(honeycomb())
    with pytest.raises(
        PhysicsError, match=r"band geometry: got blocks .* expected H and S on the same edges"
    ):
        build_geometry(h, s[:-1], edges, shifts, offsets, np.eye(3), honeycomb().positions)
