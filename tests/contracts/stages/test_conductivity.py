from dataclasses import replace

import numpy as np
from stage_contract import SampledStageContract

from mlepi.observables.conductivity.stage import ConductivityStage


class TestConductivity(SampledStageContract):
    stage = ConductivityStage
    settings = {
        "valence_electrons": {6: 1},
        "electronic_temperature": 300.0,
        "mesh": [2, 1, 1],
        "equilibrium_mesh": [20, 20, 1],
        "max_energy": 1.0,
        "energy_step": 0.05,
        "line_width": 0.15,
        "window": [0.5, 0.7],
        "n_resamples": 20,
        "n_counts": 2,
    }
    toy = {"bilayer": False}

    def doubtful(self, record):
        return replace(record, fermi_shifts=np.array([0.0, -0.3]), ghosts=np.array([0.0, 0.25]))

    def test_each_doubt_is_told_in_its_own_words(self, record):
        shift, ghosts = self.stage.doubts(self.doubtful(record))
        assert "move the Fermi energy by -0.30 eV" in shift
        assert "0.25 ghost states per supercell" in ghosts
        assert self.stage.doubts(record) == []
