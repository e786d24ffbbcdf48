"""Archives of ``torch.save``: opened without running code, and bounded in all that they claim.

``weights_only`` builds nothing but tensors and plain data, but a tensor may repeat one number a
billion times, and lists that hold each other may have more ends than there are atoms.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mlepi.errors import CheckpointError, DataError, message
from mlepi.untrusted.archives import check_archive

SMALL, MOST_REPEATED = 64 * 2**20, 16
"""Bytes of all tensors without further question, and beyond that for every byte of the file."""
MOST_ITEMS, DEEPEST = 500_000, 64
"""Entries of all mappings and lists, and how deep they may lie inside each other."""
LARGEST_NUMBER = 1_000_000
BOUNDS = {"num_layers": 64, "correlation": 8, "l_max": 12}
"""Of numbers in the config of a network, by the beginning of their keys."""
LARGEST_IRREPS = 100_000
"""Features of one node or edge."""


def load_tensors(where: str, data: bytes) -> Any:
    """Read what ``torch.save`` wrote.

    Args:
        where: file, for messages.
        data: its content.

    Returns:
        Plain data and tensors.

    Raises:
        CheckpointError: it is no such file, is damaged, or claims more than it holds.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_archive(where, archive, len(data), stored=True)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_size(content, len(data))
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # the reader of a damaged file can fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            message(
                where,
                f"a file that cannot be read ({reason})",
                "a checkpoint of mlepi",
                "Fetch or train it again.",
            )
        ) from error
    return content


def _check_size(content: Any, size: int) -> None:
    """Refuse tensors that are larger than the file, and data without end."""
    total = 0
    for count, item in enumerate(_walk(content)):
        if isinstance(item, torch.Tensor):
            if item.layout != torch.strided or item.device.type != "cpu" or item.is_quantized:
                raise ValueError("a tensor that is no plain array")
            total += item.numel() * item.element_size()
        if count > MOST_ITEMS:
            raise ValueError(f"more than {MOST_ITEMS} entries")
        if total > SMALL and total > MOST_REPEATED * size:
            raise ValueError(f"tensors of {total} bytes in a file of {size}")


def _walk(content: Any) -> Iterator[Any]:
    """Yield everything in nested mappings and lists."""
    waiting = [(content, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels inside each other")
        yield item
        if isinstance(item, Mapping):
            waiting += [(value, depth + 1) for value in item.values()]
        elif isinstance(item, (list, tuple, set)):
            waiting += [(value, depth + 1) for value in item]


def check_network_size(where: str, config: Any, key: str = "") -> None:
    """Refuse a config whose network no memory could hold, before it is built.

    Args:
        where: file, for the message.
        config: of the network, plain data.
        key: under which it stands.

    Raises:
        CheckpointError: a number is too large.
    """
    if isinstance(config, Mapping):
        for name, value in config.items():
            check_network_size(where, value, str(name))
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_network_size(where, value, key)
    elif isinstance(config, (int, float, str)) and not isinstance(config, bool):
        most = next((b for word, b in BOUNDS.items() if key.startswith(word)), LARGEST_NUMBER)
        if isinstance(config, int) and abs(config) > most:
            _refuse(where, f"{key} = {config}", f"at most {most}")
        irreps = re.findall(r"(\d+)x(\d+)[eo]", config) if isinstance(config, str) else []
        size = sum(int(n[:9]) * (2 * int(l[:4]) + 1) for n, l in irreps)
        if size > LARGEST_IRREPS or any(int(l[:4]) > BOUNDS["l_max"] for _, l in irreps):
            _refuse(where, f"{key} = {str(config)[:80]}", f"at most {LARGEST_IRREPS} features")


def _refuse(where: str, got: str, expected: str) -> None:
    fix = "Do not use files that you do not trust."
    raise CheckpointError(message(where, got, expected, fix))
