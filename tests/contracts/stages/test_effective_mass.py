from stage_contract import SampledStageContract

from mlepi.observables.effective_mass.stage import EffectiveMassStage


class TestEffectiveMass(SampledStageContract):
    stage = EffectiveMassStage
    settings = {
        "valence_electrons": {6: 1},
        "kpoint": "K",
        "toward": "Γ",
        "distances": [0.0, 0.02],
        "order": 2,
        "energy_window": 1.2,
        "energy_step": 0.01,
        "peak_width": 0.05,
        "n_resamples": 20,
    }
    toy = {"bilayer": False, "overlap": 0.0, "stagger": 0.25}
