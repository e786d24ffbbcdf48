"""Structures whose errors stand out from those of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LARGEST_SCORE = 3.5
"""Modified z-score above which a structure is an outlier (Iglewicz and Hoaglin, How to Detect and
Handle Outliers, ASQC 1993)."""

FEWEST = 10
"""Structures of which one can be an outlier: the spread of fewer says too little."""


def score(values: Sequence[float]) -> np.ndarray:
    """Return the modified z-scores 0.6745 (x − median)/MAD, (n_values,).

    Where more than half of the values are equal (MAD 0), the mean absolute deviation stands for the
    median one, 0.7979 (x − median)/⟨|x − median|⟩, as there.
    """
    x = np.asarray(values, dtype=np.float64)
    distance = x - np.median(x)
    spread = np.median(np.abs(distance))
    if spread > 0.0:
        return np.asarray(0.6745 * distance / spread)
    mean = np.abs(distance).mean()
    return np.asarray(0.7979 * distance / mean) if mean > 0.0 else np.zeros_like(x)


def find_outliers(
    errors: Mapping[str, Mapping[str, float]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Find the structures of a subset with errors far above the median of the others.

    Args:
        errors: structure → metrics.
        metrics: those that are looked at; what a structure lacks is left out.

    Returns:
        "structure", "metric", "value", "median" and "score", the largest score first.
    """
    found = []
    for metric in metrics:
        values = {name: own[metric] for name, own in errors.items() if metric in own}
        if len(values) < FEWEST:
            continue
        median = float(np.median(list(values.values())))
        scores = score(list(values.values()))
        found += [
            {
                "structure": name,
                "metric": metric,
                "value": value,
                "median": median,
                "score": float(own),
            }
            for (name, value), own in zip(values.items(), scores, strict=True)
            if own > LARGEST_SCORE
        ]
    return sorted(found, key=lambda row: -row["score"])
