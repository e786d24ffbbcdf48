"""Bands, unfolding and symmetry of the tight-binding reference against algebra."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from ase import Atoms
from numpy.typing import NDArray
from scipy import constants
from scipy.spatial.transform import Rotation

from mlepi.graphs.block_matrix import compute_bands
from mlepi.physics.bands.lattice import build_line, hexagonal_points
from mlepi.physics.bands.unfolding import band_weights, cell_major_map, total_weights, unfold_states
from mlepi.physics.bands.velocities import fit_cone
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene
from mlepi.verification.check import Check, at_most, within
from mlepi.verification.lattices import EV

LATTICE_CONSTANT, HOPPING, GAMMA_1 = 2.46, 2.7, 0.38
SIGMA_PI = -3.033
"""eV, V_ppπ of Saito, Dresselhaus, Dresselhaus (1998), doi:10.1142/p080."""

STRAIGHT = {"sss": (GAMMA_1, 200.0)}
"""Interlayer hopping between atoms on top of each other alone: at 3.64 Å it has fallen to 1e-8 eV.
"""


def velocity(hopping: float) -> float:
    """Return √3·a·t/2ħ in m/s, constants in SI units."""
    return float(np.sqrt(3) / 2 * LATTICE_CONSTANT * 1e-10 * abs(hopping) * EV / constants.hbar)


def rattled(stacking: str, n: int, amplitude: float = 0.05) -> Atoms:
    """Return a supercell with random displacements, the same every time."""
    atoms = build_graphene(stacking).repeat((n, n, 1))
    atoms.positions += np.random.default_rng(2).normal(scale=amplitude, size=atoms.positions.shape)
    return atoms


def check_fermi_velocity() -> list[Check]:
    """v_F = √3·a·t/2ħ of the layer, with σ bands and overlap or without; bilayer bands."""
    atoms = build_graphene("monolayer")
    points = hexagonal_points(atoms.cell.array)
    # trigonal warping cancels between opposite directions
    distances = np.array([-2e-5, -1e-5, 1e-5, 2e-5])
    checks = []
    for orbitals, hopping in (("s", HOPPING), ("sp", SIGMA_PI)):
        for orthogonal in (True, False):
            model = TightBinding(orbitals=orbitals, orthogonal=orthogonal)
            kpoints = build_line(points["K"], points["Γ"], distances, atoms.cell.array)
            bands = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), kpoints)
            n = bands.shape[1] // 2
            fit = fit_cone(np.abs(distances), bands[:, n - 1], bands[:, n], (0.0, 1e-3), "linear")
            name = f"v_F of the layer, orbitals {orbitals}{'' if orthogonal else ', overlap'}"
            checks.append(
                within(name, velocity(hopping), fit.fermi_velocity, 1e-5 * velocity(hopping), "m/s")
            )
    return checks + _check_bilayer()


def _check_bilayer() -> list[Check]:
    """E = ±½[√(γ₁² + 4t²|f|²) ± γ₁] at all k, and what the fit makes of it."""
    atoms = build_graphene("AB")
    points = hexagonal_points(atoms.cell.array)
    model = TightBinding(orbitals="s", interlayer=STRAIGHT)
    kpoints = np.concatenate(
        [[points["K"], points["M"], points["Γ"]], np.random.default_rng(0).uniform(size=(5, 3))]
    )
    bands = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), kpoints)
    turns = 2j * np.pi * kpoints[:, :2]
    f = np.abs(1 + np.exp(turns[:, 0]) + np.exp(turns[:, 1]))
    root = np.sqrt(GAMMA_1**2 + 4 * (HOPPING * f) ** 2)
    exact = 0.5 * np.stack(
        [-root - GAMMA_1, -root + GAMMA_1, root - GAMMA_1, root + GAMMA_1], axis=1
    )
    distances = np.concatenate([-np.linspace(0.005, 0.02, 8), np.linspace(0.005, 0.02, 8)])
    cone = build_line(points["K"], points["Γ"], distances, atoms.cell.array)
    low = compute_bands(model.hamiltonian(atoms), model.overlap(atoms), cone)
    fit = fit_cone(
        np.abs(distances), low[:, 1], low[:, 2], (0.0, 0.03), "hyperbola", (low[:, 0], low[:, 3])
    )
    # of t|f| = ħv k (1 + O(k²a²)), k²a²/8 = 3e-4 at the end of the window
    return [
        at_most(
            "bilayer: largest error of ±½[√(γ₁² + 4t²|f|²) ± γ₁]",
            1e-7,
            float(np.abs(bands - exact).max()),
            "eV",
        ),
        within(
            "bilayer: v_F of the fitted hyperbola",
            velocity(HOPPING),
            fit.fermi_velocity,
            1e-3 * velocity(HOPPING),
            "m/s",
        ),
        within("bilayer: γ₁ of the fitted hyperbola", GAMMA_1, fit.gamma_1, 1e-3 * GAMMA_1, "eV"),
    ]


def _solve(
    model: TightBinding, atoms: Atoms, kpoint: NDArray[np.float64]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return H(k), S(k), energies and states."""
    hamiltonian = model.hamiltonian(atoms).dense(kpoint)
    overlap = model.overlap(atoms).dense(kpoint)
    return hamiltonian, overlap, *solve_bands(hamiltonian, overlap, vectors=True)


