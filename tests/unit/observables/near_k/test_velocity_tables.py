"""Tables of v_F from whatever records have estimates of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from velocity_records import fermi_velocity_record, self_energy_record, velocity_record

from mlepi.figures import Paragraph, Table
from mlepi.observables.near_k.record import Estimate
from mlepi.observables.near_k.velocity_tables import (
    HEADER,
    MEANING,
    list_estimates,
    velocity_section,
    with_error,
)


@pytest.fixture
def records():
    return {
        "structure": SimpleNamespace(atoms=None),
        "self_energy": self_energy_record(),
        "fermi_velocity": fermi_velocity_record(),
    }


def tables(records):
    blocks = velocity_section(records).blocks
    return [block for block in blocks if isinstance(block, Table)]


def texts(records):
    blocks = velocity_section(records).blocks
    return [block.text for block in blocks if isinstance(block, Paragraph)]


def test_estimates_come_in_the_order_of_their_meaning(records):
    assert [estimate.name for estimate in list_estimates(records)] == list(MEANING)
    del records["self_energy"]
    names = [estimate.name for estimate in list_estimates(records)]
    assert names == ["spectral peak", "velocity operator", "sorted average"]
    assert list_estimates({"structure": records["structure"]}) == []
    assert velocity_section({"structure": records["structure"]}) is None


def test_records_of_other_stages_contribute(records):
    """A record needs no more than the method."""
    mine = fermi_velocity_record()

    class Own:
        def velocity_estimates(self):
            return [Estimate("GW bands", velocity_record(9e5), mine.spectral_windows, mine)]

    records["own"] = Own()
    assert [estimate.name for estimate in list_estimates(records)] == [*MEANING, "GW bands"]
    blocks = velocity_section(records).blocks
    headings = [block.heading for block in blocks if isinstance(block, Paragraph)]
    assert "GW bands" in headings


def test_every_number_stands_with_what_it_depends_on(records):
    section = velocity_section(records)
    assert section.title == "Fermi velocity"
    where = "30 samples of 6×6×1 cells, hyperbola at |k−K| = 0.04–0.1 Å⁻¹"
    spectral, quasiparticles, operator, averaged, windows = tables(records)
    assert spectral.title == f"Fermi velocity, spectral peak: {where}"
    assert averaged.title == f"Fermi velocity, sorted average: {where}"
    assert spectral.header == HEADER
    assert [HEADER[column] for column in spectral.screen_columns] == [
        "T (K)",
        "v_F (10⁵ m/s)",
        "v_F / undisplaced",
        "mean slope (10⁵ m/s)",
        "slope / undisplaced",
    ]
    assert spectral.rows[0] == ["undisplaced", "8.700", "1", "", "0.400", "7.600", "1"]
    assert spectral.rows[3] == [
        "300",
        "8.200 ± 0.020",
        "0.943 ± 0.002",
        "-0.020 ± 0.001",
        "0.390 ± 0.010",
        "7.200 ± 0.020",
        "0.947 ± 0.003",
    ]
    for table, v in ((quasiparticles, 8.1), (operator, 7.4), (averaged, 6.1)):
        assert table.rows[1][:2] == ["0", f"{v:.3f} ± 0.020"]
        assert all(len(row) == len(HEADER) for row in table.rows)
    assert windows.title == "Other windows at 300 K, 6×6×1 cells: v_F / undisplaced"


def test_windows_stand_side_by_side(records):
    windows = tables(records)[-1]
    assert windows.header == ["|k−K| (Å⁻¹)", *MEANING]
    assert [row[0] for row in windows.rows] == ["0.04–0.1", "0.05–0.1", "0.09–0.1"]
    assert windows.rows[0][1:] == [
        "0.943 ± 0.002",
        "0.931 ± 0.002",
        "0.851 ± 0.002",
        "0.701 ± 0.002",
    ]
    assert windows.rows[1][1:] == ["0.920 ± 0.003"] * 4
    assert windows.rows[2][1:] == ["—"] * 4  # too few distances
    assert windows.screen_columns is None


def test_words_say_how_the_spectra_were_made(records):
    first, *rest = texts(records)
    for statement in (
        "The same random numbers at every temperature",
        "Maps of A(k, E) have gaussian lines of 50 meV",
        "the spectra whose maxima are fitted 100 meV",
        "200 bootstrap resamples",
        "Self-energies are taken 50 meV above the real axis.",
    ):
        assert first.count(statement) == 1
    assert rest[0].startswith("Maxima of the unfolded spectral function")
    assert "Zeros of ω − ε − Re Σ(ω)" in rest[1]
    assert "⟨∂H/∂k − E ∂S/∂k⟩" in rest[2]
    assert rest[0].endswith("|k−K| = 0.04–0.1 Å⁻¹.")
    assert rest[-1].endswith("fixed lattice constants (no thermal expansion).")
    blocks = velocity_section(records).blocks
    headings = [block.heading for block in blocks if isinstance(block, Paragraph) and block.heading]
    assert headings == [
        "Spectral peak",
        "Self-energy",
        "Velocity operator",
        "Sorted average",
        "Other windows at 300 K, 6×6×1 cells",
    ]


def test_split_off_bands_are_told(records):
    records["fermi_velocity"] = replace(records["fermi_velocity"], split_off_bands=True)
    assert "hyperbola with split-off bands at" in tables(records)[0].title


def test_what_is_not_known_is_a_dash(records):
    unknown = np.full(3, np.nan)
    averaged = replace(records["fermi_velocity"].sorted_average, velocities=unknown, ratios=unknown)
    records["fermi_velocity"] = replace(records["fermi_velocity"], sorted_average=averaged)
    assert tables(records)[3].rows[1][1:3] == ["—", "—"]
    assert with_error(-0.25, 0.1, "+") == "-0.250 ± 0.100"
    assert with_error(0.25, 0.1, "+") == "+0.250 ± 0.100"
