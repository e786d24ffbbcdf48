"""A series of cell sizes: extrapolation, table, figure, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from test_fermi_velocity import SETTINGS as VELOCITY_SETTINGS
from test_self_energy import SETTINGS as SELF_ENERGY_SETTINGS
from toy_runs import ToyRun

from mlepi.command_line import CellSizes
from mlepi.errors import DataError, PhysicsError
from mlepi.observables import FermiVelocityStage, SelfEnergyStage
from mlepi.observables.cell_sizes import compare_sizes
from mlepi.physics.averages.size_series import extrapolate_sizes
from mlepi.plots.cell_sizes import format_series, main, write_series
from mlepi.results import ResultsStore
from mlepi.results.cell_sizes import CellSizesRecord


def test_a_straight_line_in_the_inverse_size_is_found_with_its_error():
    sizes, errors = np.array([3, 6, 9, 12]), np.array([0.1, 0.2, 0.1, 0.3])
    fit = extrapolate_sizes(sizes, 8.0 - 2.0 / sizes, errors)
    assert (fit.limit, fit.slope, fit.chi_squared) == pytest.approx((8.0, -2.0, 0.0), abs=1e-10)
    assert fit.degrees_of_freedom == 2
    rng = np.random.default_rng(0)
    many = [
        extrapolate_sizes(sizes, 8.0 - 2.0 / sizes + errors * rng.normal(size=4), errors)
        for _ in range(4000)
    ]
    assert np.std([each.limit for each in many]) == pytest.approx(
        fit.limit_error, rel=0.05
    )  # 1/√8000 of it is 1 %
    assert np.mean([each.chi_squared for each in many]) == pytest.approx(
        2.0, abs=0.15
    )  # χ² of two degrees of freedom: ±2/√4000
    with pytest.raises(PhysicsError, match="at two different sizes or more"):
        extrapolate_sizes(np.array([6, 6]), np.ones(2), np.ones(2))
    with pytest.raises(PhysicsError, match="positive error bars"):
        extrapolate_sizes(np.array([3, 6]), np.ones(2), np.zeros(2))


@pytest.fixture(scope="module")
def records():
    """v_F of a monolayer toy in 3×3, 4×4 and 6×6 cells."""
    found = {}
    for n in (3, 4, 6):
        run = ToyRun(amplitude=0.02, n_samples=4, supercell=(n, n, 1), bilayer=False, overlap=0.0)
        linear = {"dispersion": "linear", "distances": [0.05, 0.075, 0.1]}
        observables = run.compute(
            FermiVelocityStage(**{**VELOCITY_SETTINGS, **linear, "dos_mesh": [3, 3, 1]})
        )
        found[n] = observables, run.compute(SelfEnergyStage(**{**SELF_ENERGY_SETTINGS, **linear}))
    return found


def write(folder: Path, records, self_energies=True):
    for n, (observables, quasiparticles) in records.items():
        store = ResultsStore(folder / f"{n}x{n}")
        store.write("observables", observables, "digest", {})
        if self_energies:
            store.write("self_energy", quasiparticles, "digest", {})


def test_a_series_is_extrapolated_by_every_estimator(tmp_path, records, capsys):
    write(tmp_path, records)
    CellSizes().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    table = (tmp_path / "cell_sizes.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    for text in (
        "3×3 (4)",
        "6×6 (4)",
        "1/N → 0",
        "linear at |k−K| = 0.04–0.1 Å⁻¹",
        "self-energy",
        "sorted average",
    ):
        assert text in table
    record = ResultsStore(tmp_path).read("cell_sizes", CellSizesRecord)
    assert record.sizes.tolist() == [3, 4, 6]
    assert record.estimators == (
        "spectral peak",
        "self-energy",
        "velocity operator",
        "sorted average",
    )
    spectral = [records[n][0].spectral for n in (3, 4, 6)]
    fit = extrapolate_sizes(
        record.sizes,
        np.array([r.velocities[1] for r in spectral]),
        np.array([r.velocity_errors[1] for r in spectral]),
    )
    assert record.limits[0, 0, 1] == pytest.approx(fit.limit)
    assert record.chi_squared[0, 0, 1] == pytest.approx(fit.chi_squared)
    assert (tmp_path / "cell_sizes.png").stat().st_size > 0


def test_sizes_that_do_not_tell_are_left_out(tmp_path, records):
    lost = dict(records)
    averaged = lost[4][0].sorted_average
    unknown = replace(averaged, velocities=averaged.velocities * np.nan)
    lost[4] = (replace(lost[4][0], sorted_average=unknown), lost[4][1])
    lost[6] = (replace(lost[6][0], sorted_average=unknown), lost[6][1])
    write(tmp_path, lost, self_energies=False)
    record = compare_sizes([tmp_path / f"{n}x{n}" for n in (6, 4, 3)])
    assert record.estimators == ("spectral peak", "velocity operator", "sorted average")
    assert np.all(np.isnan(record.limits[2, 0]))
    assert np.all(np.isfinite(record.limits[2, 1]))
    assert "| — | — |" in format_series(record)


def test_runs_that_cannot_be_compared_are_refused(tmp_path, records, monkeypatch):
    with pytest.raises(DataError, match="got no runs below it"):
        write_series(tmp_path)
    write(tmp_path, {3: records[3]})
    with pytest.raises(DataError, match="at least two different sizes N × N, each once"):
        write_series(tmp_path)
    write(tmp_path, {6: (replace(records[6][0], velocity_window=(0.05, 0.1)), records[6][1])})
    with pytest.raises(DataError, match="got runs of different windows"):
        write_series(tmp_path)
    ResultsStore(tmp_path / "4x4").write("self_energy", records[4][1], "digest", {})
    with pytest.raises(DataError, match="expected the stage observables"):
        write_series(tmp_path)
    monkeypatch.setattr("sys.argv", ["cell_sizes", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: size series in"):
        main()
    monkeypatch.setattr("sys.argv", ["cell_sizes"])
    with pytest.raises(SystemExit, match="usage: python -m"):
        main()
