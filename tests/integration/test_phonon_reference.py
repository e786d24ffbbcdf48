"""Frequencies against a reference: pairing, groups and rigid layers, on springs."""

from __future__ import annotations

import numpy as np
import phonon_reference
import pytest

from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

MASS, BOND = 12.011, 2.46 / np.sqrt(3.0)


@pytest.fixture(scope="module")
def springs():
    return compute_force_constants(build_graphene("AB"), HoneycombSprings(), (6, 6, 1))


def frequencies_at(force_constants, q):
    return compute_frequencies(force_constants, np.array([q]))[0] * THZ_TO_INVERSE_CM


def test_reference_is_complete():
    reference = phonon_reference.read_reference()
    for point in reference["qpoints"]:
        assert len(point["frequencies"]) + point["lowest_left_out"] == 12
        assert point["frequencies"] == sorted(point["frequencies"])
        assert np.allclose(6 * np.array(point["q"]), np.rint(6 * np.array(point["q"])))
        cells = np.array(point["supercell"]) * point["q"]
        assert np.allclose(cells, np.rint(cells))
    assert set(reference["largest_rmse"]) == {point["group"] for point in reference["qpoints"]}
    assert set(reference["rigid_layers"]) == set(phonon_reference.RIGID_MODES)
    for entry in reference["rigid_layers"].values():
        low, high = entry["range"]
        assert 0 < low <= high < 2 * low


def test_named_points_are_those_of_the_lattice():
    """By their distance from Γ; lattice vectors of the builder are 60° apart."""
    reference = phonon_reference.read_reference()
    points = {point["name"]: point["q"] for point in reference["qpoints"]}
    atoms = build_graphene("AB")
    path = atoms.cell.bandpath("GKM", npoints=3, pbc=(True, True, False)).special_points
    lengths = {
        name: np.linalg.norm(np.array(q) @ atoms.cell.reciprocal().array)
        for name, q in points.items()
    }
    for name, own in (("K", path["K"]), ("M", path["M"])):
        assert lengths[name] == pytest.approx(np.linalg.norm(own @ atoms.cell.reciprocal().array))
    assert lengths["(1/6, 0)"] == pytest.approx(lengths["M"] / 3)
    assert lengths["(1/3, 0)"] == pytest.approx(lengths["M"] * 2 / 3)


def test_a_q_of_the_cell_does_not_depend_on_the_supercell(springs):
    small = compute_force_constants(build_graphene("AB"), HoneycombSprings(), (3, 3, 1))
    for q in ([1 / 3, 2 / 3, 0], [1 / 3, 0, 0]):
        np.testing.assert_allclose(
            frequencies_at(small, q), frequencies_at(springs, q), rtol=0, atol=0.05
        )


def test_errors_are_pooled_over_the_points_of_a_group(springs):
    own = [frequencies_at(springs, q) for q in ([0.5, 0, 0], [0, 0, 0], [1 / 3, 0, 0])]
    points = [
        {"name": "M", "q": [0.5, 0, 0], "group": "M", "lowest_left_out": 0, "frequencies": own[0]},
        {
            "name": "Γ",
            "q": [0, 0, 0],
            "group": "3",
            "lowest_left_out": 6,
            "frequencies": own[1][6:],
        },
        {
            "name": "x",
            "q": [1 / 3, 0, 0],
            "group": "3",
            "lowest_left_out": 2,
            "frequencies": own[2][2:] - np.eye(10)[3] * 8.0,
        },
    ]
    rows, groups = phonon_reference.compare_qpoints(springs, {"qpoints": points})
    assert [row["rmse"] for row in rows] == pytest.approx([0.0, 0.0, 8.0 / np.sqrt(10)], abs=1e-9)
    assert groups["M"] == pytest.approx(0.0, abs=1e-9)
    assert groups["3"] == pytest.approx(8.0 / np.sqrt(16))
    assert rows[2]["network"] == pytest.approx(own[2][2:].tolist())


@pytest.mark.parametrize(
    ("direction", "stiffness"),
    [
        ((1, 0, 0), 16 * 0.001315 * BOND**2),
        ((0, 1, 0), 16 * 0.001315 * BOND**2),
        ((0, 0, 1), 0.358),
    ],
)
def test_rigid_layers_have_the_springs_frequencies(direction, stiffness):
    """The springs: m ω² = 16 k_s d₀² for shear and 10 k_h for breathing, m one atom."""
    expected = np.sqrt(stiffness / MASS) * FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM
    atoms = build_graphene("AB")
    before = atoms.positions.copy()
    found = phonon_reference.compute_rigid_frequency(atoms, HoneycombSprings(), direction, 0.01)
    assert found == pytest.approx(expected, rel=5e-3)
    np.testing.assert_array_equal(atoms.positions, before)
    assert atoms.calc is None


def test_an_unstable_layer_has_a_negative_frequency():
    springs = HoneycombSprings(shear=-0.001)
    found = phonon_reference.compute_rigid_frequency(
        build_graphene("AB"), springs, (1.0, 0.0, 0.0), 0.01
    )
    assert found < -20.0


def test_every_requirement_can_be_met_and_missed():
    reference = phonon_reference.read_reference()
    middle = {mode: np.mean(entry["range"]) for mode, entry in reference["rigid_layers"].items()}
    shear, breathing = middle["shear"], middle["breathing"]
    good = (
        {"3×3": 4.9, "M": 5.9, "(1/6, 0)": 7.9},
        {"shear": [shear - 3.9, shear + 3.9], "breathing": [breathing - 5.9]},
    )
    bad = (
        {"3×3": 5.1, "M": 6.1, "(1/6, 0)": 8.1},
        {"shear": [shear, shear + 4.1], "breathing": [breathing - 6.1]},
    )
    verdicts = phonon_reference.judge_against_reference(*good, reference)
    assert [row["met"] for row in verdicts] == [True] * 5
    verdicts = phonon_reference.judge_against_reference(*bad, reference)
    assert not any(row["met"] for row in verdicts)
    text = phonon_reference.format_comparison({"qpoints": [], "verdicts": verdicts})
    assert text.count("**no**") == 5
