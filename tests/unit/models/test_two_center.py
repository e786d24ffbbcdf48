"""The two-centre baseline recovers two-centre Hamiltonians.

Its splines are smooth and end where they should.
"""

from __future__ import annotations

import pytest
import torch
from e3nn_oracle import double_precision
from scipy.interpolate import BSpline

from mlepi.models.block_targets import BlockTargets
from mlepi.models.two_center import BlockSample, TwoCenterBaseline
from mlepi.models.wigner import columns_by_order, edge_rotations, wigner_matrices

CUTOFFS = {"intra": 4.0, "inter": 5.0}
START, KNOTS = 1.0, 12
SHELLS = {"6": [0, 1], "7": [0, 0, 1]}


def build_baseline(num_knots=KNOTS) -> TwoCenterBaseline:
    targets = BlockTargets([6, 7], SHELLS)
    return TwoCenterBaseline(
        targets=targets, n_elements=2, cutoffs=CUTOFFS, num_knots=num_knots, start=START
    ).double()


def random_sample(baseline: TwoCenterBaseline, n_atoms=12, n_edges=400, seed=0) -> BlockSample:
    """Random edges among atoms of both elements; blocks are whatever ``baseline`` says."""
    generator = torch.Generator().manual_seed(seed)
    targets = BlockTargets([6, 7], SHELLS)
    species = torch.arange(n_atoms) % 2
    target = torch.randint(n_atoms, (n_edges,), generator=generator)
    source = torch.randint(n_atoms, (n_edges,), generator=generator)
    relation = torch.randint(2, (n_edges,), generator=generator)
    lengths = 1.0 + 3.9 * torch.rand(n_edges, generator=generator, dtype=torch.float64)
    vectors = torch.randn(n_edges, 3, generator=generator, dtype=torch.float64)
    rotation = targets.rotation(edge_rotations(vectors, 1))
    pair = species[target] * 2 + species[source]
    field = rotation @ baseline.field_blocks(lengths, relation, pair) @ rotation.transpose(1, 2)
    return BlockSample(
        on_site=baseline.on_site.double()[species].index_add(0, target, field),
        edges=baseline.edge_blocks(lengths, relation, pair),
        rotation=rotation,
        lengths=lengths,
        relation=relation,
        pair=pair,
        target=target,
        species=species,
    )


def randomise(baseline: TwoCenterBaseline) -> None:
    for table in (baseline.edge_coefficients, baseline.crystal_field):
        table.normal_()
    size = baseline.size
    for element in range(2):
        values = torch.randn(size, dtype=torch.float64)
        values[3:] = values[2]  # one number for the three p orbitals
        baseline.on_site[element] = torch.diag(values)


def test_splines_are_scipys():
    baseline = build_baseline()
    for relation, name in enumerate(CUTOFFS):
        lengths = torch.linspace(START, CUTOFFS[name], 101, dtype=torch.float64)
        ours = baseline.splines(lengths, torch.full((101,), relation))
        step = (CUTOFFS[name] - START) / KNOTS
        for k in range(KNOTS):
            knots = START + step * torch.arange(k - 3, k + 2, dtype=torch.float64)
            theirs = torch.tensor(
                BSpline.basis_element(knots.numpy(), extrapolate=False)(lengths.numpy())
            ).nan_to_num()
            torch.testing.assert_close(ours[:, k], theirs, rtol=0, atol=1e-12)


def test_splines_vanish_smoothly_at_the_cutoff_and_are_constant_below_the_start():
    baseline = build_baseline()
    lengths = torch.tensor([5.0, 5.5, 0.6, 1.0], dtype=torch.float64, requires_grad=True)
    values = baseline.splines(lengths, torch.ones(4, dtype=torch.long))
    assert not values[:2].any()
    assert torch.equal(values[2], values[3])
    (slope,) = torch.autograd.grad(values.sum(1).sum(), lengths, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), lengths)
    assert not slope.detach()[:2].any()
    assert curvature[:2].abs().max() < 1e-12


