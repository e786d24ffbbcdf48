"""Frames of edges: which neighbours fix them, what turns with the structure, who decides ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from electron_models import bilayer, directed_edges
from scipy.spatial.transform import Rotation

from mlepi.models.local_frames import FrameNeighbours, tabulate_edges
from mlepi.models.wigner import AXES

ROTATION = Rotation.from_rotvec([0.4, 1.3, -0.2]).as_matrix()


def neighbours_of(vectors, target, n_atoms, min_sine=0.1):
    slots = tabulate_edges(torch.as_tensor(target), n_atoms)
    return FrameNeighbours.of(torch.as_tensor(np.asarray(vectors)), slots, min_sine)


def cartesian(frames):
    """Columns (second, edge, third) with components (x, y, z)."""
    return frames[:, np.argsort(AXES)].numpy()


def sine(a, b):
    return np.linalg.norm(np.cross(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)


def test_edges_are_listed_by_atom():
    table = tabulate_edges(torch.tensor([2, 0, 2, 2, 0]), 4)
    assert table.tolist() == [[1, 4, 5], [5, 5, 5], [0, 2, 3], [5, 5, 5]]
    assert tabulate_edges(torch.zeros(0, dtype=torch.long), 2).shape == (2, 0)


@pytest.mark.parametrize("min_sine", [1e-6, 0.6])
def test_the_nearest_neighbour_that_is_not_collinear_fixes_the_frame(min_sine):
    atoms = bilayer()
    _, target, _, vectors = directed_edges(atoms)
    choice = neighbours_of(vectors, target, len(atoms), min_sine)
    frames, second = choice.frames(torch.as_tensor(target), torch.as_tensor(vectors))
    skipped = 0
    for n, (i, vector) in enumerate(zip(target, vectors, strict=True)):
        near = sorted(
            (np.linalg.norm(v), k)
            for k, (t, v) in enumerate(zip(target, vectors, strict=True))
            if t == i and np.any(v)
        )
        if not np.any(vector):  # a self-loop: the nearest neighbour is in the place of the edge
            assert int(choice.nearest(torch.tensor([i]))) == near[0][1]
            continue
        others = [k for _, k in near if sine(vectors[k], vector) > min_sine]
        skipped += others[0] != next(k for _, k in near if k != n)
        assert int(second[n]) == others[0]
        across, along, third = cartesian(frames)[n].T
        np.testing.assert_allclose(along, vector / np.linalg.norm(vector), atol=1e-12)
        assert across @ along == pytest.approx(0.0, abs=1e-12)
        assert across @ vectors[others[0]] > 0.0
        assert third @ vectors[others[0]] == pytest.approx(0.0, abs=1e-12)
    assert (skipped > 0) == (min_sine > 0.1)


def test_frames_turn_with_the_structure_and_are_right_handed():
    atoms = bilayer()
    _, target, _, vectors = directed_edges(atoms)
    bonds = np.any(vectors != 0.0, axis=1)
    frames = []
    for v in (vectors, vectors @ ROTATION.T):
        choice = neighbours_of(v, target, len(atoms))
        found, _ = choice.frames(torch.as_tensor(target)[bonds], torch.as_tensor(v)[bonds])
        frames.append(cartesian(found))
    np.testing.assert_allclose(frames[1], ROTATION @ frames[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        np.swapaxes(frames[0], 1, 2) @ frames[0],
        np.broadcast_to(np.eye(3), frames[0].shape),
        atol=1e-12,
    )
    assert np.linalg.det(frames[0]) == pytest.approx(1.0)


def test_equally_far_neighbours_are_told_apart_by_direction_not_by_order():
    """The three bonds of graphene: atoms on one sublattice choose alike, however listed."""
    angles = np.deg2rad([90.0, 210.0, 330.0])
    bonds = 1.42 * np.column_stack([np.cos(angles), np.sin(angles), np.zeros(3)])
    generator = np.random.default_rng(0)
    chosen = set()
    for _ in range(20):
        order = generator.permutation(3)
        noisy = bonds[order] + 1e-9 * generator.normal(size=(3, 3))
        choice = neighbours_of(noisy, [0, 0, 0], 1)
        chosen.add(int(order[int(choice.nearest(torch.tensor([0])))]))
    assert len(chosen) == 1


def test_without_a_second_neighbour_the_angle_is_arbitrary_and_said_to_be():
    line = np.array([[0.0, 0.0, 1.4], [0.0, 0.0, -1.5], [0.0, 0.0, 0.0]])
    choice = neighbours_of(line, [0, 0, 0], 2)
    frames, second = choice.frames(torch.tensor([0, 0]), torch.as_tensor(line[:2]))
    assert second.tolist() == [3, 3]
    np.testing.assert_allclose(cartesian(frames)[:, :, 1], [[0, 0, 1], [0, 0, -1]], atol=1e-12)
    alone = neighbours_of(np.zeros((1, 3)), [0], 1)
    assert alone.nearest(torch.tensor([0])).tolist() == [1]
    frames, second = alone.frames(torch.tensor([0]), torch.zeros(1, 3, dtype=torch.float64))
    assert second.tolist() == [1]
    assert torch.linalg.det(frames).item() == pytest.approx(1.0)
