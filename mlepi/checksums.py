"""SHA-256 of arrays and of nested plain data, and whether a file is what was written.

A digest covers type, shape and values of arrays, and of plain data the content, whatever the order
of keys. Bytes of a file are read once: what was hashed is what is loaded.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlepi.errors import CheckpointError, DataError, message
from mlepi.untrusted import check_archive

CHECKSUMS = "checksums"
"""Key of a checkpoint that holds them."""


def hash_tensor(values: Tensor) -> str:
    """Digest type, shape and numbers of a tensor."""
    plain = values.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_tree(data: Any) -> str:
    """Digest nested mappings and sequences of numbers, texts and tensors."""
    digest = hashlib.sha256()
    for piece in _walk(data):
        digest.update(piece)
    return digest.hexdigest()


def list_unfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold NaN or infinity."""
    return [
        name
        for name, values in tensors.items()
        if (values.is_floating_point() or values.is_complex())
        and not bool(torch.isfinite(values).all())
    ]


def find_damage(where: str, content: bytes) -> str | None:
    """Return the first part of a zip archive, as ``torch.save`` writes, with a wrong CRC-32.

    ``torch.load`` does not look at it.

    Args:
        where: file, for messages.
        content: of the file; anything else than an archive has no such parts.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_archive(where, archive, len(content), stored=True)
            return archive.testzip()
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError) as error:
        return f"the archive itself ({error})"


def compute_checksums(stamp: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SHA-256 of a stamp and of every weight, as checkpoints carry them.

    Args:
        stamp: result of ``stamp``.
        weights: "state_dict" of the file.
    """
    return {
        "stamp": hash_tree(stamp),
        "weights": {name: hash_tree(value) for name, value in weights.items()},
    }


def verify_content(
    where: str, stamp: Mapping[str, Any], weights: Mapping[str, Any], stored: Any
) -> None:
    """Compare stamp and weights with their checksums.

    Args:
        where: file, for messages.
        stamp: of the file.
        weights: of the file.
        stored: checksums of the file.

    Raises:
        CheckpointError: they differ.
    """
    if not isinstance(stored, Mapping) or not isinstance(stored.get("weights"), Mapping):
        raise CheckpointError(describe_damage(where, [CHECKSUMS]))
    found = compute_checksums(stamp, weights)
    theirs, ours = stored["weights"], found["weights"]
    damaged = [] if stored.get("stamp") == found["stamp"] else ["stamp"]
    damaged += sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
    if damaged:
        raise CheckpointError(describe_damage(where, damaged))


def check_finite_weights(where: str, weights: Mapping[str, Any]) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        where: file, for messages.
        weights: of the network.

    Raises:
        CheckpointError: there are some.
    """
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if unfinite := list_unfinite(tensors):
        raise CheckpointError(
            message(
                where,
                f"NaN or infinity in {_some(unfinite)}",
                "finite weights",
                "The training has diverged: use an earlier checkpoint, or a lower learning rate.",
            )
        )


def describe_damage(where: str, damaged: Sequence[str]) -> str:
    """Say which parts of a checkpoint are not as they were written."""
    return message(
        where,
        f"a damaged file: {_some(damaged)} not as the checksums say",
        "a checkpoint as it was written",
        "Fetch or copy it again.",
    )


def _some(names: Sequence[str]) -> str:
    """Name the first of several."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _walk(data: Any) -> Iterator[bytes]:
    """Yield what tells one nested value from all others."""
    if isinstance(data, Mapping):
        yield b"{"
        for key in sorted(data, key=lambda key: (type(key).__name__, str(key))):
            yield f"{type(key).__name__}:{key}=".encode()
            yield from _walk(data[key])
        yield b"}"
    elif isinstance(data, Tensor):
        yield f"tensor {hash_tensor(data)};".encode()
    elif isinstance(data, np.ndarray):
        yield f"tensor {hash_tensor(torch.from_numpy(np.array(data)))};".encode()
    elif isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        yield b"["
        for item in data:
            yield from _walk(item)
        yield b"]"
    else:
        yield f"{type(data).__name__}:{data!r};".encode()
