import pytest
from plain_records import sparse_bands_record
from stage_contract import StageContract

from mlepi.observables.sparse_bands.stage import SparseBandsStage


class TestSparseBands(StageContract):
    stage = SparseBandsStage
    settings = {
        "valence_electrons": {6: 1},
        "route": ["K", "Γ"],
        "spacing": 0.25,
        "n_states": 8,
        "tolerance": 1e-8,
        "backend": "superlu",
        "memory_limit": None,
        "proof": "first",
        "guess": None,
        "electronic_temperature": 10.0,
        "continuum": False,
        "continuum_velocity": None,
        "continuum_w_aa": None,
        "continuum_w_ab": None,
    }

    @pytest.fixture
    def record(self):
        return sparse_bands_record()
