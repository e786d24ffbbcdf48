from dataclasses import replace

import pytest
from plain_records import labelled_bands_record
from stage_contract import StageContract
from toy_ensembles import toy_settings
from toy_pipelines import toy_source

from mlepi.observables.labelled_bands.figure import build_table
from mlepi.observables.labelled_bands.stage import LabelledBandsStage


class TestLabelledBands(StageContract):
    stage = LabelledBandsStage
    settings = {
        "data": None,
        "structures": None,
        "split": None,
        "subset": None,
        "route": None,
        "points": None,
        "spacing": 0.1,
        "window": 2.0,
        "line_width": 0.05,
    }

    @pytest.fixture
    def record(self):
        return labelled_bands_record()

    def run_settings(self):
        return toy_settings(electron=toy_source("electron", "ToyElectron"))

    def doubtful(self, record):
        (sample,) = record.samples.values()
        haunted = replace(sample.shifted, ghosts=2, ghost_kpoints=1)
        return replace(record, samples={"0": replace(sample, shifted=haunted)})

    def test_both_hamiltonians_have_a_row(self, record):
        rows = build_table(record).rows
        head = ("toy", "16", "5", "12")
        assert rows == (
            (*head, "as predicted", "30.0", "20.0", "10.0", "3", "2"),
            (*head, "with the level shift", "12.0", "11.0", "5.0", "0", "0"),
        )
