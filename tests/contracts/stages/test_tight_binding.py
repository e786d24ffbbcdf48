import pytest
from plain_records import tight_binding_record
from stage_contract import StageContract

from mlepi.observables.tight_binding.stage import TightBindingStage


class TestTightBinding(StageContract):
    stage = TightBindingStage
    settings = {
        "valence_electrons": {6: 1},
        "n_structures": 2,
        "distances": [0.0, 0.1],
        "n_levels": 2,
    }

    @pytest.fixture
    def record(self):
        return tight_binding_record()