def test_edge_blocks_are_diagonal_in_m():
    """An edge block does not change when it is turned around the edge."""
    baseline = build_baseline()
    randomise(baseline)
    blocks = baseline.edge_blocks(
        torch.full((4,), 2.0, dtype=torch.float64),
        torch.zeros(4, dtype=torch.long),
        torch.arange(4),
    )
    with double_precision():
        turn = torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]])[None]
    rotation = BlockTargets([6, 7], SHELLS).rotation(columns_by_order(wigner_matrices(turn, 1)))
    torch.testing.assert_close(
        rotation @ blocks @ rotation.transpose(1, 2), blocks, rtol=0, atol=1e-12
    )
    assert (blocks[0] - blocks[1]).abs().max() > 1e-2


def test_one_pair_of_elements_gives_the_same_as_many():
    one = TwoCenterBaseline(
        targets=BlockTargets([6], {6: [0, 1]}),
        n_elements=1,
        cutoffs=CUTOFFS,
        num_knots=KNOTS,
        start=START,
    ).double()
    one.edge_coefficients.normal_()
    lengths, relation = torch.tensor([1.7, 2.6], dtype=torch.float64), torch.tensor([0, 1])
    for e in range(2):
        by_hand = (
            one.splines(lengths, relation)[e]
            @ one.edge_coefficients[int(relation[e]), 0]
            @ one.pattern
        )
        block = one.edge_blocks(lengths, relation, torch.zeros(2, dtype=torch.long))[e]
        torch.testing.assert_close(block, by_hand.reshape(4, 4), rtol=0, atol=1e-12)


def test_fit_recovers_a_two_centre_hamiltonian():
    truth, fitted = build_baseline(), build_baseline()
    torch.manual_seed(3)
    randomise(truth)
    fitted.fit(
        [random_sample(truth, n_edges=60, seed=seed) for seed in range(80)], smoothness=1e-12
    )
    unseen = random_sample(truth, seed=99)
    again = random_sample(fitted, seed=99)
    assert unseen.edges.abs().max() > 1.0
    torch.testing.assert_close(again.edges, unseen.edges, rtol=0, atol=1e-4)
    torch.testing.assert_close(again.on_site, unseen.on_site, rtol=0, atol=1e-3)


def test_smoothness_bridges_lengths_without_data():
    baseline = build_baseline()
    sample = random_sample(baseline)
    curve = torch.exp(-sample.lengths)[:, None, None] * torch.eye(
        baseline.size, dtype=torch.float64
    )
    seen = BlockSample(
        sample.on_site, curve, *(getattr(sample, n) for n in list(sample.__dataclass_fields__)[2:])
    )
    keep = (seen.lengths < 2.0) | (seen.lengths > 2.6)
    edge_level = ("edges", "rotation", "lengths", "relation", "pair", "target")
    gap = BlockSample(
        **{
            n: getattr(seen, n)[keep] if n in edge_level else getattr(seen, n)
            for n in sample.__dataclass_fields__
        }
    )
    baseline.fit([gap], smoothness=1e-6)
    probe = torch.tensor([2.3], dtype=torch.float64)
    value = baseline.edge_blocks(probe, torch.tensor([1]), torch.tensor([0]))[0, 0, 0]
    assert float(value) == pytest.approx(float(torch.exp(-probe)), rel=0.05)


def test_a_relation_without_edges_keeps_zero_tables():
    baseline = build_baseline()
    sample = random_sample(baseline)
    intra = BlockSample(
        **{
            **vars(sample),
            "relation": torch.zeros_like(sample.relation),
            "edges": sample.edges + 1.0,
        }
    )
    baseline.fit([intra])
    assert baseline.edge_coefficients[0].any()
    assert not baseline.edge_coefficients[1].any()
    assert baseline.crystal_field[1].abs().max() < 1e-9
