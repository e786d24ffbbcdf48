"""A split that a training makes because none was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlepi.structures.splits import write_split

MADE_SPLIT = "split.json"
"""File of the run folder that holds a split made by the training."""


@dataclass(frozen=True)
class MadeSplit:
    """A split that was made because none was given.

    Attributes:
        split: subset → names.
        provenance: fractions, seed, and counts per stratum.
    """

    split: Mapping[str, Sequence[str]]
    provenance: Mapping[str, Any]

    def describe(self) -> str:
        """Say how the structures were divided."""
        sizes = ", ".join(f"{len(names)} {subset}" for subset, names in self.split.items())
        strata = self.provenance["strata"]
        by = f" by {len(strata)} strata ({'; '.join(strata)})" if len(strata) > 1 else ""
        return f"no split given: made one of {sizes}{by}, in {MADE_SPLIT} of the run folder"

    def write(self, folder: Path) -> None:
        """Write it into the run folder."""
        write_split(folder / MADE_SPLIT, self.split, self.provenance)
