"""The symmetric basis is complete (by characters), equivariant and orthogonal.

The contraction evaluates its definition.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mlepi.errors import ConfigError
from mlepi.models.channel_linear import ChannelLinear, ElementLinear, apply_by_element, degree_slice
from mlepi.models.symmetric_contraction import SymmetricContraction, symmetric_couplings
from mlepi.models.wigner import wigner_matrices


def rotation_blocks(l_max: int) -> torch.Tensor:
    """Block-diagonal Wigner matrix of a rotation with inversion."""
    rotation = torch.as_tensor(Rotation.from_rotvec([0.4, -1.3, 2.1]).as_matrix())
    return torch.block_diag(
        *[(-1) ** l * matrix[0] for l, matrix in enumerate(wigner_matrices(rotation[None], l_max))]
    )


def count_by_characters(l_max: int, l_out: int, degree: int) -> int:
    """Multiplicity of l_out in the symmetric power, by averaging characters over O(3)."""

    def character(ls, angle, improper, power):
        sign = (-1) ** power if improper else 1
        return sum(
            sign**l * (1 + 2 * sum(np.cos(m * power * angle) for m in range(1, l + 1))) for l in ls
        )

    angle = (np.arange(400) + 0.5) * math.pi / 400
    measure = (1 - np.cos(angle)) / 400
    total = 0.0
    for improper in (False, True):
        chi = [character(range(l_max + 1), angle, improper, power) for power in (1, 2, 3)]
        symmetric = {
            1: chi[0],
            2: (chi[0] ** 2 + chi[1]) / 2,
            3: (chi[0] ** 3 + 3 * chi[0] * chi[1] + 2 * chi[2]) / 6,
        }[degree]
        total += 0.5 * np.sum(measure * symmetric * character([l_out], angle, improper, 1))
    assert total == pytest.approx(round(total), abs=1e-6)
    return round(total)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize(("l_max", "l_out"), [(0, 0), (1, 1), (2, 0), (2, 2), (3, 0), (3, 1)])
def test_basis_is_complete_orthogonal_symmetric_and_equivariant(l_max, l_out, degree):
    basis = symmetric_couplings(l_max, l_out, degree)
    assert basis.shape[0] == count_by_characters(l_max, l_out, degree)
    flat = basis.flatten(1)
    norm = (2 * l_out + 1) / math.factorial(degree)
    torch.testing.assert_close(
        flat @ flat.T, norm * torch.eye(len(flat), dtype=torch.float64), rtol=0, atol=1e-10
    )
    if degree > 1:
        torch.testing.assert_close(basis, basis.transpose(2, 3))
        torch.testing.assert_close(basis, basis.transpose(2, -1))
    blocks = rotation_blocks(max(l_max, l_out))
    out = blocks[degree_slice(l_out), degree_slice(l_out)]
    d_in = blocks[: (l_max + 1) ** 2, : (l_max + 1) ** 2]
    turned = torch.einsum("ab,kb...->ka...", out, basis)
    for axis in range(2, 2 + degree):
        turned = torch.movedim(torch.tensordot(turned, d_in, dims=([axis], [1])), -1, axis)
    torch.testing.assert_close(turned, basis, rtol=0, atol=1e-10)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_contraction_evaluates_its_definition(correlation):
    module = SymmetricContraction(
        l_max_in=2, l_max_out=1, correlation=correlation, num_features=3, num_elements=2
    ).double()
    x = torch.randn(5, 9, 3, dtype=torch.float64)
    species = torch.tensor([1, 0, 0, 1, 1])
    expected = torch.zeros(5, 4, 3, dtype=torch.float64)
    letters = "ijl"
    for l in (0, 1):
        for degree in range(1, correlation + 1):
            axes = letters[:degree]
            equation = f"ko{axes},nkc,{','.join(f'n{axis}c' for axis in axes)}->noc"
            weights = module.weights[f"l{l}_degree{degree}"][species]
            expected[:, degree_slice(l)] += torch.einsum(
                equation, symmetric_couplings(2, l, degree), weights, *[x] * degree
            )
    torch.testing.assert_close(module(x, species), expected)


def test_polynomials_of_normal_variables_have_about_unit_variance():
    module = SymmetricContraction(
        l_max_in=3, l_max_out=1, correlation=3, num_features=1, num_elements=1
    ).double()
    x = torch.randn(4000, 16, 1, dtype=torch.float64)
    for degree in (1, 2, 3):
        with torch.no_grad():
            for name, weight in module.weights.items():
                weight.zero_()
                if name == f"l1_degree{degree}":
                    weight[:, 0] = 1.0
        variance = module(x, torch.zeros(4000, dtype=torch.long))[:, 1:].square().mean().item()
        assert 0.5 < variance < 2.5


def test_unknown_correlation_is_refused():
    with pytest.raises(ConfigError, match=r"MACE\.correlation: got 4; expected 1, 2 or 3"):
        SymmetricContraction(l_max_in=1, l_max_out=0, correlation=4, num_features=1, num_elements=1)


def test_functions_of_the_element_keep_the_order_of_atoms():
    species = torch.tensor([2, 0, 2, 0])  # the second element is absent
    x = torch.arange(4.0).unsqueeze(1)
    result = apply_by_element(lambda part, element: part + 10 * element, x, species, 3)
    assert result.squeeze(1).tolist() == [20.0, 1.0, 22.0, 3.0]


@pytest.mark.parametrize(("l_in", "l_out"), [(0, 1), (1, 1), (2, 1)])
def test_linear_maps_are_equivariant(l_in, l_out):
    x = torch.randn(4, (l_in + 1) ** 2, 3, dtype=torch.float64)
    species = torch.tensor([0, 1, 1, 0])
    d_in = rotation_blocks(max(l_in, l_out))
    d_out = d_in[: (l_out + 1) ** 2, : (l_out + 1) ** 2]
    d_in = d_in[: (l_in + 1) ** 2, : (l_in + 1) ** 2]
    element = ElementLinear(l_in, l_out, 3, 2).double()
    assert element(x, species).shape == (4, (l_out + 1) ** 2, 3)
    torch.testing.assert_close(
        element(d_in @ x, species), d_out @ element(x, species), rtol=0, atol=1e-10
    )
    shared = ChannelLinear(l_in, 3, 5).double()
    torch.testing.assert_close(shared(d_in @ x), d_in @ shared(x), rtol=0, atol=1e-10)
