from dataclasses import replace

import pytest
from plain_records import linear_response_record
from stage_contract import StageContract
from toy_ensembles import toy_settings

from mlepi.observables.linear_response.stage import LinearResponseStage
from mlepi.pipeline.sources import Source


class TestLinearResponse(StageContract):
    stage = LinearResponseStage
    settings = {
        "valence_electrons": {6: 1},
        "distances": [0.05, 0.075, 0.1],
        "velocity_window": [0.04, 0.1],
        "dispersion": "linear",
        "split_off_bands": False,
        "statistics": "quantum",
        "imaginary": "error",
        "floor_frequency": 0.5,
        "project_out": "none",
        "broadening": 0.05,
        "chemical_potential": 0.0,
        "mesh": None,
        "step": 2e-3,
    }

    def run_settings(self):
        return toy_settings(electron=Source("electron", {"_target_": "toy_ensembles.ToyElectron"}))

    @pytest.fixture
    def record(self):
        return linear_response_record()

    def doubtful(self, record):
        return replace(record, border_share=0.2)
