"""The section of second order in the report: its tables, figures and doubts."""

from dataclasses import replace

import numpy as np
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


def test_a_decomposition_becomes_rows():
    spectral, quasiparticle = list_decompositions(all_records())
    assert (spectral.average, quasiparticle.average) == ("spectral peak", "self-energy")
    rows = decomposition_rows(spectral)
    assert [row[0] for row in rows] == ["0", "150", "300"]
    assert all(len(row) == len(DECOMPOSITION_HEADER) for row in rows)
    assert rows[0][1:5] == ["0.930", "0.950", "-0.060", "-0.010"]
    assert rows[0][7:9] == ["+0.020", "+0.030"]
    shift = 1.0 - spectral.second_order
    large = replace(
        spectral,
        all_orders=spectral.second_order + 0.6 * shift,
        all_orders_errors=np.zeros_like(shift),
    )
    assert decomposition_rows(large)[0][9] == "—"


def test_without_a_denser_mesh_there_is_a_dash():
    records = {
        **all_records(),
        "linear_response": replace(linear_response_record(), interpolated=None),
    }
    assert decomposition_rows(list_decompositions(records)[0])[0][8] == "—"
    assert len(plot_second_order(records["linear_response"]).axes) == 2
    assert list_decompositions({}) == []


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
