"""The record of the committee stage: how far every number of a run differs among its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit

OWN_UNIT = "as in the record"


@dataclass(frozen=True)
class StageSpread:
    """Standard deviations among networks of the numbers in the record of one stage.

    Keys are names of fields, with dots into the records inside; a number that no network changes is
    left out.

    Attributes:
        electron: among the electron networks, on the displacements of the run.
        phonon: among the phonon networks, each with the displacements that it gives to the same
            random numbers, H by the first electron network.
    """

    electron: Mapping[str, NDArray[np.float64]] = field(metadata=unit(OWN_UNIT))
    phonon: Mapping[str, NDArray[np.float64]] = field(metadata=unit(OWN_UNIT))


@dataclass(frozen=True)
class CommitteeRecord:
    """What the networks of a run disagree about.

    Attributes:
        n_samples: supercells per temperature on which every network was tried.
        n_electron_networks: members of the list of electron networks; 1 without one.
        n_phonon_networks: the same of phonon networks.
        drive: "mean" or "first": what the run itself used.
        electron_factor: true error over spread in levels near the Fermi energy, by calibration on
            labelled structures; 1 where there is none.
        phonon_factor: the same in forces.
        uncalibrated: kinds of networks without a calibration.
        stages: name of a stage → its spreads.
    """

    n_samples: int = field(metadata=unit("1"))
    n_electron_networks: int = field(metadata=unit("1"))
    n_phonon_networks: int = field(metadata=unit("1"))
    drive: str = field(metadata=unit("1"))
    electron_factor: float = field(metadata=unit("1"))
    phonon_factor: float = field(metadata=unit("1"))
    uncalibrated: tuple[str, ...] = field(metadata=unit("1"))
    stages: Mapping[str, StageSpread] = field(metadata=unit(OWN_UNIT))

    def network_errors(self, stage: str) -> dict[str, NDArray[np.float64]]:
        """Return the calibrated standard deviation that a record owes to its networks.

        That of electron and of phonon networks added in squares; it does not fall with the number
        of samples.

        Args:
            stage: whose record it is; one that was not compared has none.

        Returns:
            Name of a field, with dots into the records inside → array of its shape, in its unit.
        """
        if stage not in self.stages:
            return {}
        spread = self.stages[stage]
        squares: dict[str, NDArray[np.float64]] = {}
        for factor, values in (
            (self.electron_factor, spread.electron),
            (self.phonon_factor, spread.phonon),
        ):
            for name, deviation in values.items():
                squares[name] = squares.get(name, 0.0) + (factor * np.asarray(deviation)) ** 2
        return {name: np.sqrt(square) for name, square in squares.items()}
