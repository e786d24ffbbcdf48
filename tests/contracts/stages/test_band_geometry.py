from dataclasses import replace

from stage_contract import SampledStageContract

from mlepi.observables.band_geometry.stage import BandGeometryStage


class TestBandGeometry(SampledStageContract):
    stage = BandGeometryStage
    settings = {
        "valence_electrons": {6: 1},
        "bands": "occupied",
        "distances": [0.0, 0.05],
        "loop_radius": 0.05,
        "n_loop": 6,
        "map_radius": 0.05,
        "n_map": 2,
        "n_counts": 2,
    }
    toy = {"bilayer": False, "stagger": 0.3}

    def doubtful(self, record):
        return replace(record, gaps=0.001 * record.gaps)
