from dataclasses import replace

from stage_contract import SampledStageContract

from mlepi.observables.domain.stage import DomainStage


class TestDomain(SampledStageContract):
    stage = DomainStage
    settings = {
        "data": None,
        "split": None,
        "subset": "train",
        "electron_checkpoints": [],
        "phonon_checkpoints": [],
        "n_compared": 2,
        "rank_by": "distance",
        "n_worst": 2,
        "openmx": None,
        "vasp": None,
    }

    def doubtful(self, record):
        return replace(record, ghosts=record.ghosts + 1)
