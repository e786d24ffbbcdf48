"""Blocks ↔ irreps: completeness, rotation, and the slots of elements with different shells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn_oracle import wigner_d
from scipy.spatial.transform import Rotation

from mlepi.models.block_targets import BlockTargets
from mlepi.models.wigner import columns_by_order
from mlepi.structures.basis import OrbitalBasis

SHELLS = {6: (1, 0, 2, 0), 1: (0, 1, 1), 8: (2,)}


def targets_of(shells=SHELLS) -> BlockTargets:
    return BlockTargets(sorted(shells), {str(z): list(ls) for z, ls in shells.items()}).double()


@pytest.mark.parametrize(
    ("shells", "natural", "pseudo"),
    [
        ({6: (0, 0, 1, 1)}, (8, 8, 4), (0, 4)),
        (
            {6: (0, 0, 1, 1, 2)},
            (9, 12, 9, 4, 1),
            (0, 5, 4, 1),
        ),  # 9x0e+12x1o+9x2e+4x3o+1x4e and 5x1e+4x2o+1x3e: 169 numbers
        ({1: (0,)}, (1,), ()),
    ],
)
def test_counts_of_irreps(shells, natural, pseudo):
    targets = targets_of(shells)
    assert (targets.natural, targets.pseudo) == (natural, pseudo)
    numbers = sum((2 * l + 1) * n for counts in (natural, pseudo) for l, n in enumerate(counts))
    assert numbers == targets.size**2 == targets.matrix.shape[0]


def test_irreps_and_blocks_carry_the_same_information():
    """The map is orthogonal, so every block has exactly one set of irreps."""
    targets = targets_of()
    identity = torch.eye(targets.size**2, dtype=torch.float64)
    torch.testing.assert_close(targets.matrix @ targets.matrix.T, identity, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "matrix",
    [Rotation.from_rotvec([0.4, -1.2, 0.3]).as_matrix(), -np.eye(3)],
    ids=["rotation", "inversion"],
)
def test_irreps_turn_into_turned_blocks(matrix):
    targets = targets_of()
    t, expected = torch.randn(2, targets.matrix.shape[0], dtype=torch.float64), []
    for sign, counts in ((1.0, targets.natural), (np.sign(np.linalg.det(matrix)), targets.pseudo)):
        for L, count in enumerate(counts):
            start = sum(part.shape[1] for part in expected)
            part = t[:, start : start + (2 * L + 1) * count].reshape(2, 2 * L + 1, count)
            turned = sign * torch.einsum("ab,nbc->nac", torch.tensor(wigner_d(L, matrix)), part)
            expected.append(turned.reshape(2, -1))
    rotation = targets.rotation(
        columns_by_order([torch.tensor(wigner_d(l, matrix))[None] for l in range(3)])
    )
    blocks = rotation @ targets.blocks(t) @ rotation.transpose(1, 2)
    torch.testing.assert_close(
        targets.blocks(torch.cat(expected, dim=1)), blocks, rtol=0, atol=1e-10
    )


def test_padded_layout_is_that_of_the_basis():
    """Every shell lands where ``OrbitalBasis`` says, and no slot is used twice."""
    targets, basis = targets_of(), OrbitalBasis(SHELLS, dict.fromkeys(SHELLS, 1.0), {})
    assert targets.slots == (0, 0, 1, 1, 2)
    assert targets.max_orbitals == basis.max_orbitals == 10
    elements = list(basis.elements)
    for row, first in enumerate(elements):
        for column, second in enumerate(elements):
            marked = torch.arange(1.0, targets.size**2 + 1, dtype=torch.float64).reshape(
                1, targets.size, targets.size
            )
            padded = targets.to_padded(marked, torch.tensor([row]), torch.tensor([column]))[0]
            for a, la in zip(basis.slices(first), basis.shells[first], strict=True):
                for b, lb in zip(basis.slices(second), basis.shells[second], strict=True):
                    ka = list(basis.shells[first][: basis.slices(first).index(a)]).count(la)
                    kb = list(basis.shells[second][: basis.slices(second).index(b)]).count(lb)
                    i = [s for s, l in zip(targets.slices, targets.slots, strict=True) if l == la][
                        ka
                    ]
                    j = [s for s, l in zip(targets.slices, targets.slots, strict=True) if l == lb][
                        kb
                    ]
                    assert torch.equal(padded[a, b], marked[0, i, j])
            n, m = basis.n_orbitals(first), basis.n_orbitals(second)
            assert not padded[n:].any()
            assert not padded[:, m:].any()


def test_from_padded_undoes_to_padded():
    targets, basis = targets_of(), OrbitalBasis(SHELLS, dict.fromkeys(SHELLS, 1.0), {})
    rows, columns = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 1, 0, 2])
    mask = torch.as_tensor(basis.mask(list(basis.elements)))
    blocks = (
        torch.randn(4, 10, 10, dtype=torch.float64)
        * mask[rows][:, :, None]
        * mask[columns][:, None, :]
    )
    slots = targets.from_padded(blocks, rows, columns)
    assert slots.shape == (4, targets.size, targets.size)
    assert torch.equal(targets.to_padded(slots, rows, columns), blocks)
    torch.testing.assert_close(slots.square().sum(), blocks.square().sum())


def test_rows_sorted_by_order_make_the_same_blocks():
    targets = targets_of()
    t = torch.randn(3, targets.matrix.shape[0], dtype=torch.float64)
    pieces, start = [], 0
    for counts in (targets.natural, targets.pseudo):
        for L, count in enumerate(counts):
            part = t[:, start : start + (2 * L + 1) * count].reshape(3, 2 * L + 1, count)
            start += part.shape[1] * count
            pieces.append(
                part[:, [L, *(L + s * m for m in range(1, L + 1) for s in (-1, 1))]].flatten(1)
            )
    torch.testing.assert_close(
        targets.edge_blocks(torch.cat(pieces, dim=1)), targets.blocks(t), rtol=0, atol=1e-13
    )
