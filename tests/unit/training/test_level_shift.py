"""Choosing the level shift of a basis from labels."""

from __future__ import annotations

import numpy as np
import pytest
from real_supercells import real_labels

from mlepi.errors import ConfigError, DataError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training import level_shift
from mlepi.training.level_shift import (
    KPOINTS,
    ShiftLabels,
    choose_level_shift,
    describe_training,
)

LIMIT = 0.01  # eV
SHIFT = LevelShift(0.005, 0.7, 0.001)


@pytest.fixture(scope="module")
def labels():
    return real_labels([1 / 3, 1 / 3, 0])


def rises(labels, shift):
    """By how much the levels near the Fermi energy rise at all k-points, eV."""
    h, s = block_matrices(labels)
    raised, changes = shift_hamiltonian(labels.atoms, h, s, shift), []
    for kpoint in KPOINTS:
        exact = solve_bands(h.dense(kpoint), s.dense(kpoint))
        near = np.abs(exact - labels.fermi_energy) <= 6.0
        changes.append((solve_bands(raised.dense(kpoint), s.dense(kpoint)) - exact)[near])
    return np.concatenate(changes)


def test_the_strongest_shift_with_a_small_bias_is_chosen(labels):
    strengths = (0.1, 1.0, 3.0, 30.0)
    own_labels = ShiftLabels([labels], 6.0)
    chosen, trials = choose_level_shift(
        own_labels, thresholds=(0.005, 0.01), strengths=strengths, largest_bias=LIMIT
    )
    assert chosen is not None
    by_shift = {(t.shift.threshold, t.shift.strength): t for t in trials}
    assert len(by_shift) == len(trials) <= 6  # by bisection
    own = by_shift[chosen.threshold, chosen.strength]
    assert own.bias <= LIMIT
    assert own.worst_bias == own.median_bias == own.bias
    for trial in trials:
        assert trial.bias > LIMIT or trial.amplification >= own.amplification
    stronger = [s for s in strengths if s > chosen.strength]
    if stronger:
        next_one = own_labels.prepare(chosen.threshold)(min(stronger))
        assert next_one.bias > LIMIT
    # the bias is what the levels really do, their mean taken back
    change = rises(labels, chosen)
    assert np.sqrt(np.mean(change**2)) == pytest.approx(own.bias, rel=1e-6)
    assert abs(change.mean()) < 1e-9


def test_the_bias_is_that_of_all_levels_together(labels):
    """Of two equal structures and another one, not the median's."""
    other = soften(labels)
    parts = [labels, labels, other]
    trial = ShiftLabels(parts, 6.0).prepare(0.01)(3.0)
    changes = [rises(part, trial.shift) for part in parts]
    assert abs(np.concatenate(changes).mean()) < 1e-9
    each = [np.sqrt(np.mean(change**2)) for change in changes]
    assert trial.bias == pytest.approx(np.sqrt(np.mean(np.concatenate(changes) ** 2)), rel=1e-6)
    assert trial.median_bias == pytest.approx(np.median(each), rel=1e-6)
    assert trial.worst_bias == pytest.approx(max(each), rel=1e-6)
    assert trial.median_bias != pytest.approx(trial.bias, rel=1e-3)


def soften(labels):
    """The same states with smaller energies, of which more lie in the window."""
    changes = {
        "hamiltonian_blocks": 0.7 * labels.hamiltonian_blocks,
        "fermi_energy": 0.7 * labels.fermi_energy,
    }
    return LabelledStructure(**{**vars(labels), **changes})


def test_no_shift_is_chosen_where_every_one_has_too_large_a_bias(labels):
    shifts = ShiftLabels([labels], 6.0)
    assert choose_level_shift(shifts, largest_bias=1e-9, strengths=(1.0,))[0] is None


def test_structures_are_needed():
    with pytest.raises(DataError, match="level shift: got no structures"):
        ShiftLabels([])


def test_an_overlap_without_soft_directions_gets_no_shift(labels):
    blocks = np.where(
        (labels.edge_index[0] == labels.edge_index[1])[:, None, None]
        & ~np.any(labels.edge_cell_shift, axis=1)[:, None, None],
        np.eye(8),
        0.0,
    )
    stiff = LabelledStructure(**{**vars(labels), "overlap_blocks": blocks})
    assert choose_level_shift(ShiftLabels([stiff])) == (None, [])
    assert describe_training("auto", [stiff]) == {"level_shift": None}


def test_the_largest_norm_is_that_of_states_up_to_the_window(labels):
    h, s = block_matrices(labels)
    norms = []
    for kpoint in KPOINTS:
        levels, states = solve_bands(h.dense(kpoint), s.dense(kpoint), vectors=True)
        norms += list(np.sum(np.abs(states) ** 2, axis=0)[levels <= labels.fermi_energy + 2.0])
    assert ShiftLabels([labels]).find_largest_norm() == pytest.approx(max(norms))
    assert 1.0 < max(norms) < 3.0
    unknown = LabelledStructure(**{**vars(labels), "fermi_energy": None})
    assert ShiftLabels([unknown]).find_largest_norm() == 0.0


def test_a_training_learns_its_shift_from_some_structures(labels, monkeypatch):
    monkeypatch.setattr(level_shift, "N_STRUCTURES", 2)
    monkeypatch.setattr(level_shift, "choose_level_shift", lambda labels: (SHIFT, []))
    seen, solve = [], level_shift._solve
    monkeypatch.setattr(level_shift, "_solve", lambda *a: seen.append(a[0].name) or solve(*a))
    five = [LabelledStructure(**{**vars(labels), "name": str(n)}) for n in range(5)]
    found = describe_training("auto", five)
    norm = ShiftLabels([labels]).find_largest_norm()
    assert found == {"level_shift": SHIFT.to_dict(), "largest_norm": norm}
    assert seen[:2] == ["0", "3"]
    assert describe_training("off", five) == describe_training(False, five)
    assert describe_training("off", five) == {"level_shift": None}
    own = {"threshold": 0.01, "strength": 1.0}
    assert describe_training(own, five)["level_shift"] == {**own, "offset": 0.0}


def test_a_training_diagonalises_each_structure_once(labels, monkeypatch):
    seen, solve = [], level_shift._solve
    monkeypatch.setattr(level_shift, "_solve", lambda *a: seen.append(a[0].name) or solve(*a))
    assert describe_training("auto", [labels])["level_shift"] is not None
    assert seen == ["slide"]


@pytest.mark.parametrize("wrong", ["on", None, 0.3, True, {"threshold": 0.01}])
def test_other_shifts_are_refused(labels, wrong):
    with pytest.raises(ConfigError, match=r"task\.level_shift: got"):
        describe_training(wrong, [labels])
