"""A run: its settings, store, networks and stages; a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlepi.errors import DataError, message
from mlepi.pipeline.ensemble import GHOST_MARGIN, Ensemble, Equilibrium
from mlepi.results import ResultsStore, read_hamiltonian

if TYPE_CHECKING:
    from mlepi.pipeline.networks import Networks
    from mlepi.pipeline.settings import Settings
    from mlepi.pipeline.stage import Stage


@dataclass(frozen=True)
class Run:
    """One folder of results and how they are made.

    Attributes:
        settings: what all stages share.
        store: records of this run folder.
        networks: of forces, and of H and S.
        stages: all stages by name, with their settings.
    """

    settings: Settings
    store: ResultsStore
    networks: Networks
    stages: Mapping[str, Stage]

    def read(self, stage: str) -> Any:
        """Return the record of an earlier stage.

        Raises:
            DataError: it has not run in this folder, or the file is damaged.
        """
        return self.store.read(stage, self.stages[stage].record)

    def content(self, stage: str) -> str:
        """Return the digest of the record of an earlier stage.

        Raises:
            DataError: it has not run in this folder.
        """
        content = self.store.content(stage)
        if content is None:
            raise DataError(
                message(
                    str(self.store.path),
                    f"no record {stage!r}",
                    "the record of an earlier stage",
                    f"Run stage={stage} first.",
                )
            )
        return content

    def equilibrium(self) -> Equilibrium:
        """Return the undisplaced primitive cell, its Hamiltonian with the level shift, and overlap.

        The file holds the Hamiltonian without the shift.
        """
        file = self.store.folder / self.read("hamiltonian").file
        atoms, hamiltonian, overlap = read_hamiltonian(file)
        return Equilibrium(atoms, self.networks.shift(atoms, hamiltonian, overlap), overlap)

    def ensemble(self) -> Ensemble:
        """Return the thermal ensemble that the sampling stage has settled."""
        phonon, sampling = self.read("phonon"), self.read("sampling")
        settings = self.settings
        return Ensemble(
            equilibrium=self.equilibrium(),
            primitive=phonon.atoms,
            distribution=sampling.build_distribution(phonon, settings.device),
            sampler=settings.sampler,
            supercell=settings.supercell,
            temperatures=settings.temperatures,
            n_samples=settings.n_samples,
            seed=settings.seed,
            networks=self.networks,
            folder=self.store.folder,
            fewer=settings.fewer,
            ghost_margin=getattr(self.stages.get("hamiltonian"), "ghost_margin", GHOST_MARGIN),
        )
