import dataclasses

import numpy as np
import pytest
from stage_contract import StageContract
from velocity_records import fermi_velocity_record

from mlepi.errors import ConfigError
from mlepi.observables.cell_error.figure import cell_parts
from mlepi.observables.cell_error.record import CellErrorRecord
from mlepi.observables.cell_error.stage import CellErrorStage


class TestCellError(StageContract):
    stage = CellErrorStage
    settings = {"series": None}

    @pytest.fixture
    def record(self):
        return CellErrorRecord(
            series="cell_sizes",
            temperatures=np.array([0.0, 150.0, 300.0]),
            size=6,
            sizes=np.array([3, 6, 7]),
            parts={
                "fermi_velocity.spectral.slopes": np.array([1e4, 2e4, np.nan]),
                "fermi_velocity.spectral.pinned.ratios": np.array([0.01, 0.02, 0.03]),
                "gap.gaps": np.array([0.01, 0.02, 0.03]),
                "fermi_velocity.spectral.slope_ratios": np.array([0.01, 0.02]),
            },
        )

    def companions(self, record):
        return {"fermi_velocity": fermi_velocity_record()}

    def doubtful(self, record):
        return dataclasses.replace(record, other_settings=("gap",))

    def test_parts_reach_the_quantities_that_the_run_has(self, record):
        parts = cell_parts({"cell_error": record, **self.companions(record)})
        assert {each.quantity for each in parts} == {
            "fermi_velocity/spectral/slopes",
            "fermi_velocity/spectral/pinned/ratios",
        }
        assert {(each.part, each.source) for each in parts} == {
            ("cell", "distance from 1/N → 0 in cells of N = 3, 6, 7")
        }

    def test_without_a_series_there_is_nothing_to_take(self):
        with pytest.raises(ConfigError, match=r"cell_series: got null; expected the folder of a"):
            self.make().compute(None, None)
