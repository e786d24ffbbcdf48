from dataclasses import replace
from typing import ClassVar

import numpy as np
from stage_contract import SampledStageContract

from mlepi.observables.fermi_velocity.stage import FermiVelocityStage


class TestFermiVelocity(SampledStageContract):
    stage = FermiVelocityStage
    settings: ClassVar = {
        "valence_electrons": {6: 1},
        "electronic_temperature": 300.0,
        "band_spacing": 0.1,
        "dos_mesh": [4, 4, 1],
        "dos_width": 0.1,
        "dos_window": [-12.0, 12.0],
        "distances": [0.05, 0.1],
        "energy_window": 1.2,
        "energy_step": 0.02,
        "line_shape": "gaussian",
        "line_width": 0.05,
        "peak_width": 0.1,
        "velocity_window": [0.04, 0.1],
        "windows": [[0.04, 0.12]],
        "dispersion": "linear",
        "split_off_bands": False,
        "n_resamples": 10,
        "n_counts": 2,
    }
    toy: ClassVar = {"bilayer": False, "overlap": 0.0}

    def doubtful(self, record):
        return replace(record, captured_weights=np.array([0.9, 0.6]))
