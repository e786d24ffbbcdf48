"""The record of the labelled_bands stage: bands of labelled supercells and of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class LevelErrors:
    """How far the levels of a network are from those of the labels.

    Attributes:
        rms: root mean square within the window.
        aligned: the same less the median, since H is defined up to a multiple of S.
        median: of the differences.
        ghosts: levels far below the lowest of the labels.
        ghost_kpoints: k-points that have any.
    """

    rms: float = field(metadata=unit("eV"))
    aligned: float = field(metadata=unit("eV"))
    median: float = field(metadata=unit("eV"))
    ghosts: int = field(metadata=unit("1"))
    ghost_kpoints: int = field(metadata=unit("1"))


@dataclass(frozen=True)
class SampleBands:
    """Bands of one labelled supercell along a path of the primitive zone.

    Levels and spectra of the network are those with the level shift where there is one.

    Attributes:
        name: of the structure in its data set.
        n_atoms: of the supercell.
        fermi_energy: of the labels.
        kpoints: (n_kpoints, 3), of the primitive zone.
        distances: (n_kpoints,), along the path.
        labels: special points of the path.
        label_distances: (n_labels,).
        n_levels: levels of the labels within the window.
        labelled_levels: (n_kpoints, n_states), of the labels, ascending.
        levels: (n_kpoints, n_states), of the network, ascending.
        energies: (n_energies,), from the Fermi energy.
        labelled_spectrum: (n_kpoints, n_energies), A(k, E) per spin of the labels, unfolded.
        spectrum: the same of the network, its median error taken off.
        plain: errors of H as predicted.
        shifted: errors with the level shift; None without one.
    """

    name: str
    n_atoms: int = field(metadata=unit("1"))
    fermi_energy: float = field(metadata=unit("eV"))
    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    labels: tuple[str, ...]
    label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    n_levels: int = field(metadata=unit("1"))
    labelled_levels: NDArray[np.float64] = field(metadata=unit("eV"))
    levels: NDArray[np.float64] = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    labelled_spectrum: NDArray[np.float64] = field(metadata=unit("1/eV"))
    spectrum: NDArray[np.float64] = field(metadata=unit("1/eV"))
    plain: LevelErrors
    shifted: LevelErrors | None = None

    @property
    def best(self) -> LevelErrors:
        """Errors with the level shift where there is one."""
        return self.plain if self.shifted is None else self.shifted


@dataclass(frozen=True)
class LabelledBandsRecord:
    """Bands of labelled supercells and of the network for the same atoms.

    Attributes:
        data: name of the data set.
        supercell: primitive cells along each lattice vector.
        window: half width around the Fermi energy in which levels are compared.
        samples: running number → bands.
        potentials: name of the file whose potentials of layers were added to the labels, as in the
            training of the network; None for the labels as they are.
    """

    data: str
    supercell: tuple[int, int, int] = field(metadata=unit("1"))
    window: float = field(metadata=unit("eV"))
    samples: Mapping[str, SampleBands]
    potentials: str | None = None
