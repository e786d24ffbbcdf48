"""Further networks beside those of a run, and how far they differ on a structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.domain.training_domain import force_spread, hamiltonian_spread

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.networks import Networks
    from mlepi.predictors import ElectronPredictor, PhononPredictor


@dataclass(frozen=True)
class FurtherNetworks:
    """Networks that are compared with those of the run.

    Attributes:
        electron: predict H.
        phonon: predict forces, eV/Å.
    """

    electron: Sequence[ElectronPredictor] = ()
    phonon: Sequence[Calculator] = ()

    def measure_spreads(
        self, networks: Networks, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray[np.float64]]:
        """Measure how far the networks differ on one structure.

        Args:
            networks: of the run; the members of a committee are compared with each other, not with
                their mean.
            atoms: structure, Å.
            hamiltonian: by the network of the run, eV; used where it is one network.
            overlap: of the same orbitals.

        Returns:
            ``hamiltonian_spread`` (), eV, and ``force_spread`` (), eV/Å, of the kinds with several
            networks.
        """
        settings, found = networks.settings, {}
        members = networks.electron_members
        if len(members) + len(self.electron) > 1:
            models = (*(members if len(members) > 1 else ()), *self.electron)
            others = [
                model.hamiltonian(atoms, device=settings.device, dtype=settings.dtype)
                for model in models
            ]
            alone = [hamiltonian] if len(members) == 1 else []
            spread = hamiltonian_spread([*alone, *others], overlap)
            found["hamiltonian_spread"] = np.array(spread)
        if self.phonon or settings.phonon.is_committee:
            calculators = [*networks.phonon_members, *self.phonon]
            forces = [calculator.get_forces(atoms) for calculator in calculators]
            found["force_spread"] = np.array(force_spread(forces))
        return found


def load_further_networks(
    electron: Sequence[Path], phonon: Sequence[Path], device: str
) -> FurtherNetworks:
    """Load networks from their checkpoints.

    Args:
        electron: checkpoints.
        phonon: checkpoints.
        device: where forces are computed.

    Raises:
        CheckpointError: a file cannot be used, or holds the other kind.
    """
    from mlepi.checkpoint import load_model  # imports much

    models = [cast("ElectronPredictor", load_model(file, kind="electron")) for file in electron]
    forces = [cast("PhononPredictor", load_model(file, kind="phonon")) for file in phonon]
    return FurtherNetworks(models, [model.calculator(device=device) for model in forces])
