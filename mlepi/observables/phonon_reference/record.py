"""The record of the phonon_reference stage: frequencies beside those known from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.phonon_reference.errors import pool_groups, root_mean_square
from mlepi.results import unit


@dataclass(frozen=True)
class PhononReferenceRecord:
    """Frequencies of the run and of a reference at the same wave vectors, paired by their order.

    Attributes:
        source: where the reference comes from, in its own words.
        supercell: number of cells along each lattice vector, of the force constants.
        names: of the wave vectors.
        groups: whose errors are told together.
        qpoints: (n_qpoints, 3).
        contained: (n_qpoints,), 1 where the supercell contains the wave vector, so that the
            dynamical matrix is exact there, 0 where it is interpolated.
        reference: (n_qpoints, 3 n_atoms), NaN where a branch is not known.
        frequencies: (n_qpoints, 3 n_atoms), of the run, ascending, imaginary shown negative.
        band_distances: (n_points,), along the path of the phonon stage.
        band_frequencies: (n_points, 3 n_atoms).
        band_labels: special points of the path.
        band_label_distances: (n_labels,).
        places: (n_places,), distances along the path at which a wave vector, or one equivalent to
            it, lies.
        place_qpoints: (n_places,), number of that wave vector.
        rigid_reference: mode of rigid layers → (2,), lowest and highest frequency of the reference.
        rigid_frequencies: mode → (n_directions, n_steps), of the run.
        rigid_steps: (n_steps,), displacements of a layer.
    """

    source: str
    supercell: tuple[int, int, int] = field(metadata=unit("1"))
    names: tuple[str, ...]
    groups: tuple[str, ...]
    qpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    contained: NDArray[np.int64] = field(metadata=unit("1"))
    reference: NDArray[np.float64] = field(metadata=unit("THz"))
    frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    band_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    band_frequencies: NDArray[np.float64] = field(metadata=unit("THz"))
    band_labels: tuple[str, ...]
    band_label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    places: NDArray[np.float64] = field(metadata=unit("1/Å"))
    place_qpoints: NDArray[np.int64] = field(metadata=unit("1"))
    rigid_reference: Mapping[str, NDArray[np.float64]] = field(metadata=unit("THz"))
    rigid_frequencies: Mapping[str, NDArray[np.float64]] = field(metadata=unit("THz"))
    rigid_steps: NDArray[np.float64] = field(metadata=unit("Å"))

    @property
    def errors(self) -> NDArray[np.float64]:
        """Frequencies less the reference, (n_qpoints, 3 n_atoms), THz; NaN where it is unknown."""
        return self.frequencies - self.reference

    def rmse_by_qpoint(self) -> NDArray[np.float64]:
        """Return the root mean square error at every wave vector, (n_qpoints,), THz."""
        return np.array([root_mean_square(errors) for errors in self.errors])

    def rmse_by_group(self) -> dict[str, float]:
        """Return the root mean square error over all branches of a group of wave vectors, THz."""
        return pool_groups(self.errors, self.groups)

    def rmse(self) -> float:
        """Return the root mean square error over all branches that are known, THz."""
        return root_mean_square(self.errors)
