"""Tight binding of graphene layers.

Covariance, derivatives, and every number that algebra gives.
"""

import numpy as np
import pytest
import scipy.linalg
import torch
from e3nn_oracle import wigner_d
from scipy.spatial.transform import Rotation

from mlepi.errors import ConfigError, StructureError
from mlepi.graphs.block_matrix import BlockMatrix, compute_bands
from mlepi.physics.bands.lattice import build_line, hexagonal_points
from mlepi.physics.overlaps import compute_overlap_blocks
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.cutoff import smooth_cutoff
from mlepi.reference_systems.tight_binding import BOND, INTERLAYER_CUTOFF, INTRALAYER_CUTOFF
from mlepi.structures import build_graphene
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

MODELS = [("s", True), ("s", False), ("sp", True), ("sp", False)]
KPOINT = [0.13, 0.29, 0.0]


def rattled(stacking="AB", repeats=(2, 2, 1), amplitude=0.08):
    atoms = build_graphene(stacking).repeat(repeats)
    atoms.positions += np.random.default_rng(3).normal(scale=amplitude, size=atoms.positions.shape)
    return atoms


def dense(model, atoms, kpoint=KPOINT):
    return model.hamiltonian(atoms).dense(kpoint), model.overlap(atoms).dense(kpoint)


@pytest.mark.parametrize(("orbitals", "orthogonal"), MODELS)
def test_velocity_of_the_layer_is_the_textbook_one(orbitals, orthogonal):
    model = TightBinding(orbitals=orbitals, orthogonal=orthogonal)
    atoms = build_graphene("monolayer")
    points = hexagonal_points(atoms.cell.array)
    step = 1e-5
    towards = build_line(points["K"], points["Γ"], np.array([0.0, step]), atoms.cell.array)
    away = build_line(points["K"], points["M"], np.array([step]), atoms.cell.array)
    bands = compute_bands(
        model.hamiltonian(atoms), model.overlap(atoms), np.concatenate([towards, away])
    )
    n = bands.shape[1] // 2
    np.testing.assert_allclose(bands[0, n - 1 : n + 1], 0.0, atol=1e-12)  # half filled
    # trigonal warping and electron-hole asymmetry cancel in the mean over both bands and opposite
    # directions
    slope = np.mean(bands[1:, n] - bands[1:, n - 1]) / (2 * step)
    hopping = {"s": 2.7, "sp": 3.033}[orbitals]
    np.testing.assert_allclose(slope, np.sqrt(3) / 2 * 2.46 * hopping, rtol=1e-6)
    np.testing.assert_allclose(
        slope * EV_ANGSTROM_TO_METRE_PER_SECOND, model.fermi_velocity, rtol=1e-6
    )


def test_overlap_moves_the_velocity_when_the_orbital_energy_is_not_zero():
    model = TightBinding(orbitals="s", orthogonal=False, onsite={"s": 1.5})
    atoms = build_graphene("monolayer")
    points = hexagonal_points(atoms.cell.array)
    kpoints = build_line(points["K"], points["Γ"], np.array([-1e-5, 1e-5]), atoms.cell.array)
    bands = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), kpoints)
    slope = np.mean(bands[:, 1] - bands[:, 0]) / 2e-5
    # E = (E₀ ± t|f|)/(1 ± s|f|): slope of |f| times t − E₀s, with t = −2.7
    np.testing.assert_allclose(slope, np.sqrt(3) / 2 * 2.46 * abs(-2.7 - 1.5 * 0.129), rtol=1e-6)
    np.testing.assert_allclose(
        slope * EV_ANGSTROM_TO_METRE_PER_SECOND, model.fermi_velocity, rtol=1e-6
    )


