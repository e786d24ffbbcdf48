"""Which structures of many: different from each other, in given shares, within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def measure_distances(
    descriptors: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance of every structure to the nearest of others.

    Args:
        descriptors: (n, n_components).
        others: (m, n_components).

    Returns:
        (n,); infinite where there are no others.
    """
    nearest = np.full(len(descriptors), np.inf)
    for other in others:
        np.minimum(nearest, np.linalg.norm(descriptors - other, axis=1), out=nearest)
    return nearest


def select_diverse(
    descriptors: NDArray[np.float64],
    kinds: Sequence[str],
    shares: Mapping[str, float],
    n_wanted: int,
    *,
    costs: NDArray[np.float64] | None = None,
    budget: float | None = None,
    known: NDArray[np.float64] | None = None,
) -> list[int]:
    """Select structures one by one, each the one furthest from all before it.

    The kind that lags most behind its share comes next; a kind that is used up leaves its share to
    the others. With a budget, what costs more than is left of it is passed over.

    Args:
        descriptors: (n, n_components), scaled.
        kinds: (n,), of the structures.
        shares: kind → weight; kinds without one are left out.
        n_wanted: structures at most.
        costs: (n,), of each structure; needed with a budget.
        budget: that may be spent.
        known: (m, n_components), of structures that are there already.

    Returns:
        Positions, in the order of selection.
    """
    n = len(descriptors)
    price = np.zeros(n) if costs is None else np.asarray(costs, dtype=np.float64)
    left = np.inf if budget is None else float(budget)
    nearest = measure_distances(descriptors, np.empty((0,)) if known is None else known)
    centre = np.linalg.norm(descriptors - descriptors.mean(axis=0), axis=1) if n else np.empty(0)
    open_ = np.array([shares.get(kind, 0.0) > 0.0 for kind in kinds], dtype=bool)
    names = np.array(list(kinds))
    counts = dict.fromkeys([kind for kind, share in shares.items() if share > 0.0], 0)
    chosen: list[int] = []
    while len(chosen) < n_wanted:
        open_ &= price <= left
        present = [kind for kind in counts if np.any(open_ & (names == kind))]
        if not present:
            break
        whole = sum(shares[kind] for kind in present)
        done = sum(counts[kind] for kind in present) + 1
        behind = [done * shares[kind] / whole - counts[kind] for kind in present]
        kind = present[int(np.argmax(behind))]
        members = np.flatnonzero(open_ & (names == kind))
        far = nearest[members]
        first = not np.isfinite(far).all()
        best = members[int(np.argmin(centre[members]) if first else np.argmax(far))]
        chosen.append(int(best))
        counts[kind] += 1
        left -= float(price[best])
        open_[best] = False
        moved = np.linalg.norm(descriptors - descriptors[best], axis=1)
        np.minimum(nearest, moved, out=nearest)
    return chosen
