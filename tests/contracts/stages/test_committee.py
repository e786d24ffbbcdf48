import dataclasses

import numpy as np
import pytest
from stage_contract import StageContract

from mlepi.observables.committee.record import CommitteeRecord, StageSpread
from mlepi.observables.committee.stage import CommitteeStage


class TestCommittee(StageContract):
    stage = CommitteeStage
    settings = {"n_samples": 4}

    @pytest.fixture
    def record(self):
        electron = {
            "spectral.velocities": np.array([2e3, 3e3]),
            "spectral.equilibrium": np.ones(()),
        }
        phonon = {"spectral.velocities": np.array([1e3, 4e3]), "maps": np.zeros((2, 40))}
        return CommitteeRecord(
            n_samples=4,
            n_electron_networks=4,
            n_phonon_networks=3,
            drive="mean",
            electron_factor=1.5,
            phonon_factor=2.0,
            uncalibrated=(),
            stages={"fermi_velocity": StageSpread(electron, phonon), "gap": StageSpread({}, {})},
        )

    def doubtful(self, record):
        return dataclasses.replace(record, uncalibrated=("phonon",))

    def test_both_kinds_add_in_squares(self, record):
        found = record.network_errors("fermi_velocity")
        expected = np.hypot([3e3, 4.5e3], [2e3, 8e3])
        np.testing.assert_allclose(found["spectral.velocities"], expected)
        assert found["spectral.equilibrium"] == 1.5
        assert found["maps"].shape == (2, 40)
        assert record.network_errors("gap") == record.network_errors("dos") == {}

    def test_a_number_that_is_compared_may_be_a_lone_one(self, record, tmp_path):
        again = self.store(tmp_path, record).read("committee", CommitteeRecord)
        assert again.network_errors("fermi_velocity")["spectral.equilibrium"] == 1.5
