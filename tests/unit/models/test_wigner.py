"""Edge frames and Wigner matrices against e3nn's own Euler-angle matrices and harmonics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from e3nn_oracle import wigner_d
from scipy.spatial.transform import Rotation

from mlepi.models.wigner import (
    AXES,
    edge_frames,
    edge_rotations,
    order_rows,
    wigner_3j,
    wigner_matrices,
)


def random_rotations(count: int, seed: int = 0) -> np.ndarray:
    """Cartesian (x, y, z)."""
    return Rotation.random(count, np.random.default_rng(seed)).as_matrix()


def in_axis_order(matrices: np.ndarray) -> torch.Tensor:
    return torch.tensor(matrices[:, AXES][:, :, AXES])


def special_and_random_vectors() -> torch.Tensor:
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    diagonals = torch.tensor([[1.0, 1, 0], [0, -1, 1], [1, 1, 1], [-1, 1, -1]], dtype=torch.float64)
    near = torch.tensor([0.0, 0.0, 1.0]) + 1e-9 * torch.randn(3, 3, dtype=torch.float64)
    return torch.cat([axes, diagonals, near, torch.randn(8, 3, dtype=torch.float64)]) * 1.7


def test_frames_are_rotations_with_the_edge_in_the_middle():
    vectors = special_and_random_vectors()
    frames = edge_frames(vectors)
    identity = torch.eye(3, dtype=torch.float64).expand_as(frames)
    torch.testing.assert_close(frames.transpose(1, 2) @ frames, identity, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        torch.linalg.det(frames), torch.ones(len(vectors), dtype=torch.float64), rtol=0, atol=1e-14
    )
    direction = vectors[:, [1, 2, 0]] / vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(frames[:, :, 1], direction, rtol=0, atol=1e-15)


def test_matrices_are_those_of_e3nn():
    rotations = random_rotations(7)
    for l, matrices in enumerate(wigner_matrices(in_axis_order(rotations), 6)):
        for ours, rotation in zip(matrices, rotations, strict=True):
            np.testing.assert_allclose(ours.numpy(), wigner_d(l, rotation), rtol=0, atol=1e-12)


def test_matrices_multiply_like_rotations():
    a, b = in_axis_order(random_rotations(5, seed=1)), in_axis_order(random_rotations(5, seed=2))
    for left, right, product in zip(
        wigner_matrices(a, 5), wigner_matrices(b, 5), wigner_matrices(a @ b, 5), strict=True
    ):
        torch.testing.assert_close(left @ right, product, rtol=0, atol=1e-12)


def test_harmonics_of_the_edge_have_only_m_zero_in_its_frame():
    vectors = special_and_random_vectors()
    for l, matrix in enumerate(wigner_matrices(edge_frames(vectors), 5)):
        harmonics = o3.spherical_harmonics(
            l, vectors[:, AXES], normalize=True, normalization="norm"
        )
        expected = torch.zeros(2 * l + 1, dtype=torch.float64)
        expected[l] = 1.0
        turned = torch.einsum("eab,ea->eb", matrix, harmonics)
        torch.testing.assert_close(turned, expected.expand_as(turned), rtol=0, atol=1e-12)


@pytest.mark.parametrize("l_max", [0, 1, 3])
def test_number_shape_and_dtype(l_max):
    matrices = wigner_matrices(edge_frames(torch.randn(4, 3)), l_max)
    assert [m.shape for m in matrices] == [(4, 2 * l + 1, 2 * l + 1) for l in range(l_max + 1)]
    assert {m.dtype for m in matrices} == {torch.float32}


def test_no_edges():
    assert [m.shape[0] for m in wigner_matrices(edge_frames(torch.zeros(0, 3)), 3)] == [0] * 4


def test_derivatives_along_the_axes():
    """Both forms of an l = 2 tensor of the edge have the same derivative where angles fail."""
    vectors = special_and_random_vectors()[:10].requires_grad_()
    weight = torch.randn(10, 5, dtype=torch.float64)
    turned = (wigner_matrices(edge_frames(vectors), 2)[2][:, :, 2] * weight).sum()
    direct = (
        o3.spherical_harmonics(2, vectors[:, AXES], normalize=True, normalization="norm") * weight
    ).sum()
    gradients = [torch.autograd.grad(value, vectors)[0] for value in (turned, direct)]
    assert gradients[0].abs().max() > 0.1
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_coupling_is_normalised():
    assert float((wigner_3j(2, 3, 4) ** 2).sum()) == pytest.approx(1.0, abs=1e-12)


def test_columns_of_edge_rotations_are_sorted_by_order():
    assert [order_rows(l) for l in range(3)] == [[0], [1, 0, 2], [2, 1, 3, 0, 4]]
    vectors = special_and_random_vectors()
    for l, (matrix, plain) in enumerate(
        zip(edge_rotations(vectors, 3), wigner_matrices(edge_frames(vectors), 3), strict=True)
    ):
        for column, m in enumerate([0, *(sign * k for k in range(1, l + 1) for sign in (-1, 1))]):
            assert torch.equal(matrix[:, :, column], plain[:, :, l + m])
