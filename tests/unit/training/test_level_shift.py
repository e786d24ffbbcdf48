"""Choosing the level shift of a basis from labels."""

from __future__ import annotations

import numpy as np
import pytest
from real_supercells import real_supercell

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.level_shift import KPOINTS, choose_level_shift

LIMIT = 0.01  # eV


@pytest.fixture(scope="module")
def labels():
    atoms, (h, s), _, _ = real_supercell()
    levels = solve_bands(h.dense([1 / 3, 1 / 3, 0]), s.dense([1 / 3, 1 / 3, 0]))
    return LabelledStructure(
        name="slide",
        atoms=atoms,
        basis=h.basis,
        edge_index=h.edge_index,
        edge_cell_shift=h.edge_cell_shift,
        hamiltonian_blocks=h.blocks,
        overlap_blocks=s.blocks,
        fermi_energy=float(levels[7:9].mean()),
    )


def test_the_strongest_shift_with_a_small_bias_is_chosen(labels):
    chosen, trials = choose_level_shift(
        [labels],
        thresholds=(0.005, 0.01),
        strengths=(0.1, 1.0, 30.0),
        window=6.0,
        largest_bias=LIMIT,
    )
    assert chosen is not None
    by_shift = {(t.shift.threshold, t.shift.strength): t for t in trials}
    assert len(by_shift) == 6
    own = by_shift[chosen.threshold, chosen.strength]
    assert own.bias <= LIMIT
    assert own.worst_bias == own.bias
    for trial in trials:
        assert trial.bias > LIMIT or trial.amplification >= own.amplification
    # the bias is what the levels really do, their mean taken back
    h, s = block_matrices(labels)
    raised, changes = shift_hamiltonian(labels.atoms, h, s, chosen), []
    for kpoint in KPOINTS:
        exact = solve_bands(h.dense(kpoint), s.dense(kpoint))
        near = np.abs(exact - labels.fermi_energy) <= 6.0
        changes.append((solve_bands(raised.dense(kpoint), s.dense(kpoint)) - exact)[near])
    change = np.concatenate(changes)
    assert np.sqrt(np.mean(change**2)) == pytest.approx(own.bias, rel=1e-6)
    assert abs(change.mean()) < 1e-9


def test_no_shift_is_chosen_where_every_one_has_too_large_a_bias(labels):
    assert choose_level_shift([labels], largest_bias=1e-9, strengths=(1.0,), window=6.0)[0] is None


def test_structures_are_needed():
    with pytest.raises(DataError, match="level shift: got no structures"):
        choose_level_shift([])