@pytest.mark.parametrize("orthogonal", [True, False])
def test_bilayer_is_the_four_band_model(orthogonal):
    """McCann and Koshino's four-band model with γ₃ = γ₄ and the model's own hoppings.

    Rep. Prog. Phys. 76, 056503 (2013), Eq. 26.
    """
    model, atoms = TightBinding(orbitals="s", orthogonal=orthogonal), build_graphene("AB")
    points = hexagonal_points(atoms.cell.array)
    slanted = np.hypot(3.35, BOND)
    gamma_3 = (
        0.38
        * np.exp(-7.43 * (slanted / 3.35 - 1.0))
        * float(smooth_cutoff(torch.tensor(slanted), 3.4, 4.15))
    )
    s = 0.0 if orthogonal else 0.129
    for kpoint in [points["K"], points["M"], np.array(KPOINT), np.zeros(3)]:
        k = 2 * np.pi * np.linalg.inv(atoms.cell.array) @ kpoint
        bonds = list(neighbours(atoms, 0, 1, BOND))
        # from the lower to the upper sublattice of a layer
        f = sum(np.exp(1j * k @ v) for v in bonds)
        h = np.zeros((4, 4), dtype=complex)
        o = np.eye(4, dtype=complex)
        for a, b in ((0, 1), (2, 3)):
            h[a, b], o[a, b] = -2.7 * f, s * f
        h[1, 2] = 0.38  # B of the lower layer lies under A of the upper one
        h[0, 2] = h[1, 3] = gamma_3 * f
        h[0, 3] = gamma_3 * np.conj(f)
        h, o = h + np.triu(h, 1).conj().T, o + np.triu(o, 1).conj().T
        expected = scipy.linalg.eigh(h, o, eigvals_only=True)
        np.testing.assert_allclose(
            compute_bands(model.hamiltonian(atoms), model.overlap(atoms), [kpoint])[0],
            expected,
            atol=1e-12,
        )
    bands = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), [points["K"]])[0]
    np.testing.assert_allclose(bands, [-model.gamma_1, 0.0, 0.0, model.gamma_1], atol=1e-12)


def neighbours(atoms, first, second, length):
    for x in range(-2, 3):
        for y in range(-2, 3):
            vector = (
                atoms.positions[second]
                + np.array([x, y, 0]) @ atoms.cell.array
                - atoms.positions[first]
            )
            if abs(np.linalg.norm(vector) - length) < 1e-6:
                yield vector


def test_sigma_bands_at_gamma():
    """Slater and Koster: at Γ only the sums over three bonds remain."""
    model, atoms = TightBinding(orbitals="sp"), build_graphene("monolayer")
    bands = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), [[0.0, 0.0, 0.0]])[0]
    p = 1.5 * (5.037 - 3.033)
    expected = [-8.868 - 3 * 6.769, -8.868 + 3 * 6.769, -3 * 3.033, 3 * 3.033, -p, -p, p, p]
    np.testing.assert_allclose(bands, np.sort(expected), atol=1e-12)


@pytest.mark.parametrize(("orbitals", "orthogonal"), MODELS)
def test_blocks_turn_with_the_structure(orbitals, orthogonal):
    model, atoms = TightBinding(orbitals=orbitals, orthogonal=orthogonal), rattled()
    matrix = Rotation.from_euler("xyz", [0.4, -1.1, 2.3]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T, scale_atoms=False)
    turned.positions = atoms.positions @ matrix.T
    one = scipy.linalg.block_diag(*[wigner_d(l, matrix) for l in model.basis.shells[6]])
    rotation = np.kron(np.eye(len(atoms)), one)
    for before, after in zip(dense(model, atoms), dense(model, turned), strict=True):
        np.testing.assert_allclose(after, rotation @ before @ rotation.T, atol=1e-12)


@pytest.mark.parametrize(("orbitals", "orthogonal"), MODELS)
def test_derivatives_are_those_of_finite_differences(orbitals, orthogonal):
    model, atoms = TightBinding(orbitals=orbitals, orthogonal=orthogonal), rattled()
    edges = model.find_edges(atoms)
    inter = torch.as_tensor(edges.interlayer)
    cell = torch.tensor(atoms.cell.array)
    positions = torch.tensor(atoms.positions)
    direction = torch.tensor(np.random.default_rng(1).normal(size=atoms.positions.shape))

    def both(shifted):
        return torch.stack(model.blocks(model.edge_vectors(shifted, cell, edges), inter))

    _, tangent = torch.func.jvp(both, (positions,), (direction,))
    step = 1e-6
    numerical = (both(positions + step * direction) - both(positions - step * direction)) / (
        2 * step
    )
    np.testing.assert_allclose(tangent.numpy(), numerical.numpy(), atol=1e-6)
    assert tangent.abs().max() > 0.1