def check_unfolding() -> list[Check]:
    """Undisplaced supercells unfold to the primitive bands with weights 0 and 1.

    Displaced ones keep the sum rules.
    """
    model, n = TightBinding(orbitals="sp", orthogonal=False), 3
    primitive = build_graphene("AB")
    counts = np.full(4, 4)
    atom_map = cell_major_map(4, (n, n, 1))
    worst, energies_off, sums_off, bands_off = 0.0, 0.0, 0.0, 0.0
    layouts = model.hamiltonian(primitive).lay_out(), model.overlap(primitive).lay_out()
    for kpoint in np.random.default_rng(1).uniform(size=(4, 3)):
        own, vectors = solve_bands(layouts[0].at(kpoint), layouts[1].at(kpoint), vectors=True)
        folded = atom_map.fold(kpoint)
        _, overlap, energies, states = _solve(model, primitive.repeat((n, n, 1)), folded)
        weights = total_weights(unfold_states(states, overlap, atom_map, counts, kpoint))
        # a random k has no symmetry: no two supercell states coincide
        worst = max(worst, float(np.abs(weights - np.round(weights)).max()))
        energies_off = max(
            energies_off, float(np.abs(np.sort(energies[weights > 0.5]) - own).max())
        )
        _, overlap, _, states = _solve(model, rattled("AB", n), folded)
        components = unfold_states(states, overlap, atom_map, counts, kpoint)
        sums_off = max(sums_off, abs(float(total_weights(components).sum()) - 16.0))
        by_band = band_weights(components, vectors, layouts[1].at(kpoint))
        bands_off = max(bands_off, float(np.abs(by_band.sum(axis=1) - 1.0).max()))
    return [
        at_most("undisplaced 3×3 bilayer: weights differ from 0 or 1 by", 1e-9, worst),
        at_most(
            "undisplaced 3×3 bilayer: unfolded against primitive bands", 1e-9, energies_off, "eV"
        ),
        at_most("displaced: Σ_n W_n differs from the number of orbitals by", 1e-9, sums_off),
        at_most("displaced: Σ_n W_nb of one band differs from 1 by", 1e-9, bands_off),
    ]


def check_moments() -> list[Check]:
    """∫A E = ⟨B|H|B⟩ (Debye–Waller alone) and ∫A E² = ⟨B|HS⁻¹H|B⟩ of Löwdin Bloch sums."""
    model, n, kpoint = TightBinding(orbitals="sp", orthogonal=False), 3, np.array([0.21, 0.34, 0.0])
    atom_map, counts = cell_major_map(4, (n, n, 1)), np.full(4, 4)
    hamiltonian, overlap, energies, states = _solve(model, rattled("AB", n), atom_map.fold(kpoint))
    components = unfold_states(states, overlap, atom_map, counts, kpoint)
    basis = atom_map.bloch_basis(kpoint, counts).toarray()
    basis = basis @ scipy.linalg.inv(scipy.linalg.sqrtm(basis.conj().T @ overlap @ basis))
    first = basis.conj().T @ hamiltonian @ basis
    second = basis.conj().T @ hamiltonian @ np.linalg.solve(overlap, hamiltonian @ basis)
    found = [(components * energies**power) @ components.conj().T for power in (1, 2)]
    return [
        at_most(
            "first moment of A(k, E): largest error",
            1e-9,
            float(np.abs(found[0] - first).max()),
            "eV",
        ),
        at_most(
            "second moment of A(k, E): largest error",
            1e-8,
            float(np.abs(found[1] - second).max()),
            "eV²",
        ),
    ]


def check_symmetry() -> list[Check]:
    """Levels do not change when all atoms shift, turn or are renamed, nor in another cell."""
    checks = []
    for orbitals in ("s", "sp"):
        model, atoms = TightBinding(orbitals=orbitals, orthogonal=False), rattled("AB", 3)

        def levels(structure: Atoms, model: TightBinding = model) -> NDArray[np.float64]:
            return np.asarray(
                solve_bands(
                    model.hamiltonian(structure).dense([0, 0, 0]),
                    model.overlap(structure).dense([0, 0, 0]),
                )
            )

        rest = levels(atoms)
        shifted, turned, renamed, relabelled = (atoms.copy() for _ in range(4))
        shifted.positions += [0.37, -0.81, 0.22]
        matrix = Rotation.from_euler("xyz", [0.5, -0.3, 1.7]).as_matrix()
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = atoms.positions @ matrix.T
        renamed = renamed[np.random.default_rng(3).permutation(len(atoms))]
        first, second, third = atoms.cell.array
        relabelled.set_cell([first - second, first, third])  # another cell of the same lattice
        for name, other in (
            ("shift", shifted),
            ("rotation", turned),
            ("permutation", renamed),
            ("other cell of the lattice", relabelled),
        ):
            change = float(np.abs(levels(other) - rest).max())
            checks.append(
                at_most(f"{name}: change of the levels, orbitals {orbitals}", 1e-9, change, "eV")
            )
    return checks
