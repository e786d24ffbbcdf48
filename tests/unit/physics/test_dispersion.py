"""Grimme's D2: limits of the pair energy, and OpenMX's own sums for whole structures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read

from mlepi.graphs.neighbours import find_pairs
from mlepi.physics.dispersion import PARAMETERS, compute_pair_energies, switch_off

DATA = Path(__file__).parents[3] / "data" / "blg_openmx" / "forces.extxyz"
OPENMX_CUTOFF = 60.0
"""Å, of the labels' D2 sums, sharp and without images along the stacking direction."""


def pair_energy(distance, first, second, **options) -> float:
    numbers = torch.tensor([[first], [second]])
    distances = torch.tensor([distance], dtype=torch.float64)
    return float(compute_pair_energies(distances, numbers, **options)[0])


def test_far_pairs_attract_with_the_sixth_power():
    """Carbon: 1.75 J·nm⁶/mol, boron: 3.13; the damping is 1 to e⁻⁶⁰ at four times R."""
    coefficient = math.sqrt(1.75 * 3.13) * 1e6 / (1.602176634e-19 * 6.02214076e23)
    expected = -0.75 * coefficient / 12.0**6
    assert pair_energy(12.0, 6, 5) == pytest.approx(expected, rel=1e-8)
    assert pair_energy(12.0, 5, 6) == pair_energy(12.0, 6, 5)


def test_damping_is_one_half_at_the_sum_of_the_radii():
    at = 2 * 1.452
    assert pair_energy(at, 6, 6) == pytest.approx(-0.5 * 0.75 * 18.13747 / at**6, rel=1e-6)
    near = pair_energy(1.42, 6, 6) / (-0.75 * 18.13747 / 1.42**6)
    assert near == pytest.approx(1.0 / (1.0 + math.exp(-20.0 * (1.42 / at - 1.0))), rel=1e-6)


def test_elements_of_the_paper():
    assert sorted(PARAMETERS) == list(range(1, 55))
    assert {PARAMETERS[z] for z in range(21, 31)} == {(10.80, 1.562)}
    assert {PARAMETERS[z] for z in range(39, 49)} == {(24.67, 1.639)}


def test_derivatives_exist_to_second_order():
    numbers = torch.tensor([[6, 6, 7], [6, 16, 42]])
    distances = torch.tensor([1.4, 3.3, 5.1], dtype=torch.float64, requires_grad=True)

    def total(lengths):
        return compute_pair_energies(lengths, numbers) * switch_off(lengths, 6.0, 2.0)

    assert torch.autograd.gradcheck(total, (distances,))
    assert torch.autograd.gradgradcheck(total, (distances,))


def test_switch_is_smooth_between_one_and_zero():
    at = torch.linspace(1.0, 7.0, 2401, dtype=torch.float64, requires_grad=True)
    factor = switch_off(at, 6.0, 2.0)
    assert torch.all(factor[at <= 4.0] == 1.0)
    assert torch.all(factor[at >= 6.0].abs() < 1e-14)
    assert float(switch_off(torch.tensor([5.0]), 6.0, 2.0)) == pytest.approx(0.5)
    (slope,) = torch.autograd.grad(factor.sum(), at, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), at)
    for derivative in (slope, curvature):
        jumps = derivative.detach().diff().abs().max()
        assert float(jumps) < 0.05 * float(derivative.detach().abs().max())
    sharp = switch_off(torch.tensor([3.9, 4.1]), 4.0, 0.0)
    assert sharp.tolist() == [1.0, 0.0]


def sum_as_openmx(atoms) -> float:
    pairs, shift = find_pairs(
        atoms.positions, atoms.cell.array, np.array([True, True, False]), OPENMX_CUTOFF
    )
    vectors = atoms.positions[pairs[0]] + shift @ atoms.cell.array - atoms.positions[pairs[1]]
    distances = torch.from_numpy(np.linalg.norm(vectors, axis=1))
    return float(compute_pair_energies(distances, torch.from_numpy(atoms.numbers[pairs])).sum())


def test_energies_of_the_labels():
    """OpenMX's table is rounded in Bohr and Rydberg: C6 by 2e-5, R0 by 4e-5, energies by 2e-4."""
    structures = read(DATA, ":")
    for atoms in structures:
        label = atoms.info["energy_d2"]
        assert sum_as_openmx(atoms) == pytest.approx(label, rel=2e-4), atoms.info["name"]
    slides = {a.info["name"]: a for a in structures if len(a) == 4}
    near, far = (slides[f"slide_+0.000_+0.000_{d}"] for d in ("3.00", "3.50"))
    found = sum_as_openmx(far) - sum_as_openmx(near)
    expected = far.info["energy_d2"] - near.info["energy_d2"]
    assert found == pytest.approx(expected, rel=2e-4)
