from dataclasses import replace

import pytest
from plain_records import phonon_reference_record
from stage_contract import StageContract

from mlepi.observables.phonon_reference.figure import build_table
from mlepi.observables.phonon_reference.stage import PhononReferenceStage


class TestPhononReference(StageContract):
    stage = PhononReferenceStage
    settings = {"file": None, "rigid_layers": None, "rigid_steps": [0.05, 0.1]}

    @pytest.fixture
    def record(self):
        return phonon_reference_record()

    def doubtful(self, record):
        return replace(record, contained=0 * record.contained)

    def test_the_table_says_what_is_known(self, record):
        rows = {row[0]: row[1:] for row in build_table(record).rows}
        assert rows["Γ"] == ("1000", "1003", "3.0")
        assert rows["M"] == ("100, 500, 1000", "100, 504, 1000", "2.3")
        assert rows["all"] == ("", "", "2.5")
        assert rows["rigid layers, shear"] == ("30.0–34.0", "31.0–33.0", "1.0")

    def test_a_reference_off_the_path_is_not_drawn(self, record):
        off = replace(record, places=record.places[:0], place_qpoints=record.place_qpoints[:0])
        assert self.stage.presentation().drawings[0].plot(off)
