"""Forward-mode differentiation of blocks: one evaluation gives a derivative exactly.

References:
    Griewank and Walther, Evaluating Derivatives (2008), doi:10.1137/1.9780898717761, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlepi.models.compilation import plain_operations
from mlepi.physics.overlaps import OverlapTable
from mlepi.physics.overlaps.evaluate import compute_overlap_blocks_torch


def differentiate_overlaps(
    table: OverlapTable,
    numbers: NDArray[np.integer],
    edge_index: NDArray[np.integer],
    vectors: NDArray[np.float64],
    size: int,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate overlap blocks along changes of the edge vectors.

    Args:
        table: radial overlap functions.
        numbers: (n_atoms,) atomic numbers.
        edge_index: (2, n_edges) int.
        vectors: (n_edges, 3), from target to source, Å.
        size: p, of the padded blocks.
        first: (n_directions, n_edges, 3), changes of the vectors.
        second: the same, for mixed second derivatives.

    Returns:
        (n_directions, n_edges, p, p), 1/Å or 1/Å².
    """
    atoms = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
    edges = torch.from_numpy(np.asarray(edge_index))
    result = np.zeros((len(first), len(vectors), size, size))
    for n, change in enumerate(first):
        moving = np.any(change != 0.0, axis=1)
        if second is not None:
            moving &= np.any(second[n] != 0.0, axis=1)
        chosen = np.flatnonzero(moving)
        if not len(chosen):
            continue

        blocks = partial(_overlap_blocks, table, atoms, edges[:, torch.from_numpy(chosen)], size)
        point = torch.from_numpy(vectors[chosen])
        with torch.no_grad():
            blocks(point)  # couplings are computed at their first use, which must be a plain one
        other = None if second is None else second[n : n + 1, chosen]
        result[n, chosen] = push_forward(blocks, point, change[None, chosen], other)[0]
    return result


def _overlap_blocks(
    table: OverlapTable, numbers: Tensor, edge_index: Tensor, size: int, vectors: Tensor
) -> Tensor:
    return compute_overlap_blocks_torch(table, numbers, edge_index, vectors, size)


class PlainFunctions(TorchFunctionMode):
    """Write out what torch cannot differentiate twice in forward mode.

    Its SiLU has no such derivative, and that of its layer norm is wrong.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is nn.functional.silu:
            return args[0] * torch.sigmoid(args[0])
        if func is nn.functional.layer_norm:
            return _layer_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _layer_norm(
    features: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Centre the last axis, divide by its standard deviation, scale and shift."""
    centred = features - features.mean(-1, keepdim=True)
    power = centred.square().mean(-1, keepdim=True)
    return centred * torch.rsqrt(power + eps) * weight + bias


def push_forward(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Differentiate a function along directions, or twice along pairs of them."""

    def along(x: Tensor, direction: Tensor) -> Tensor:
        derivative: Tensor = torch.func.jvp(function, (x,), (direction,))[1]
        return derivative

    results = []
    with torch.no_grad(), plain_operations(), PlainFunctions():
        for n, direction in enumerate(first):
            tangent = torch.as_tensor(direction).to(point)
            if second is None:
                result = along(point, tangent)
            else:
                other = torch.as_tensor(second[n]).to(point)
                result = torch.func.jvp(lambda x, t=tangent: along(x, t), (point,), (other,))[1]
            results.append(result.cpu().numpy())
    return np.array(results)
