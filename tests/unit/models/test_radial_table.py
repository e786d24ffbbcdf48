"""Tables of radial functions are the functions, with two derivatives, and only where they reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.graphs.neighbours import MINIMUM_DISTANCE
from mlepi.models import radial_table
from mlepi.models.radial_table import (
    RadialTables,
    TablePlaces,
    add_rows,
    differentiate,
    exceeds_tolerance,
    fit_spline,
    look_up,
    multiply_rows,
)

CUTOFFS = (3.0, 4.2)


def wave(cutoff, order=3):
    """Functions that vanish at the cutoff with two derivatives, as those of a network do."""

    def function(lengths):
        x = lengths / cutoff
        envelope = torch.where(x < 1.0, (1.0 - x) ** 4, torch.zeros_like(x))
        numbers = torch.arange(1, order + 1, dtype=lengths.dtype)
        return envelope.unsqueeze(1) * torch.sin(lengths.unsqueeze(1) * numbers)

    return function


@pytest.fixture(scope="module")
def tables():
    functions = [[wave(cutoff), wave(cutoff, 2)] for cutoff in CUTOFFS]
    return RadialTables(functions, CUTOFFS, [0, 1], "a test")


def places_of(tables, lengths, relation):
    number = torch.full(lengths.shape, relation)
    found = tables.find(lengths, number, torch.ones_like(number, dtype=torch.bool))
    assert found is not None
    return found


@pytest.mark.parametrize("relation", [0, 1])
def test_values_and_two_derivatives_are_the_function_s(tables, relation):
    lengths = np.linspace(MINIMUM_DISTANCE, CUTOFFS[relation], 997)
    for number, order in ((0, 3), (1, 2)):

        def tabulated(x, number=number):
            return look_up(tables.rows_of(number), places_of(tables, x, relation))

        found = differentiate(tabulated, lengths)
        expected = differentiate(wave(CUTOFFS[relation], order), lengths)
        tolerances = radial_table.TOLERANCES
        for mine, exact, tolerance in zip(found, expected, tolerances, strict=True):
            np.testing.assert_allclose(mine, exact, rtol=0, atol=2 * tolerance * abs(exact).max())


def test_three_derivatives_are_continuous_across_intervals(tables):
    step = CUTOFFS[0] - MINIMUM_DISTANCE
    nodes = MINIMUM_DISTANCE + step / tables.num_intervals * np.arange(1, tables.num_intervals)
    below, above = (
        differentiate(
            lambda x: look_up(tables.rows_of(0), places_of(tables, x, 0)), nodes + 1e-9 * sign
        )
        for sign in (-1, 1)
    )
    for left, right in zip(below, above, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)


def test_nothing_is_extrapolated(tables):
    relation = torch.zeros(3, dtype=torch.long)
    filled = torch.ones(3, dtype=torch.bool)
    lengths = torch.tensor([1.0, MINIMUM_DISTANCE - 1e-6, 2.0], dtype=torch.float64)
    assert tables.find(lengths, relation, filled) is None  # the network is to be asked
    lengths[1] = MINIMUM_DISTANCE
    assert tables.find(lengths, relation, filled) is not None
    assert tables.find(lengths[:0], relation[:0], filled[:0]) is None
    beyond = torch.tensor([3.0, 3.0 + 1e-9, 50.0], dtype=torch.float64, requires_grad=True)
    values = look_up(tables.rows_of(0), places_of(tables, beyond, 0))
    assert float(values.detach().abs().max()) < 1e-12
    (slopes,) = torch.autograd.grad(values.sum(), beyond)
    assert float(slopes.abs().max()) < 1e-12


def test_the_table_ends_at_the_cutoff_with_two_vanishing_derivatives(tables):
    found = differentiate(
        lambda x: look_up(tables.rows_of(0), places_of(tables, x, 1)), np.array([4.2 - 1e-9])
    )
    for part, tolerance in zip(found, (1e-12, 1e-11, 1e-6), strict=True):
        np.testing.assert_allclose(part, 0.0, atol=tolerance)


def test_empty_slots_are_zero(tables):
    lengths = torch.tensor([1.0, 1.0], dtype=torch.float64)
    found = tables.find(lengths, torch.tensor([0, 0]), torch.tensor([True, False]))
    values = look_up(tables.rows_of(0), found)
    assert float(values[0].abs().max()) > 0.1
    assert not values[1].any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_sums_of_rows_and_their_transpose(dtype, tolerance):
    torch.manual_seed(3)
    table, weights = torch.randn(20, 7, dtype=dtype), torch.randn(5, 6, dtype=dtype)
    rows, values = torch.randint(20, (5, 6)), torch.randn(5, 7, dtype=dtype)
    expected = torch.einsum("nk,nkf->nf", weights, table[rows])
    torch.testing.assert_close(add_rows(table, rows, weights), expected, rtol=0, atol=tolerance)
    expected = torch.einsum("nf,nkf->nk", values, table[rows])
    torch.testing.assert_close(multiply_rows(table, rows, values), expected, rtol=0, atol=tolerance)
    assert add_rows(table, rows[:0], weights[:0]).shape == (0, 7)


def test_derivatives_of_a_look_up_by_finite_differences():
    torch.manual_seed(3)
    table, rows = torch.randn(9, 2, dtype=torch.float64), torch.randint(9, (3, 6))
    weights = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    def function(x):
        return look_up(table, TablePlaces(rows, x)).sin()

    assert torch.autograd.gradcheck(function, weights)
    assert torch.autograd.gradgradcheck(function, weights)


def test_a_matrix_applied_to_the_table_is_applied_to_the_functions():
    tables = RadialTables([[wave(3.0)]], (3.0,), [0, 0], "a test")
    matrix = torch.randn(5, 3, dtype=torch.float64)
    places = places_of(tables, torch.tensor([1.1, 2.3], dtype=torch.float64), 1)
    expected = look_up(tables.rows_of(0), places) @ matrix.T
    tables.multiply(0, matrix)
    torch.testing.assert_close(look_up(tables.rows_of(0), places), expected)
    assert not tables.state_dict()


def test_intervals_are_halved_until_the_tolerances_hold():
    slow, fast = wave(3.0, 1), wave(3.0, 12)
    few = RadialTables([[slow]], (3.0,), [0], "a test").num_intervals
    many = RadialTables([[slow, fast]], (3.0,), [0], "a test").num_intervals
    assert few < many
    for n, expected in ((many // 2, True), (many, False)):
        assert exceeds_tolerance(fit_spline(fast, 3.0, n), fast, 3.0, n) is expected


def test_functions_too_fast_for_a_table_are_refused(monkeypatch):
    monkeypatch.setattr(radial_table, "MOST", 32)
    with pytest.raises(ConfigError, match=r"a test: got radial functions that 32 intervals do not"):
        RadialTables([[wave(3.0, 40)]], (3.0,), [0], "a test")
