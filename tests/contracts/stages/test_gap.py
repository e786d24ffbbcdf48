from stage_contract import SampledStageContract

from mlepi.observables.gap.stage import GapStage


class TestGap(SampledStageContract):
    stage = GapStage
    settings = {
        "valence_electrons": {6: 1},
        "kpoints": None,
        "mesh": [6, 6, 1],
        "energy_window": 1.2,
        "energy_step": 0.01,
        "peak_width": 0.05,
        "align": "none",
        "n_resamples": 20,
    }
    toy = {"bilayer": False, "overlap": 0.0, "stagger": 0.25}
