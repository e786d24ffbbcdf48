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
from mlepi.observables.near_k.window_models import MODELS, compare_models, estimator_parts


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
    spectral, quasiparticles, operator, averaged, windows, folded = tables(records)
    assert spectral.title == f"Fermi velocity, spectral peak: {where}"
    assert averaged.title == f"Fermi velocity, sorted average: {where}"
    assert spectral.header == HEADER
    assert [HEADER[column] for column in spectral.screen_columns] == [
        "T (K)",
        "mean slope (10⁵ m/s)",
        "slope / undisplaced",
        "v, γ₁ pinned (10⁵ m/s)",
        "v pinned / undisplaced",
        "v free / undisplaced",
    ]
    assert spectral.rows[0] == [
        *["undisplaced", "7.600", "1", "", "8.750", "1", "0.380", "8.700", "1", "0.400"]
    ]
    assert spectral.rows[3] == [
        "300",
        "7.200 ± 0.020",
        "0.947 ± 0.003",
        "-0.030 ± 0.002",
        "8.450 ± 0.015",
        "0.966 ± 0.002",
        "0.370 ± 0.002",
        "8.200 ± 0.020",
        "0.943 ± 0.002",
        "0.390 ± 0.010",
    ]
    for table, v in ((quasiparticles, 8.1), (operator, 7.4), (averaged, 6.1)):
        assert table.rows[1][0] == "0"
        assert table.rows[1][7] == f"{v:.3f} ± 0.020"
        assert all(len(row) == len(HEADER) for row in table.rows)
    assert windows.title == "Windows and models at 300 K, 6×6×1 cells: velocity / undisplaced"
    assert folded.title == (
        "Folded finite difference (an opening of K, not a velocity): 30 samples of 6×6×1 cells, K "
        "folds onto Γ, dk = 0.02 Å⁻¹"
    )
    assert folded.header[1].endswith("not a velocity")
    assert folded.rows == [
        ["undisplaced", "2.250", "1", "0.0"],
        ["0", "1.500 ± 0.100", "0.667 ± 0.044", "25.0 ± 2.0"],
        ["150", "1.400 ± 0.100", "0.622 ± 0.044", "28.0 ± 2.0"],
        ["300", "1.350 ± 0.100", "0.600 ± 0.044", "30.0 ± 2.0"],
    ]


def test_windows_stand_side_by_side(records):
    windows = tables(records)[-2]
    assert windows.header == ["|k−K| (Å⁻¹)", "model", *MEANING]
    assert [row[:2] for row in windows.rows] == [
        [window, model] for window in ("0.04–0.1", "0.05–0.1", "0.09–0.1") for model in MODELS
    ]
    assert windows.rows[0][2:] == ["0.947 ± 0.003"] * 4
    assert windows.rows[2][2:] == [
        "0.943 ± 0.002",
        "0.931 ± 0.002",
        "0.851 ± 0.002",
        "0.701 ± 0.002",
    ]
    assert windows.rows[3][2:] == ["0.926 ± 0.004"] * 4
    assert windows.rows[4][2:] == ["0.971 ± 0.003"] * 4
    assert windows.rows[5][2:] == ["0.920 ± 0.003"] * 4
    for row in windows.rows[6:]:
        assert row[2:] == ["—"] * 4  # too few distances
    assert windows.screen_columns is None


def test_models_that_do_not_apply_have_no_rows(records):
    """One band, or a monolayer: nothing pins γ₁."""
    record = records["fermi_velocity"]
    names = ("spectral", "velocity_operator", "sorted_average")
    windows = ("spectral_windows", "operator_windows", "sorted_windows")
    unknown = np.full((2, 3), np.nan)
    records = {
        "fermi_velocity": replace(
            record,
            **{name: replace(getattr(record, name), pinned=None) for name in names},
            **{
                name: replace(
                    getattr(record, name), pinned=unknown, equilibrium_pinned=unknown[:, 0]
                )
                for name in windows
            },
            folded_difference=None,
        )
    }
    *others, table = tables(records)
    assert {row[1] for row in table.rows} == {"slope", "v, free fit"}
    assert others[0].rows[0][4:7] == ["—"] * 3
    assert others[0].rows[3][4:7] == ["—"] * 3


