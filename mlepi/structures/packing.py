"""Blocks as whole multiples of a small energy, compressed to about a third of float32.

Labels have noise of their own; digits below it are most of a file and say nothing. Values become
integers n = round(H/quantum), small ones with small codes (0, −1, 1, −2 … → 0, 1, 2, 3 …), their
four bytes are separated, elements of one pair of orbitals stand beside each other, and LZMA does
the rest. It works best when the blocks are sorted by the length of their pair.
"""

from __future__ import annotations

import lzma

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message

LARGEST = 2**31 - 1
"""Multiples of the quantum that fit the format."""

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0}]


def pack_blocks(blocks: NDArray[np.floating], quantum: float) -> NDArray[np.uint8]:
    """Round blocks to multiples of a quantum and compress them.

    Args:
        blocks: (n_blocks, p, p), eV.
        quantum: eV; every element moves by half of it at most.

    Returns:
        (n_bytes,).

    Raises:
        DataError: the quantum is not positive, or an element is too large for it or not finite.
    """
    if not (np.isfinite(quantum) and quantum > 0):
        raise DataError(
            message("quantum", f"{quantum} eV", "a positive energy", "Use for example 3e-5.")
        )
    multiples = np.rint(blocks.reshape(len(blocks), blocks.shape[1] ** 2).T / quantum)
    if not bool(np.all(np.abs(multiples) <= LARGEST)):
        raise DataError(
            message(
                "blocks to pack",
                "an element that is not finite or too large",
                f"at most {LARGEST * quantum:.3g} eV",
                "Check the reader, or use a larger quantum.",
            )
        )
    signed = multiples.astype(np.int64)
    codes = np.where(signed < 0, -2 * signed - 1, 2 * signed).astype("<u4")
    planes = np.ascontiguousarray(codes).view(np.uint8).reshape(-1, 4).T
    packed = lzma.compress(planes.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)
    return np.frombuffer(packed, dtype=np.uint8)


def unpack_blocks(
    packed: NDArray[np.uint8], n_blocks: int, size: int, quantum: float
) -> NDArray[np.float64]:
    """Undo ``pack_blocks``, but for the rounding.

    Args:
        packed: (n_bytes,).
        n_blocks: number of blocks.
        size: p, rows and columns of a block.
        quantum: eV, as given to ``pack_blocks``.

    Returns:
        (n_blocks, p, p), eV.

    Raises:
        DataError: the bytes are damaged or of another number of blocks.
    """
    try:
        raw = lzma.decompress(packed.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)
    except lzma.LZMAError:
        raw = b""
    n_values = n_blocks * size * size
    if len(raw) != 4 * n_values:
        raise DataError(
            message(
                "packed blocks",
                f"{len(raw)} bytes",
                f"{4 * n_values} of {n_blocks} blocks",
                "Copy the file again.",
            )
        )
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(4, -1)
    codes = np.ascontiguousarray(planes.T).view("<u4").ravel().astype(np.int64)
    signed = np.where(codes % 2 == 1, -(codes + 1) // 2, codes // 2)
    return np.ascontiguousarray(quantum * signed.reshape(size, size, n_blocks).transpose(2, 0, 1))
