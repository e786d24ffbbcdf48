"""The smooth step with which every short-ranged function of the reference systems ends."""

from __future__ import annotations

import torch


def smooth_cutoff(distances: torch.Tensor, onset: float, end: float) -> torch.Tensor:
    """Return a step with two continuous derivatives, 1 − 10x³ + 15x⁴ − 6x⁵.

    It is 1 up to ``onset`` and 0 from ``end`` on.

    Args:
        distances: any shape, in the unit of the other two.
        onset: where it leaves 1.
        end: where it reaches 0.
    """
    x = ((distances - onset) / (end - onset)).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
