"""e3nn as an oracle in double precision.

Its constants are made in torch's default type, float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from e3nn import o3

AXES = [1, 2, 0]
"""Cartesian components in e3nn's own axis order for m = −l…l: (y, z, x)."""


@contextmanager
def double_precision() -> Iterator[None]:
    """Make float64 torch's default type for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def wigner_d(l: int, matrix: np.ndarray) -> np.ndarray:
    """D^l of a Cartesian orthogonal matrix (x, y, z), improper ones of natural parity (−1)^l."""
    in_e3nn_axes = torch.tensor(np.asarray(matrix)[np.ix_(AXES, AXES)].copy())
    with double_precision():
        return o3.Irrep(l, (-1) ** l).D_from_matrix(in_e3nn_axes).numpy()


def harmonics(l_max: int, vectors: torch.Tensor) -> torch.Tensor:
    """Y_0 … Y_l_max, 'component' normalised, of Cartesian vectors.

    Zero for l > 0 where the vector vanishes.
    """
    return o3.spherical_harmonics(
        list(range(l_max + 1)), vectors[:, AXES], normalize=True, normalization="component"
    )


def natural_irreps(channels) -> o3.Irreps:
    return o3.Irreps([(count, (l, (-1) ** l)) for l, count in enumerate(channels)])


def unnatural_irreps(channels) -> o3.Irreps:
    return o3.Irreps([(count, (l, -((-1) ** l))) for l, count in enumerate(channels)])


def to_e3nn(parts) -> torch.Tensor:
    """Per-l (n, 2l+1, channels) → e3nn's flat layout, channel before m."""
    return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], dim=1)
