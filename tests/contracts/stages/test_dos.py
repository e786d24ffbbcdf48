from stage_contract import SampledStageContract

from mlepi.observables.dos.stage import DosStage


class TestDos(SampledStageContract):
    stage = DosStage
    settings = {
        "valence_electrons": {6: 1},
        "mesh": [2, 2, 1],
        "window": [-14.0, 14.0],
        "energy_step": 0.05,
        "width": 0.15,
        "align": "mean_potential",
    }
