"""What is shown of second order: its section of the report, its figures, and its doubts."""

from dataclasses import replace

import numpy as np
import pytest
from plain_records import TEMPERATURES, linear_response_record
from velocity_records import fermi_velocity_record, self_energy_record

from mlepi.figures import Paragraph, Table
from mlepi.observables.linear_response.figure import (
    DECOMPOSITION_HEADER,
    PRESENTATION,
    VELOCITY_HEADER,
    decomposition_rows,
    linear_response_section,
    list_decompositions,
    plot_decomposition,
    plot_second_order,
)
from mlepi.observables.linear_response.stage import LinearResponseStage


@pytest.fixture
def records():
    return {
        "fermi_velocity": fermi_velocity_record(),
        "self_energy": self_energy_record(),
        "linear_response": linear_response_record(),
    }


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_decomposition_becomes_rows(records):
    spectral, quasiparticle = list_decompositions(records)
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


def test_without_a_denser_mesh_there_is_a_dash(records):
    records["linear_response"] = replace(linear_response_record(), interpolated=None)
    assert decomposition_rows(list_decompositions(records)[0])[0][8] == "—"
    shifts, slopes = plot_second_order(records["linear_response"]).axes
    terms = ("Fan", "Debye–Waller", "phonon energies")
    assert labels(shifts) == [f"{name}, 6×6×1" for name in terms]
    assert labels(slopes) == ["static, 6×6×1", "dynamic, 6×6×1"]
    assert "corrected for phonon energies" in labels(plot_decomposition(records).axes[0])[-1]
    assert list_decompositions({}) == []


def test_the_section_names_what_the_numbers_depend_on(records):
    assert linear_response_section({}) is None
    section = linear_response_section(records)
    assert section.title == "Second order in the displacements, and beyond"
    paragraphs = [block for block in section.blocks if isinstance(block, Paragraph)]
    tables = [block for block in section.blocks if isinstance(block, Table)]
    for statement in (
        "forward-mode differentiation",
        "hyperbola fit of the low bands at |k − K| = 0.04 … 0.1 Å⁻¹",
        "broadened by 50 meV",
        "+0 eV from the Dirac energy",
        "7.000 × 10⁵ m/s",
    ):
        assert statement in paragraphs[0].text, statement
    assert [block.heading for block in paragraphs] == [
        "",
        "Spectral peak: what is in the average over samples",
        "Self-energy: what is in the average over samples",
    ]
    assert [table.header for table in tables] == [VELOCITY_HEADER, *[DECOMPOSITION_HEADER] * 2]
    assert [table.title for table in tables] == [""] * 3, "they are for the report alone"
    meshes = [row[1] for row in tables[0].rows]
    assert meshes == ["6×6×1"] * 3 + ["24×24×1"] * 3
    assert tables[0].rows[0][2:] == [
        *("6.510", "6.650", "0.930", "0.950"),
        *("-0.060", "-0.010", "+0.020"),
    ]


def test_terms_are_drawn_on_both_sides_of_k():
    record = linear_response_record()
    shifts, slopes = plot_second_order(record).axes
    drawn = [line for line in shifts.lines if line.get_marker() == "."]
    assert len(drawn) == 2 * 3 * 2  # meshes, terms, sides
    left, right = drawn[:2]
    np.testing.assert_array_equal(left.get_xdata(), [-0.1, -0.05])
    np.testing.assert_array_equal(right.get_xdata(), [0.05, 0.1])
    np.testing.assert_allclose(left.get_ydata(), [-30.0, -15.0])  # −6 % of ± 5 eV·Å |k − K|, meV
    assert shifts.get_ylabel() == "shift of (E$_c$ − E$_v$)/2 at 0 K (meV)"
    assert shifts.get_xlabel() == "M ←  k − K (Å⁻¹)  → Γ"
    assert len(labels(shifts)) == 6
    static = slopes.lines[0]
    np.testing.assert_array_equal(static.get_xdata(), TEMPERATURES)
    np.testing.assert_allclose(static.get_ydata(), 0.93)
    np.testing.assert_allclose(slopes.lines[2].get_ydata(), 0.96)
    assert labels(slopes)[2] == "static, 24×24×1"
    assert slopes.get_xlabel() == "temperature (K)"


def test_a_panel_per_average_with_its_error_bars(records):
    panels = plot_decomposition(records).axes
    assert [axes.get_title() for axes in panels] == ["spectral peak", "self-energy"]
    assert panels[0].get_ylabel() == "mean slope / undisplaced"
    parts = list_decompositions(records)[0]
    second, dynamic = panels[0].lines[1:3]
    np.testing.assert_allclose(second.get_ydata(), parts.second_order)
    np.testing.assert_allclose(dynamic.get_ydata(), parts.dynamic)
    for container, values in zip(
        panels[0].containers, (parts.all_orders, parts.total), strict=True
    ):
        points, _, (bars,) = container.lines
        np.testing.assert_allclose(points.get_ydata(), values)
        heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(heights, 2 * parts.all_orders_errors)
    assert sorted(labels(panels[0])) == sorted(
        [
            "undisplaced",
            "second order, static, 6×6×1",
            "second order, dynamic, 6×6×1",
            "all orders, 6×6×1",
            "all orders, corrected for phonon energies, 24×24×1",
        ]
    )


def test_the_comparison_needs_an_average_to_compare_with(records):
    [comparison] = PRESENTATION.comparisons
    assert comparison.name == "decomposition"
    assert comparison.possible(records)
    assert not comparison.possible({"linear_response": records["linear_response"]})
    assert not comparison.possible({"fermi_velocity": records["fermi_velocity"]})


def test_doubts_are_told():
    record = linear_response_record()
    assert LinearResponseStage.doubts(record) == []
    resting = replace(record.interpolated, n_resting_modes=12)
    softer = replace(resting, mean_square_displacements=np.array([0.006, 0.009, 0.018]))
    texts = LinearResponseStage.doubts(replace(record, border_share=0.2, interpolated=softer))
    assert any(
        "the 24×24×1 mesh has 2.0 times the ⟨u²⟩ of the supercell at 300 K" in text
        for text in texts
    )
    assert any("20 % of the derivatives of H lie at the border" in text for text in texts)
    assert any("12 modes of the 24×24×1 mesh" in text for text in texts)
