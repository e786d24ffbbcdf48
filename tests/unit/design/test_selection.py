"""Descriptors that know no cell, selection by distance, and what labels cost."""

from collections import Counter
from dataclasses import replace

import design_materials
import numpy as np
import pytest
from toy_labels import Told, displaced, fake

from mlepi.design import (
    describe_environments,
    estimate_cost,
    measure_cost,
    scale_descriptors,
    select_diverse,
)
from mlepi.errors import DataError, StructureError
from mlepi.labelling import LabelledSet, label_structures

EVEN = {"a": 1.0}


def test_a_descriptor_knows_no_cell_no_frame_and_no_order():
    atoms = design_materials.build_mos2(2)
    atoms.rattle(0.05, seed=1)
    one = describe_environments(atoms, [42, 16])
    turned = atoms.copy()
    turned.rotate(33.0, (1.0, 2.0, 3.0), rotate_cell=True)
    shuffled = atoms[np.random.default_rng(0).permutation(len(atoms))]
    for other in (turned, shuffled, atoms.repeat((2, 1, 1))):
        np.testing.assert_allclose(describe_environments(other, [16, 42]), one, atol=1e-9)
    moved = atoms.copy()
    moved.positions[0, 2] += 0.05
    assert np.abs(describe_environments(moved, [16, 42]) - one).max() > 1e-3
    with pytest.raises(StructureError, match=r"expected elements \[6\]"):
        describe_environments(atoms, [6])


def test_a_slide_is_seen_between_layers_alone():
    atoms = design_materials.crystals()["bilayer"]
    slid = atoms.copy()
    slid.positions[2:, 0] += 0.7
    change = describe_environments(slid, [6]) - describe_environments(atoms, [6])
    within, between = change.reshape(2, 2, -1).transpose(1, 0, 2)
    assert np.abs(within).max() < 1e-9
    assert np.abs(between).max() > 0.1


def test_scaled_components_have_one_scale():
    rng = np.random.default_rng(0)
    raw = np.column_stack([rng.normal(5.0, 0.01, 400), rng.normal(0.0, 30.0, 400), np.ones(400)])
    scaled = scale_descriptors(raw)
    np.testing.assert_allclose(scaled.std(axis=0), [0.5**0.5, 0.5**0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(scale_descriptors(raw[:3], raw), scaled[:3])


def test_the_furthest_come_first():
    """On a line: the one in the middle, both ends, then the one furthest from these three."""
    points = np.array([[0.0], [1.0], [2.0], [3.0], [8.0], [4.0], [4.1]])
    order = select_diverse(points, ["a"] * 7, EVEN, 4)
    assert points[order, 0].tolist() == [3.0, 8.0, 0.0, 4.1]
    known = np.array([[8.0], [0.0]])
    first = select_diverse(points, ["a"] * 7, EVEN, 1, known=known)
    assert points[first, 0].tolist() == [4.0]
    assert sorted(select_diverse(points, ["a"] * 7, EVEN, 20)) == list(range(7))


def test_shares_are_kept_at_every_length():
    points = np.random.default_rng(1).normal(size=(60, 3))
    kinds = ["a"] * 30 + ["b"] * 20 + ["c"] * 10
    shares = {"a": 2.0, "b": 1.0, "c": 1.0}
    order = select_diverse(points, kinds, shares, 20)
    assert Counter(kinds[k] for k in order) == {"a": 10, "b": 5, "c": 5}
    for length in (4, 8, 12):
        counts = Counter(kinds[k] for k in order[:length])
        assert counts == {"a": length // 2, "b": length // 4, "c": length // 4}
    without = select_diverse(points, kinds, {"a": 1.0, "c": 1.0}, 25)
    assert Counter(kinds[k] for k in without) == {"a": 15, "c": 10}  # c is used up
    assert len(set(order)) == len(order)


def test_a_budget_is_not_exceeded_and_is_used():
    points = np.random.default_rng(2).normal(size=(50, 2))
    costs = np.tile([1.0, 2.0, 5.0], 17)[:50]
    order = select_diverse(points, ["a"] * 50, EVEN, 50, costs=costs, budget=20.0)
    spent = float(costs[order].sum())
    assert spent <= 20.0
    assert spent > 19.0  # a structure of 1 is left for what remains
    assert select_diverse(points, ["a"] * 50, EVEN, 5, costs=costs, budget=0.5) == []


def test_an_estimate_is_a_power_law():
    cost = estimate_cost([36, 0.5], 2.0)
    assert cost.estimate(72) == pytest.approx(2.0)
    assert cost.find_atoms(2.0) == 72
    assert "0.5 CPU-hours for 36 atoms" in cost.describe()


def write_times(folder, atoms_and_seconds):
    """Make a labelled set, and change the wall times that it tells."""
    structures = displaced(len(atoms_and_seconds))
    structures = [
        replace(one, atoms=one.atoms.repeat((n // 2, 1, 1)))
        for one, (n, _) in zip(structures, atoms_and_seconds, strict=True)
    ]
    label_structures(folder, structures, fake(), Told())
    for job, (_, seconds) in zip(LabelledSet(folder).jobs(), atoms_and_seconds, strict=True):
        state = job.read_state()
        attempts = tuple(replace(attempt, seconds=seconds) for attempt in state.attempts)
        job.write_state(replace(state, attempts=attempts))


def test_the_cost_of_labels_is_measured(tmp_path):
    write_times(tmp_path / "sizes", [(2, 3600.0), (4, 14400.0), (6, 32400.0)])
    cost = measure_cost(tmp_path / "sizes", 1.0, cores=2)
    assert cost.power == pytest.approx(2.0)
    assert cost.estimate(4) == pytest.approx(8.0)
    write_times(tmp_path / "size", [(4, 3600.0), (4, 3600.0)])
    same = measure_cost(tmp_path / "size", 3.0, cores=1)
    assert (same.power, same.estimate(8)) == (3.0, pytest.approx(8.0))
    write_times(tmp_path / "odd", [(2, 3600.0), (4, 1800.0), (6, 900.0)])
    odd = measure_cost(tmp_path / "odd", 2.0, cores=1)
    assert odd.power == 2.0
    assert "is not believed" in odd.describe()
    with pytest.raises(DataError, match="got no labelled structure"):
        measure_cost(tmp_path / "none", 2.0, cores=1)
