"""A finished series: tables, and the cell part in the budgets and reports of its runs."""

import numpy as np
import pytest
from recorded_service import record_into
from series_records import of_size, write_whole
from velocity_records import fermi_velocity_record

from mlepi.observables import all_stages
from mlepi.observables.cell_error.record import CellErrorRecord
from mlepi.physics.averages.error_budget import CELL
from mlepi.report.error_budgets import collect_budgets
from mlepi.report.run_records import list_error_parts, read_records
from mlepi.report.series import finish_series, main
from mlepi.results import ResultsStore

STAGES = all_stages()


@pytest.fixture
def folder(tmp_path):
    write_whole(tmp_path, {n: (of_size(fermi_velocity_record(), n), None) for n in (3, 4, 6)})
    return tmp_path


def test_every_run_of_a_series_gets_the_cell_part_of_its_size(folder, monkeypatch):
    redrawn = []
    monkeypatch.setattr(
        "mlepi.report.series.write_report", lambda run, stages: redrawn.append(run.name)
    )
    (folder / "4x4_none_none" / "report.html").write_text("from before", encoding="utf-8")
    everything, page = finish_series(folder, STAGES)
    assert redrawn == ["4x4_none_none"]  # the others have no report
    for n in (3, 4, 6):
        store = ResultsStore(folder / f"{n}x{n}_none_none")
        assert store.read("cell_error", CellErrorRecord).size == n
        records = read_records(store, STAGES)
        budgets = {
            quantity.path: budget
            for quantity, budget in collect_budgets(records, list_error_parts(records, STAGES))[
                "fermi_velocity"
            ]
        }
        # velocities are 1e5/N below those of an infinite cell
        np.testing.assert_allclose(budgets["spectral/velocities"].part(CELL), 1e5 / n)
        assert CELL not in budgets["spectral/slope_ratios"].missing((1,))
    for text in (
        "6×6. Error budget of fermi velocity at 300 K",
        "| quantity | value | stat. 68 % |",
        "Folded finite difference",
    ):
        assert text in everything
    assert (folder / "cell_sizes.md").read_text(encoding="utf-8") == everything
    assert (folder / "tables.md").read_text(encoding="utf-8") == page


def test_velocities_of_a_series_go_where_its_runs_went(folder, monkeypatch):
    service, jobs = record_into(monkeypatch, "mlepi.tracking.trackers")
    finish_series(folder, STAGES)
    [(_, job)] = jobs
    assert (job.kind, job.sweep) == ("comparison", folder.name)
    header, rows = service.tables["comparison/table"]
    assert header[:4] == ["estimator", "", "T (K)", "undisplaced"]
    assert [name.split()[0] for name in header[4:7]] == ["3×3", "4×4", "6×6"]
    assert rows
    assert set(service.images) == {"comparison/cell_sizes"}
    assert service.closed


def test_the_tables_are_printed(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["series", str(folder), "--page"])
    main()
    printed = capsys.readouterr().out
    assert printed.startswith("Velocities are over those of the undisplaced structure")
    assert "Error budget" not in printed
    monkeypatch.setattr("sys.argv", ["series", str(folder / "3x3_none_none")])
    with pytest.raises(SystemExit, match=r"error: .*got no runs below it"):
        main()
