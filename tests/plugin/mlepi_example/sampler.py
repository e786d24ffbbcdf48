"""A sampler: Monte Carlo with all displacements turned round."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.vibrations.samplers import MonteCarlo
from mlepi.physics.vibrations.thermal import HarmonicEnsemble


class Mirrored(MonteCarlo):
    """The opposite of every snapshot, which is as probable."""

    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Draw and turn round."""
        return -super().normals(ensemble, indices, seed)
