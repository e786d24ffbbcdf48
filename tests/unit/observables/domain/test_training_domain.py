"""Geometry of structures against the ranges of training data, and spreads of networks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase.build import bulk
from toy_ensembles import matrices
from toys import SPACING, honeycomb

from mlepi.checkpoint import load_checkpoint
from mlepi.errors import DataError, StructureError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables.domain.training_domain import (
    QUANTITIES,
    TrainingDomain,
    describe_geometry,
    find_training_data,
    force_spread,
    hamiltonian_spread,
    list_unseen,
    read_training_structures,
)
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import build_graphene

BOND = 2.46 / np.sqrt(3)
DATA = PROJECT_FOLDER / "data" / "blg_openmx"


def test_geometry_of_known_structures():
    flat = honeycomb(bilayer=True)
    values = describe_geometry(flat.repeat((3, 3, 1)), flat.repeat((3, 3, 1)).positions)
    np.testing.assert_allclose(values, [BOND, BOND, SPACING, SPACING, 0.0, 0.0], atol=1e-6)
    moved = flat.repeat((3, 3, 1))
    moved.positions[0] += [0.0, 0.0, 0.18]
    values = dict(
        zip(QUANTITIES, describe_geometry(moved, flat.repeat((3, 3, 1)).positions), strict=True)
    )
    assert values["displacement"] == pytest.approx(0.18)
    assert values["height within a layer"] == pytest.approx(0.18 * 17 / 18)
    assert values["layer spacing"] == pytest.approx(SPACING - 0.01)
    assert values["longest bond"] == pytest.approx(np.hypot(BOND, 0.18), rel=1e-6)
    assert values["nearest intralayer pair"] == pytest.approx(BOND, rel=1e-6)
    values = dict(zip(QUANTITIES, describe_geometry(honeycomb()), strict=True))
    assert np.isnan(
        [values["nearest interlayer pair"], values["layer spacing"], values["displacement"]]
    ).all()


def test_distance_is_counted_outside_the_range_on_the_right_side():
    training = np.array([[1.3, 1.5, 3.0, 3.3, 0.1, np.nan], [1.4, 1.6, 3.2, 3.5, 0.3, np.nan]])
    domain = TrainingDomain(training, "two structures")
    np.testing.assert_allclose(
        domain.ranges[:5], [[1.3, 1.4], [1.5, 1.6], [3.0, 3.2], [3.3, 3.5], [0.1, 0.3]]
    )
    inside = np.array([1.35, 1.55, 3.1, 3.4, 0.2, 9.0])
    assert domain.distances(inside) == pytest.approx(-1.0)
    for number, value, expected in (
        (0, 1.2, 2.0),
        (0, 2.0, -1.0),
        (1, 1.7, 2.0),
        (3, 3.2, 1.0),
        (3, 3.7, 2.0),
        (4, 0.0, -1.0),
    ):
        sample = inside.copy()
        sample[number] = value
        assert domain.distances(sample) == pytest.approx(expected)
    assert np.isnan(TrainingDomain(np.empty((0, 6)), "").distances(inside))


def test_shipped_checkpoints_name_their_training_structures():
    """What the domain of validity in data/checkpoints/hedgenet_electron.md says."""
    card = (PROJECT_FOLDER / "data/checkpoints/hedgenet_electron.md").read_text(encoding="utf-8")
    n_train = int(re.search(r": (\d+) train, ", card)[1])
    spacings = [float(end) for end in re.search(r"Layer spacings (\S+)–(\S+) Å", card).groups()]
    height = float(re.search(r"mean plane of its layer (\S+) Å", card)[1])
    path, split = find_training_data(
        load_checkpoint(PROJECT_FOLDER / "data/checkpoints/hedgenet_electron.ckpt")[0]["metadata"]
    )
    structures = read_training_structures(PROJECT_FOLDER / path, PROJECT_FOLDER / split)
    assert len(structures) == n_train
    ranges = TrainingDomain(
        np.array([describe_geometry(atoms) for atoms in structures]), "shipped"
    ).ranges
    np.testing.assert_allclose(ranges[QUANTITIES.index("layer spacing")], spacings, atol=5e-3)
    assert ranges[QUANTITIES.index("height within a layer"), 1] == pytest.approx(height, abs=5e-3)


def test_spread_of_hamiltonians_ignores_their_energy_zero():
    atoms = honeycomb(bilayer=True)
    h, s = matrices(atoms)
    noise = 0.01 * np.random.default_rng(0).normal(size=h.blocks.shape)
    noise -= np.sum(noise * s.blocks) / np.sum(s.blocks**2) * s.blocks
    others = [
        BlockMatrix(h.numbers, h.basis, h.edge_index, h.edge_cell_shift, h.blocks + x)
        for x in (noise, 3.0 * s.blocks)
    ]
    assert hamiltonian_spread([h, others[1]], s) == pytest.approx(0.0, abs=1e-9)
    # two values a and b deviate by ±(a − b)/2 from their mean: variance (a − b)²/2 with n − 1
    expected = np.sqrt(np.mean(noise**2) / 2)
    assert hamiltonian_spread([h, others[0]], s) == pytest.approx(expected, rel=1e-6)
    order = np.random.default_rng(1).permutation(len(h.blocks))
    shuffled = BlockMatrix(
        h.numbers,
        h.basis,
        h.edge_index[:, order],
        h.edge_cell_shift[order],
        others[0].blocks[order],
    )
    assert hamiltonian_spread([h, shuffled], s) == pytest.approx(expected, rel=1e-6)
    assert force_spread([np.zeros((4, 3)), np.full((4, 3), 0.2)]) == pytest.approx(0.2 / np.sqrt(2))
    with pytest.raises(
        StructureError, match="ensemble of electron networks: got matrices of different size"
    ):
        hamiltonian_spread([h, matrices(atoms.repeat((2, 1, 1)))[0]], s)


def test_a_split_without_the_subset_is_refused():
    with pytest.raises(DataError, match=r"expected 'holdout'"):
        read_training_structures(
            DATA / "forces.extxyz", DATA / "splits" / "forces_81_09_10.json", "holdout"
        )


def test_what_no_training_structure_has_is_said():
    """A monolayer under bilayers, another element, another coordination."""
    bilayers = [build_graphene("AB"), build_graphene("AA")]
    assert list_unseen(build_graphene("AB", spacing=3.2), bilayers) == []
    assert list_unseen(build_graphene("monolayer"), bilayers) == [
        "1 layer, where the training structures have 2"
    ]
    assert list_unseen(build_graphene("monolayer"), []) == []
    diamond = list_unseen(bulk("C", "diamond", a=3.567), [build_graphene("monolayer")])
    assert diamond == ["C with 4 bonds, which no atom of the training structures has"]
    silicon = list_unseen(bulk("Si"), [build_graphene("monolayer")])
    assert silicon == ["Si, in no training structure"]
