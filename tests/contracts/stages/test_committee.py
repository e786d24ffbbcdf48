import dataclasses

import numpy as np
import pytest
from stage_contract import StageContract

from mlepi.observables.committee.figure import list_error_parts
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

    def test_the_error_budget_gets_the_network_part(self, record):
        @dataclasses.dataclass
        class Velocities:
            velocities: np.ndarray

        @dataclasses.dataclass
        class Found:
            spectral: Velocities

        records = {"committee": record, "fermi_velocity": Found(Velocities(np.array([8e5, 7e5])))}
        (part,) = list_error_parts(records)
        assert (part.part, part.quantity) == ("network", "fermi_velocity/spectral/velocities")
        np.testing.assert_allclose(part.sizes, np.hypot([3e3, 4.5e3], [2e3, 8e3]))
        assert "4 electron and 3 phonon networks" in part.source
        other = Found(Velocities(np.ones(3)))
        assert list_error_parts({**records, "fermi_velocity": other}) == []
        assert list_error_parts({"committee": record}) == []

    def test_a_number_that_is_compared_may_be_a_lone_one(self, record, tmp_path):
        again = self.store(tmp_path, record).read("committee", CommitteeRecord)
        assert again.network_errors("fermi_velocity")["spectral.equilibrium"] == 1.5
