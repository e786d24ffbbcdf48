"""The record of the domain stage.

How far the displaced supercells lie from what the networks were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class DomainRecord:
    """Diagnostics of the samples; arrays of spreads are empty where there is one network only.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature.
        supercell: primitive cells along each lattice vector.
        quantities: names of the geometric quantities.
        source: the training structures; empty when none are known.
        n_training: number of training structures.
        training_values: (n_training, n_quantities).
        training_ranges: (n_quantities, 2), smallest and largest; NaN where none is known.
        values: (n_samples, n_temperatures, n_quantities); NaN for what the structure does not have.
        distances: (n_samples, n_temperatures), how far a sample lies outside the training range in
            the worst quantity, in standard deviations among the training structures; negative
            inside, NaN without training data.
        worst_quantities: (n_samples, n_temperatures) int, position of that quantity; −1 without
            training data.
        ghosts: (n_samples, n_temperatures) int, states far below all undisplaced bands, at Γ or at
            a general k-point.
        n_electron_networks: networks that predicted H of every sample.
        hamiltonian_spreads: (n_samples, n_temperatures), root mean square deviation of H among
            them, energy zeros apart; NaN for samples on which they were not compared.
        training_hamiltonian_spreads: (n_training,), the same on the training structures.
        n_phonon_networks: networks that predicted the forces.
        force_spreads: (n_samples, n_temperatures).
        training_force_spreads: (n_training,).
        rank_by: what the list of the worst samples is sorted by, after their ghost states.
        worst_samples: (n_worst,) int, the worst first.
        worst_temperatures: (n_worst,).
        label_files: inputs written for them, relative to the run folder.
        unseen_periods: (n_periods,), lattice periods within the reach of the electron network that
            every training cell has and this supercell lacks; none in older files.
        unseen: what of the undisplaced crystal no training structure has: elements, numbers of
            layers or of bonds; none in older files.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    quantities: tuple[str, ...] = field(metadata=unit("1"))
    source: str = field(metadata=unit("1"))
    n_training: int = field(metadata=unit("1"))
    training_values: NDArray[np.float64] = field(metadata=unit("Å"))
    training_ranges: NDArray[np.float64] = field(metadata=unit("Å"))
    values: NDArray[np.float64] = field(metadata=unit("Å"))
    distances: NDArray[np.float64] = field(metadata=unit("1"))
    worst_quantities: NDArray[np.int64] = field(metadata=unit("1"))
    ghosts: NDArray[np.int64] = field(metadata=unit("1"))
    n_electron_networks: int = field(metadata=unit("1"))
    hamiltonian_spreads: NDArray[np.float64] = field(metadata=unit("eV"))
    training_hamiltonian_spreads: NDArray[np.float64] = field(metadata=unit("eV"))
    n_phonon_networks: int = field(metadata=unit("1"))
    force_spreads: NDArray[np.float64] = field(metadata=unit("eV/Å"))
    training_force_spreads: NDArray[np.float64] = field(metadata=unit("eV/Å"))
    rank_by: str = field(metadata=unit("1"))
    worst_samples: NDArray[np.int64] = field(metadata=unit("1"))
    worst_temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    label_files: tuple[str, ...] = field(metadata=unit("1"))
    unseen_periods: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("Å")
    )
    unseen: tuple[str, ...] = field(default=(), metadata=unit("1"))

    @property
    def outside_shares(self) -> NDArray[np.float64]:
        """Share of the samples outside the training range, (n_temperatures,).

        NaN without training data.
        """
        return np.where(np.isnan(self.distances), np.nan, self.distances > 0).mean(axis=0)
