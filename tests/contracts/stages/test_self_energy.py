from dataclasses import replace
from typing import ClassVar

from stage_contract import SampledStageContract

from mlepi.observables.self_energy.stage import SelfEnergyStage


class TestSelfEnergy(SampledStageContract):
    stage = SelfEnergyStage
    settings: ClassVar = {
        "valence_electrons": {6: 1},
        "distances": [0.05, 0.1],
        "energy_window": 1.2,
        "energy_step": 0.02,
        "broadening": 0.1,
        "tolerance": 1e-5,
        "velocity_window": [0.04, 0.1],
        "windows": [[0.04, 0.12]],
        "dispersion": "linear",
        "split_off_bands": False,
        "n_resamples": 10,
        "n_counts": 2,
    }
    toy: ClassVar = {"bilayer": False, "overlap": 0.0}

    def doubtful(self, record):
        return replace(record, weights=0.4 * record.weights)
