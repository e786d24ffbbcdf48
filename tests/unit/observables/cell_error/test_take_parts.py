"""A run takes the cell part of its errors from a series of its own system, or is refused."""

from dataclasses import replace

import numpy as np
import pytest
from velocity_records import fermi_velocity_record

from mlepi.errors import DataError, PhysicsError
from mlepi.observables.cell_error.take_parts import find_series, take_parts
from mlepi.observables.cell_sizes.limits import find_limits
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.results import ResultsStore

SIZES = np.array([3, 6, 12])
TEMPERATURES = [0.0, 150.0, 300.0]
SLOPES = "fermi_velocity.spectral.slopes"


def series_record(**changes):
    values = 8e5 - 3e5 / SIZES[:, None] * np.array([1.0, 2.0, 3.0])
    none = np.empty((0, 2, 3))
    return CellSizesRecord(
        **{
            "sizes": SIZES,
            "n_samples": np.array([48, 12, 8]),
            "temperatures": np.array(TEMPERATURES),
            "velocity_window": (0.04, 0.1),
            "dispersion": "hyperbola",
            "estimators": (),
            "equilibrium": np.empty((0, 2)),
            "values": np.empty((0, 2, 3, 3)),
            "errors": np.empty((0, 2, 3, 3)),
            "limits": none,
            "limit_errors": none,
            "chi_squared": none,
            "degrees_of_freedom": none.astype(np.int64),
            "system": {"structure": '{"relax": "none"}'},
            "observables": {"fermi_velocity": '{"window": 1.2}', "gap": "{}"},
            "quantities": {
                SLOPES: find_limits(SIZES, values, np.full((3, 3), 1e2), "m/s"),
                "gap.gaps": find_limits(SIZES, values, np.full((3, 3), 1e2), "eV"),
            },
            **changes,
        }
    )


def run_store(folder, **changes):
    """Return the store of a run of the same system; ``changes`` are settings of its stages."""
    store = ResultsStore(folder)
    for stage, settings in (
        ("structure", {"relax": "none", "note": "mine"}),
        ("fermi_velocity", {"window": 1.2, "supercell": [8, 8, 1], "bootstrap": [7]}),
    ):
        inputs = {"inputs": {"settings": {**settings, **changes.get(stage, {})}}}
        store.write(stage, fermi_velocity_record(), "digest", inputs)
    return store


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (6, "in cells of N = 3, 6, 12"),
        (8, "interpolated in 1/N for N = 8"),
        (24, "that of the largest for N = 24"),
    ],
)
def test_the_part_is_that_of_the_size(n, told, tmp_path):
    found = take_parts("cell_sizes", series_record(), run_store(tmp_path), (n, n, 1), TEMPERATURES)
    # a straight line in 1/N is interpolated exactly; beyond the largest size no more is known
    expected = 3e5 / min(n, 12) * np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(found.parts[SLOPES], expected)
    assert set(found.parts) == {SLOPES}  # the run has no gap
    assert found.describe().endswith(told)
    assert found.other_settings == ()


def test_temperatures_may_be_some_of_those_of_the_series(tmp_path):
    found = take_parts("cell_sizes", series_record(), run_store(tmp_path), (6, 6, 1), [0.0, 300.0])
    np.testing.assert_allclose(found.parts[SLOPES], [5e4, 15e4])


def test_observables_of_other_settings_have_no_part(tmp_path):
    store = run_store(tmp_path, fermi_velocity={"window": 1.5})
    found = take_parts("cell_sizes", series_record(), store, (6, 6, 1), TEMPERATURES)
    assert found.parts == {}
    assert found.other_settings == ("fermi_velocity",)


def test_a_series_that_does_not_reach_the_run_is_refused(tmp_path):
    arguments = "cell_sizes", series_record(), run_store(tmp_path)
    with pytest.raises(DataError, match=r"got a run at \[0.0, 77.0\] K; expected temperatures out"):
        take_parts(*arguments, (6, 6, 1), [0.0, 77.0])
    with pytest.raises(DataError, match="the first the same"):  # changes count from the first
        take_parts(*arguments, (6, 6, 1), [300.0])
    with pytest.raises(DataError, match=r"got a run with cells of \[6, 3, 1\]; expected N × N"):
        take_parts(*arguments, (6, 3, 1), TEMPERATURES)
    with pytest.raises(PhysicsError, match="N = 2; expected at least the smallest of its sizes"):
        take_parts(*arguments, (2, 2, 1), TEMPERATURES)


def test_the_series_of_the_same_system_is_found_among_several(tmp_path):
    store, series = run_store(tmp_path / "run"), ResultsStore(tmp_path / "series")
    other = series_record(system={"structure": '{"relax": "positions"}'})
    series.write("cell_sizes", other, "digest", {})
    with pytest.raises(
        DataError, match="got runs of another structure than this one; expected a finished series"
    ):
        find_series(tmp_path / "series", store)
    own = replace(series_record(), system={"structure": '{"relax": "none"}'})
    series.write("cell_sizes_relaxed_positions", own, "digest", {})
    name, found = find_series(tmp_path / "series", store)
    assert name == "cell_sizes_relaxed_positions"
    np.testing.assert_array_equal(found.sizes, SIZES)
    with pytest.raises(DataError, match="got no series of sizes"):
        find_series(tmp_path / "run", store)
