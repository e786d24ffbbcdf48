"""All states of one cell in an energy window, at a sequence of k-points.

On a processor the states are followed from the point nearest to the middle of the sequence
outwards; a GPU solves all points in one batch.
"""

from __future__ import annotations

import numpy as np
import torch

from mlepi.physics.eigenstates.batched_states import count_batch_below, solve_batch_within
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks
from mlepi.physics.eigenstates.kpoint_sequence import (
    EDGE,
    KpointSequence,
    WindowStates,
    find_ends,
    missed_states,
)
from mlepi.physics.eigenstates.state_follower import follow_points


def solve_points(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
    device: str = "cpu",
) -> list[WindowStates]:
    """Find all states of the energy window at every k-point.

    Args:
        sequence: of k-points.
        layouts: of the Hamiltonian, eV, and the overlap.
        centre: eV, of the window.
        window: eV, half width.
        device: a processor follows the states from point to point; a GPU takes all points together.

    Returns:
        One result per k-point.

    Raises:
        PhysicsError: the solver missed a state, or did not converge.
    """
    if device.startswith("cpu"):
        return follow_points(sequence, layouts, centre, window)
    return solve_points_together(sequence, layouts, centre, window, device)


def solve_points_together(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
    device: str,
) -> list[WindowStates]:
    """Solve all k-points in one batch on a device, and prove each complete.

    Arguments and result as ``solve_points``.
    """
    h, s = (
        torch.from_numpy(
            np.stack([layout.at(k).astype(np.complex128) for k in sequence.kpoints])
        ).to(device)
        for layout in layouts
    )
    solved = solve_batch_within(h, s, centre, window + EDGE)
    mapped = [
        (overlap @ states.vectors).cpu().numpy() for overlap, states in zip(s, solved, strict=True)
    ]
    vectors = [states.vectors.cpu().numpy() for states in solved]
    levels = [states.values.cpu().numpy() for states in solved]
    ends = np.array([find_ends(values, centre, window) for values in levels])
    below = [
        np.array(count_batch_below(h, s, torch.from_numpy(ends[:, side]).to(device)))
        for side in range(2)
    ]
    results = []
    for values, columns, states, (low, high), first, behind in zip(
        levels, mapped, vectors, ends, *below, strict=True
    ):
        inside = (values > low) & (values < high)
        if behind - first != np.count_nonzero(inside):
            raise missed_states(int(np.count_nonzero(inside)), window, centre)
        results.append(
            WindowStates(int(first), values[inside], columns[:, inside], states[:, inside])
        )
    return results