def test_hopping_is_smooth_at_its_ends():
    model = TightBinding(orbitals="s")
    for cutoff, inter in ((INTRALAYER_CUTOFF, False), (INTERLAYER_CUTOFF, True)):
        for end in cutoff:
            lengths = torch.tensor([end - 1e-4, end, end + 1e-4], dtype=torch.float64)
            vectors = torch.stack([lengths, 0 * lengths, 0 * lengths], dim=1)
            below, at, above = model.blocks(vectors, torch.full((3,), inter))[0].flatten()
            assert abs(above - below) < 1e-2
            # eV/Å²; a kink would give 1e4 times its change of slope
            assert abs(below - 2 * at + above) / 1e-8 < 100
    step = smooth_cutoff(torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64), 1.0, 2.0)
    np.testing.assert_allclose(step, [1.0, 1.0, 0.5, 0.0, 0.0], atol=1e-15)


@pytest.mark.parametrize("orbitals", ["s", "sp"])
def test_tabulated_overlap_is_the_overlap(orbitals):
    model, atoms = TightBinding(orbitals=orbitals, orthogonal=False), rattled(amplitude=0.05)
    exact = model.overlap(atoms)
    vectors = (
        atoms.positions[exact.edge_index[0]]
        + exact.edge_cell_shift @ atoms.cell.array
        - atoms.positions[exact.edge_index[1]]
    )
    table = model.overlap_table()
    blocks = compute_overlap_blocks(table, atoms.numbers, exact.edge_index, vectors)
    inter = atoms.arrays["layer"][exact.edge_index[0]] != atoms.arrays["layer"][exact.edge_index[1]]
    assert np.abs(blocks[inter]).max() < 1e-12
    np.testing.assert_allclose(blocks, exact.blocks, atol=1e-11)


@pytest.mark.parametrize(("orbitals", "orthogonal"), MODELS)
def test_matrices_are_hermitian_and_repeat_with_the_cell(orbitals, orthogonal):
    model = TightBinding(orbitals=orbitals, orthogonal=orthogonal)
    atoms = rattled(repeats=(1, 1, 1))
    hamiltonian = model.hamiltonian(atoms, device="cpu", dtype="float32")
    overlap = model.overlap(atoms)
    assert isinstance(hamiltonian, BlockMatrix)
    assert hamiltonian.blocks.dtype == np.float64
    for matrix in dense(model, atoms):
        np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-14)
    assert np.linalg.eigvalsh(overlap.dense(KPOINT)).min() > 0
    doubled = atoms.repeat((2, 1, 1))
    small = np.concatenate(
        [compute_bands(hamiltonian, overlap, [[x, 0.2, 0.0]])[0] for x in (0.15, 0.65)]
    )
    large = compute_bands(model.hamiltonian(doubled), model.overlap(doubled), [[0.3, 0.2, 0.0]])[0]
    np.testing.assert_allclose(large, np.sort(small), atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"orbitals": "d"}, r"TightBinding.orbitals: got 'd'; expected one of \['s', 'sp'\]"),
        (
            {"orbitals": "sp", "intralayer": {"sss": [1.0, 2.0]}},
            r"TightBinding.intralayer: got .* sps: \[V₀, β\]",
        ),
        ({"orbitals": "s", "interlayer": {"sss": [1.0]}}, "TightBinding.interlayer"),
        ({"orbitals": "sp", "onsite": {"s": 1.0}}, r"TightBinding.onsite: got \['s'\]"),
    ],
)
def test_wrong_parameters_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        TightBinding(**arguments)


def test_other_elements_are_refused():
    atoms = build_graphene("monolayer")
    atoms.numbers[0] = 7
    with pytest.raises(StructureError, match="reference system: got CN; expected carbon only"):
        TightBinding().hamiltonian(atoms)
