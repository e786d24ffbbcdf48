import pytest
from plain_records import control_variate_record
from stage_contract import StageContract

from mlepi.observables.control_variate.stage import ControlVariateStage


class TestControlVariate(StageContract):
    stage = ControlVariateStage
    settings = {"n_samples": 60, "n_folds": 4}

    @pytest.fixture
    def record(self):
        return control_variate_record()