def test_records_of_older_files_are_shown_with_what_they_hold(records):
    record = records["fermi_velocity"]
    old = {
        "slope_changes": np.empty(0),
        "slope_change_errors": np.empty(0),
        "convergence_slopes": np.empty((0, 0)),
        "convergence_slope_errors": np.empty((0, 0)),
        "pinned": None,
    }
    bare = {"equilibrium_pinned": np.empty(0), "pinned": np.empty((0, 0))}
    records["fermi_velocity"] = replace(
        record,
        spectral=replace(record.spectral, **old),
        spectral_windows=replace(record.spectral_windows, **bare),
        folded_difference=None,
    )
    spectral = tables(records)[0]
    assert spectral.rows[3][1] == "7.200 ± 0.020"
    assert spectral.rows[3][3:7] == ["—"] * 4


def test_the_spread_over_windows_and_models_is_half_a_range(records):
    estimate = list_estimates(records)[0]
    found = compare_models(estimate)
    np.testing.assert_allclose(found.windows, [[0.04, 0.1], [0.05, 0.1], [0.09, 0.1]])
    assert found.models == MODELS
    np.testing.assert_allclose(found.ratios[0, :, 2], [7.2 / 7.6, 8.45 / 8.75, 8.2 / 8.7])
    np.testing.assert_allclose(found.ratio_errors[0, 1], 0.015 / 8.75)
    quoted = np.array([7.2 / 7.6, 8.45 / 8.75, 7.5 / 8.1, 8.5 / 8.75])
    np.testing.assert_allclose(found.spread(), 0.5 * (quoted.max() - quoted.min()))
    everything = np.append(quoted, [8.2 / 8.7, 8.0 / 8.7])
    np.testing.assert_allclose(found.spread(3), 0.5 * (everything.max() - everything.min()))
    # γ₁/2ħv of the records: 0.4 eV and 8.7e5 m/s
    assert found.core == pytest.approx(0.4 / (2 * 8.7e5 * 6.582e-16 * 1e10), rel=1e-3)
    assert found.outside_core.all()
    inside = replace(found, windows=np.array([[0.04, 0.1], [0.0, 0.02], [0.09, 0.1]]))
    alone = np.array([7.2 / 7.6, 8.45 / 8.75])  # that of the run: the third holds too few distances
    np.testing.assert_allclose(inside.spread(), 0.5 * (alone.max() - alone.min()))


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
        "Windows and models at 300 K, 6×6×1 cells",
        "Folded finite difference (an opening of K, not a velocity)",
    ]


def test_split_off_bands_are_told(records):
    records["fermi_velocity"] = replace(records["fermi_velocity"], split_off_bands=True)
    assert "hyperbola with split-off bands at" in tables(records)[0].title


def test_what_is_not_known_is_a_dash(records):
    unknown = np.full(3, np.nan)
    averaged = replace(
        records["fermi_velocity"].sorted_average, slopes=unknown, slope_ratios=unknown
    )
    records["fermi_velocity"] = replace(records["fermi_velocity"], sorted_average=averaged)
    assert tables(records)[3].rows[1][1:3] == ["—", "—"]
    assert with_error(-0.25, 0.1, "+") == "-0.250 ± 0.100"
    assert with_error(0.25, 0.1, "+") == "+0.250 ± 0.100"


def test_the_spread_is_the_estimator_part_of_the_error_budget(records):
    parts = {part.quantity: part for part in estimator_parts(records)}
    spread = compare_models(list_estimates(records)[0]).spread()
    np.testing.assert_allclose(parts["fermi_velocity/spectral/slope_ratios"].sizes, spread)
    np.testing.assert_allclose(parts["fermi_velocity/spectral/slopes"].sizes, spread * 7.6e5)
    pinned = parts["fermi_velocity/spectral/pinned/velocities"]
    np.testing.assert_allclose(pinned.sizes, spread * 8.75e5)
    assert "0.04–0.1, 0.05–0.1, 0.09–0.1 Å⁻¹" in pinned.source
    assert "self_energy/velocity/slopes" in parts
    assert all(part.part == "estimator" for part in parts.values())
