"""The calibration that checkpoints of a committee carry in their metadata.

It belongs to one set of networks, named by the digests of their weights: any other list, also part
of this one, is uncalibrated. ``benchmarks/committee.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlepi.errors import DataError, message
from mlepi.physics.averages.calibration import Agreement
from mlepi.predictors.committee import digest_weights
from mlepi.predictors.predictor import Predictor

KEY = "calibration"
"""Entry of the metadata of a checkpoint."""


@dataclass(frozen=True)
class Calibration:
    """How the spread of a committee compares with its errors on labelled structures.

    Attributes:
        members: digests of the weights of its networks.
        quantities: "forces" (eV/Å), "hamiltonian" (eV), "bands" (eV), … → what was found on the
            structures with which it was calibrated.
        data: which structures these are; plain data.
        checks: other structures → quantity → true error over calibrated spread of the mean.
    """

    members: tuple[str, ...]
    quantities: Mapping[str, Agreement]
    data: Mapping[str, Any]
    checks: Mapping[str, Mapping[str, float]]

    def factor(self, quantity: str, drive: str) -> float:
        """Return true error over spread.

        Args:
            quantity: name.
            drive: "mean" for the mean of the networks, "first" for one of them.

        Raises:
            DataError: the quantity was not calibrated.
        """
        if quantity not in self.quantities:
            raise DataError(
                message(
                    "calibration of a committee",
                    f"{sorted(self.quantities)}",
                    f"{quantity!r} too",
                    "Calibrate again with benchmarks/committee.py.",
                )
            )
        found = self.quantities[quantity]
        return found.factor_of_mean if drive == "mean" else found.factor_of_one

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which ``from_dict`` rebuilds it."""
        return {
            "members": list(self.members),
            "quantities": {name: found._asdict() for name, found in self.quantities.items()},
            "data": dict(self.data),
            "checks": {name: dict(ratios) for name, ratios in self.checks.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Rebuild it from ``to_dict``.

        Raises:
            DataError: something is missing.
        """
        try:
            return cls(
                members=tuple(content["members"]),
                quantities={n: Agreement(**found) for n, found in content["quantities"].items()},
                data=content["data"],
                checks=content["checks"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                message(
                    "calibration in the metadata of a checkpoint",
                    f"an entry that cannot be read ({error})",
                    "what benchmarks/committee.py writes",
                    "Calibrate again.",
                )
            ) from error


def find_calibration(members: Sequence[Any]) -> Calibration | None:
    """Return the calibration of a committee, from the metadata of its first network.

    Args:
        members: networks of one kind; models that are none have no calibration.

    Returns:
        None where there is none for exactly these networks, in whatever order.
    """
    if not all(isinstance(member, Predictor) for member in members):
        return None
    entry = members[0].metadata.get(KEY)
    if entry is None:
        return None
    found = Calibration.from_dict(entry)
    same = sorted(found.members) == sorted(digest_weights(member) for member in members)
    return found if same else None
