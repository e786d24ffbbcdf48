"""How many samples the electron network sees at once: as many as memory holds."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import torch

from mlepi.faults import is_out_of_memory

log = logging.getLogger(__name__)

Key = TypeVar("Key")
Found = TypeVar("Found")

SHARE = 0.8
"""Part of the free memory of a GPU that a batch may take; structures differ a little."""


def predict_in_batches(
    predict: Callable[[Sequence[Key]], Sequence[Found]],
    keys: Sequence[Key],
    size: int,
    device: str | None = None,
) -> Generator[Found]:
    """Yield what is predicted for every key, in order; batches shrink where memory is short.

    A batch that memory does not hold is halved, down to a single structure, and so are those after
    it.

    Args:
        predict: result of several keys at once; each is what it would be alone.
        keys: all of them.
        size: of a batch, at most.
        device: GPU whose memory decides the size: the first key is predicted alone, and measured.

    Raises:
        Exception: whatever ``predict`` raised for anything but memory, or for a single key.
    """
    start, wanted = 0, size
    if device is not None and len(keys) > 1:
        size = 1
    while start < len(keys):
        batch = keys[start : start + size]
        before = None if device is None or start else _begin_measuring(device)
        found = _attempt(predict, batch)
        if found is None:
            size = (len(batch) + 1) // 2
            _give_back()  # what the failed attempt held is free only now
            log.warning("memory is short: batches of %d samples from here on", size)
            continue
        if before is not None and device is not None:
            size = _fit(device, before, wanted)
        yield from found
        start += len(batch)


def fit_batch(one: int, free: int, most: int) -> int:
    """Return how many structures fit into memory.

    Args:
        one: bytes that a structure takes.
        free: bytes.
        most: never more than so many.
    """
    return max(1, min(most, int(SHARE * free / max(one, 1))))


def _attempt(
    predict: Callable[[Sequence[Key]], Sequence[Found]], batch: Sequence[Key]
) -> Sequence[Found] | None:
    """Return what is predicted; None where memory does not hold more than one structure."""
    try:
        return predict(batch)
    except Exception as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        return None


def _give_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _begin_measuring(device: str) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _fit(device: str, before: int, most: int) -> int:
    one = torch.cuda.max_memory_allocated(device) - before
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fit_batch(one, torch.cuda.mem_get_info(device)[0] + kept, most)
