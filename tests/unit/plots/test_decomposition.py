"""The decomposition of an average over samples.

Its arithmetic, its table, and when there is none.
"""

from dataclasses import replace

import numpy as np
import pytest
from observable_records import linear_response_record
from test_report import all_records

from mlepi.plots.linear_response import (
    DECOMPOSITION_HEADER,
    VELOCITY_HEADER,
    decomposition_rows,
    linear_response_section,
    list_decompositions,
    plot_second_order,
)


def test_the_parts_of_an_average_add_up():
    records = all_records()
    spectral, quasiparticle = list_decompositions(records)
    assert (spectral.average, quasiparticle.average) == ("spectral peak", "self-energy")
    np.testing.assert_allclose(spectral.second_order, 0.93)
    np.testing.assert_allclose(spectral.second_order, 1.0 + spectral.fan + spectral.debye_waller)
    np.testing.assert_allclose(spectral.beyond, records["observables"].spectral.slope_ratios - 0.93)
    np.testing.assert_allclose(spectral.size, 0.03)
    np.testing.assert_allclose(
        spectral.total, records["observables"].spectral.slope_ratios + 0.02 + 0.03
    )
    np.testing.assert_array_equal(
        spectral.all_orders_errors, records["observables"].spectral.slope_ratio_errors
    )
    rows = decomposition_rows(spectral)
    assert [row[0] for row in rows] == ["0", "150", "300"]
    assert all(len(row) == len(DECOMPOSITION_HEADER) for row in rows)
    np.testing.assert_allclose(spectral.dynamic, 0.95)
    assert rows[0][1:5] == ["0.930", "0.950", "-0.060", "-0.010"]
    assert rows[0][7:9] == ["+0.020", "+0.030"]


def test_averages_far_from_second_order_are_not_corrected_by_it():
    """Half of the shift to second order, and two error bars on top, may lie beyond it."""
    parts = list_decompositions(all_records())[0]
    shift = 1.0 - parts.second_order
    for share, known in ((0.4, True), (0.6, False)):
        errors = np.zeros_like(shift)
        moved = replace(
            parts, all_orders=parts.second_order + share * shift, all_orders_errors=errors
        )
        assert np.isfinite(moved.total).all() == known
        assert (decomposition_rows(moved)[0][9] == "—") != known
        uncertain = replace(moved, all_orders_errors=0.06 * shift)
        assert np.isfinite(uncertain.total).all()


def test_without_a_denser_mesh_the_size_is_not_known():
    records = {
        **all_records(),
        "linear_response": replace(linear_response_record(), interpolated=None),
    }
    parts = list_decompositions(records)[0]
    assert np.isnan(parts.size).all()
    np.testing.assert_allclose(parts.total, parts.all_orders + 0.02)
    assert decomposition_rows(parts)[0][8] == "—"
    assert len(plot_second_order(records["linear_response"]).axes) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"supercell": (3, 3, 1)},
        {"velocity_window": (0.05, 0.1)},
        {"dispersion": "linear"},
        {"temperatures": np.array([77.0])},
    ],
)
def test_averages_of_something_else_are_not_compared(change):
    records = {**all_records(), "linear_response": replace(linear_response_record(), **change)}
    assert list_decompositions(records) == []
    assert list_decompositions({}) == []


def test_shared_temperatures_are_found():
    sums = linear_response_record()
    chosen = np.array([2, 0])
    short = {
        name: replace(
            part,
            **{
                field: getattr(part, field)[chosen]
                * (1.0 + 0.1 * chosen.reshape(-1, *[1] * (getattr(part, field).ndim - 1)))
                for field in (
                    "static_slopes",
                    "fan_slopes",
                    "debye_waller_slopes",
                    "nonadiabatic_slopes",
                )
            },
        )
        for name, part in (("in_supercell", sums.in_supercell), ("interpolated", sums.interpolated))
    }
    record = replace(sums, temperatures=np.array([300.0, 0.0]), **short)
    parts = list_decompositions({**all_records(), "linear_response": record})[0]
    np.testing.assert_array_equal(parts.temperatures, [0.0, 300.0])
    np.testing.assert_allclose(parts.second_order, [0.93, 0.93 * 1.2])


def test_the_section_names_what_the_numbers_depend_on():
    text = "\n".join(linear_response_section(all_records()))
    assert linear_response_section({}) == []
    for statement in (
        "forward-mode differentiation",
        "broadened by 50 meV",
        "+0 eV from the Dirac energy",
        "<td>24×24×1</td>",
        "Spectral peak: what is in the average",
        "beyond second order",
        *(name.replace("&", "&amp;") for name in VELOCITY_HEADER),
    ):
        assert statement in text, statement


def test_doubts_are_told():
    record = linear_response_record()
    assert record.doubts() == []
    resting = replace(record.interpolated, n_resting_modes=12)
    softer = replace(resting, mean_square_displacements=np.array([0.006, 0.009, 0.018]))
    texts = replace(record, border_share=0.2, interpolated=softer).doubts()
    assert any(
        "the 24×24×1 mesh has 2.0 times the ⟨u²⟩ of the supercell at 300 K" in text
        for text in texts
    )
    assert any("20 % of the derivatives of H lie at the border" in text for text in texts)
    assert any("12 modes of the 24×24×1 mesh" in text for text in texts)
