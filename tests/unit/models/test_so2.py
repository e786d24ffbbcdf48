"""The SO(2) form of the tensor product against e3nn's path-by-path ``TensorProduct``."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from e3nn_oracle import double_precision, harmonics, natural_irreps, to_e3nn, unnatural_irreps

from mlepi.models.so2 import (
    SO2Product,
    flat_size,
    join_degrees,
    rotate,
    rotate_to_edges,
    rotate_to_global,
    split_degrees,
    to_degrees,
    to_orders,
)
from mlepi.models.wigner import edge_rotations

N_EDGES = 6


def build_oracle(product: SO2Product) -> tuple[o3.TensorProduct, torch.Tensor]:
    """The same paths as an e3nn product with all harmonics, and the weights in its order."""
    irreps_in, irreps_edge = (
        natural_irreps(product.inputs),
        o3.Irreps.spherical_harmonics(product.l_max),
    )
    irreps_out = natural_irreps(product.outputs) + unnatural_irreps(product.pseudo_outputs)
    instructions, weights = [], []
    for k, (count, (l3, p3)) in enumerate(irreps_out):
        kind = "natural" if k < len(product.outputs) else "pseudo"
        for l1 in range(len(product.inputs)):
            degrees = [
                L
                for L in range(product.l_max + 1)
                if o3.Irrep(l3, p3) in o3.Irrep(l1, (-1) ** l1) * irreps_edge[L].ir
            ]
            for position, L in enumerate(degrees):
                instructions.append((l1, L, k, "uvw", True))
                if count and product.inputs[l1]:
                    weights.append(product.weights[f"{kind}_{l1}_{l3}"][position].reshape(-1))
    with double_precision():
        oracle = o3.TensorProduct(
            irreps_in,
            irreps_edge,
            irreps_out,
            instructions,
            irrep_normalization="component",
            path_normalization="element",
            internal_weights=False,
            shared_weights=True,
        )
    return oracle, torch.cat(weights)


def apply_in_edge_frames(product, parts, vectors, zero_vector=False):
    rotations = edge_rotations(vectors, max(len(product.inputs), len(product.outputs), 1) - 1)
    natural, pseudo = product(to_orders(rotate_to_edges(parts, rotations)), zero_vector)
    results = rotate_to_global(to_degrees(natural, product.outputs), rotations)
    if product.pseudo_outputs:
        results += rotate_to_global(to_degrees(pseudo, product.pseudo_outputs), rotations)
    return results


CASES = {
    "full": ((3, 2, 2, 1), (4, 3, 2, 2, 1), (0, 2, 1), 4),
    "more inputs than outputs": ((2, 2, 1, 1, 1), (3, 2), (), 3),
    "harmonics shorter than features": ((2, 3, 2, 2), (2, 2, 2, 3), (0, 1, 2), 1),
    "scalars only": ((5,), (3, 2, 1), (), 2),
    "missing degrees": ((2, 0, 3), (3, 1, 0, 2), (0, 1), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_product_and_gradients_equal_e3nn_path_by_path(case):
    inputs, outputs, pseudo_outputs, l_max = CASES[case]
    product = SO2Product(
        inputs=inputs, outputs=outputs, pseudo_outputs=pseudo_outputs, l_max=l_max
    ).double()
    oracle, weights = build_oracle(product)
    features = torch.randn(N_EDGES, flat_size(inputs), dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(N_EDGES, 3, dtype=torch.float64)
    vectors[:3] = torch.tensor([[0.0, 0, 1.3], [0, -1.1, 0], [0.7, 0, 0]])
    vectors.requires_grad_()
    parts = split_degrees(features, inputs)
    ours = to_e3nn(apply_in_edge_frames(product, parts, vectors))
    edge_harmonics = harmonics(l_max, vectors)
    theirs = oracle(to_e3nn(parts), edge_harmonics, weights)
    assert theirs.abs().max() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    probe = torch.randn_like(ours)
    leaves = [features, vectors, *product.parameters()]
    for mine, reference in zip(
        torch.autograd.grad((ours * probe).sum(), leaves, allow_unused=True),
        torch.autograd.grad((theirs * probe).sum(), leaves, allow_unused=True),
        strict=True,
    ):
        if mine is None:  # a scalar's product with Y_0 alone does not see the direction
            assert reference is None or not reference.any()
        else:
            torch.testing.assert_close(
                mine, torch.zeros_like(mine) if reference is None else reference, rtol=0, atol=1e-12
            )


def test_self_loops_equal_e3nn_with_a_zero_vector():
    inputs, outputs, pseudo_outputs, l_max = CASES["full"]
    product = SO2Product(
        inputs=inputs, outputs=outputs, pseudo_outputs=pseudo_outputs, l_max=l_max
    ).double()
    oracle, weights = build_oracle(product)
    parts = split_degrees(torch.randn(N_EDGES, flat_size(inputs), dtype=torch.float64), inputs)
    vectors = torch.randn(N_EDGES, 3, dtype=torch.float64)
    ours = to_e3nn(apply_in_edge_frames(product, parts, vectors, zero_vector=True))
    edge_harmonics = harmonics(l_max, 0.0 * vectors)
    assert not edge_harmonics[:, 1:].any()
    torch.testing.assert_close(
        ours, oracle(to_e3nn(parts), edge_harmonics, weights), rtol=0, atol=1e-12
    )


def test_outputs_keep_the_variance_of_inputs():
    product = SO2Product(
        inputs=(32, 16, 8), outputs=(32, 16, 8), pseudo_outputs=(0, 16), l_max=4
    ).double()
    parts = split_degrees(
        torch.randn(4000, flat_size((32, 16, 8)), dtype=torch.float64), (32, 16, 8)
    )
    for part in apply_in_edge_frames(product, parts, torch.randn(4000, 3, dtype=torch.float64)):
        if part.shape[2]:
            assert float((part.detach() ** 2).mean()) == pytest.approx(1.0, abs=0.25)


def test_layouts_are_inverse_to_each_other():
    channels = (4, 0, 3, 2)
    features = torch.randn(N_EDGES, flat_size(channels))
    parts = split_degrees(features, channels)
    assert torch.equal(join_degrees(parts), features)
    orders = to_orders(parts)
    assert [x.shape for x in orders] == [
        (N_EDGES, 9),
        (N_EDGES, 2, 5),
        (N_EDGES, 2, 5),
        (N_EDGES, 2, 2),
    ]
    for back, part in zip(to_degrees(orders, channels), parts, strict=True):
        assert torch.equal(back, part)


def test_rotations_are_inverse_to_each_other():
    parts = split_degrees(
        torch.randn(N_EDGES, flat_size((2, 2, 1)), dtype=torch.float64), (2, 2, 1)
    )
    rotations = edge_rotations(torch.randn(N_EDGES, 3, dtype=torch.float64), 2)
    for back, part in zip(
        rotate_to_global(rotate_to_edges(parts, rotations), rotations), parts, strict=True
    ):
        torch.testing.assert_close(back, part, rtol=0, atol=1e-13)


def test_no_edges():
    product = SO2Product(inputs=(2, 1), outputs=(3, 1), pseudo_outputs=(0, 1), l_max=2)
    natural, pseudo = product([torch.zeros(0, 3), torch.zeros(0, 2, 1)])
    assert [x.shape for x in natural] == [(0, 4), (0, 2, 1)]
    assert [x.shape for x in pseudo] == [(0, 1), (0, 2, 1)]


@pytest.mark.parametrize(
    ("rows", "inner", "channels"),
    [(7, 7, 8), (3, 3, 32), (7, 5, 8), (9, 9, 8), (3, 3, 4)],
    ids=["a row more", "a row and a column more", "too small", "large enough", "far too small"],
)
def test_products_with_zeros_beside_them_are_the_same(rows, inner, channels):
    matrices, part = torch.randn(5, rows, inner), torch.randn(5, inner, channels)
    for tensor in (matrices, part):
        tensor.requires_grad_()
    found = rotate(matrices.transpose(1, 2).transpose(1, 2), part)
    expected = torch.einsum("nrk,nkc->nrc", matrices, part)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, (matrices, part), weight),
        torch.autograd.grad(expected, (matrices, part), weight),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
