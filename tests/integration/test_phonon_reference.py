"""The shipped frequencies, and a network judged by them: pairing and groups, on springs."""

from __future__ import annotations

import numpy as np
import phonon_reference
import pytest

from mlepi.observables.phonon_reference.reference_file import (
    RIGID_MODES,
    ReferenceFrequencies,
    read_reference,
)
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import THZ_TO_INVERSE_CM


@pytest.fixture(scope="module")
def springs():
    return compute_force_constants(build_graphene("AB"), HoneycombSprings(), (6, 6, 1))


def frequencies_at(force_constants, q):
    return compute_frequencies(force_constants, np.array([q]))[0] * THZ_TO_INVERSE_CM


def test_reference_is_complete():
    targets = phonon_reference.read_targets()
    for point in targets["qpoints"]:
        assert len(point["frequencies"]) + point["lowest_left_out"] == 12
    reference = read_reference(phonon_reference.REFERENCE)
    for q, point in zip(reference.qpoints, targets["qpoints"], strict=True):
        for cells in (np.array([6, 6, 1]), np.array(point["supercell"])):
            assert np.allclose(cells * q, np.rint(cells * q))
    assert set(targets["largest_rmse"]) == set(reference.groups)
    assert set(targets["rigid_layers"]) == set(RIGID_MODES)
    for entry in targets["rigid_layers"].values():
        low, high = entry["range"]
        assert 0 < low <= high < 2 * low


def test_named_points_are_those_of_the_lattice():
    """By their distance from Γ; lattice vectors of the builder are 60° apart."""
    reference = read_reference(phonon_reference.REFERENCE)
    points = dict(zip(reference.names, reference.qpoints, strict=True))
    atoms = build_graphene("AB")
    path = atoms.cell.bandpath("GKM", npoints=3, pbc=(True, True, False)).special_points
    lengths = {
        name: np.linalg.norm(q @ atoms.cell.reciprocal().array) for name, q in points.items()
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
    qpoints = np.array([[0.5, 0, 0], [0, 0, 0], [1 / 3, 0, 0]])
    own = [frequencies_at(springs, q) for q in qpoints]
    own[1][:6] = np.nan
    own[2][:2] = np.nan
    wanted = [own[0], own[1], own[2] - 8.0 * (np.arange(12) == 5)]
    reference = ReferenceFrequencies(
        "springs",
        ("M", "Γ", "x"),
        ("M", "3", "3"),
        qpoints,
        tuple(values / THZ_TO_INVERSE_CM for values in wanted),
    )
    rows, groups = phonon_reference.compare_qpoints(springs, reference)
    assert [row["rmse"] for row in rows] == pytest.approx([0.0, 0.0, 8.0 / np.sqrt(10)], abs=1e-9)
    assert groups["M"] == pytest.approx(0.0, abs=1e-9)
    assert groups["3"] == pytest.approx(8.0 / np.sqrt(16))
    assert rows[2]["network"] == pytest.approx(own[2][2:].tolist())


def test_every_requirement_can_be_met_and_missed():
    targets = phonon_reference.read_targets()
    middle = {mode: np.mean(entry["range"]) for mode, entry in targets["rigid_layers"].items()}
    shear, breathing = middle["shear"], middle["breathing"]
    good = (
        {"3×3": 4.9, "M": 5.9, "(1/6, 0)": 7.9},
        {"shear": [shear - 3.9, shear + 3.9], "breathing": [breathing - 5.9]},
    )
    bad = (
        {"3×3": 5.1, "M": 6.1, "(1/6, 0)": 8.1},
        {"shear": [shear, shear + 4.1], "breathing": [breathing - 6.1]},
    )
    verdicts = phonon_reference.judge_against_reference(*good, targets)
    assert [row["met"] for row in verdicts] == [True] * 5
    verdicts = phonon_reference.judge_against_reference(*bad, targets)
    assert not any(row["met"] for row in verdicts)
    text = phonon_reference.format_comparison({"qpoints": [], "verdicts": verdicts})
    assert text.count("**no**") == 5
