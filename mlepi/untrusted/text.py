"""Text and JSON of unknown origin: UTF-8, of a size, nested only so deep, every key once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message
from mlepi.untrusted.limits import check_size, reading

EXPANSION = 8.0
"""Bytes in memory for one of text that is cut into lines and words."""
LARGEST_JSON = 16 * 2**20
"""Bytes; Python needs up to twenty for one."""
DEEPEST = 64
"""Objects and lists inside each other."""
OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""How UTF-16 and UTF-32 begin."""


def read_text(path: Path, *, strict: bool = False) -> str:
    """Read a text file in UTF-8, with or without the mark that some editors put before it.

    Args:
        path: of the file.
        strict: refuse bytes that are no UTF-8, instead of replacing them.

    Raises:
        DataError: it is missing, too large, or in another encoding.
    """
    check_size(path, EXPANSION)
    with reading(str(path), "text"):
        return _decode(str(path), path.read_bytes(), "strict" if strict else "replace")


def check_text(path: Path, *, ends: bool = False) -> None:
    """Refuse a text file that others will read, with zero bytes or cut off inside its last line.

    Args:
        path: of the file.
        ends: it is a table whose lines are of one length, or end.

    Raises:
        DataError: it is damaged.
    """
    last = b""
    with reading(str(path), "text"), path.open("rb") as file:
        while chunk := file.read(2**22):
            if b"\0" in chunk:
                raise ValueError("a zero byte")
            last = (last + chunk)[-1000:]
        lines = last.splitlines()
        if ends and len(lines) > 1 and not last.endswith(b"\n") and _is_cut(lines):
            raise ValueError(f"cut off inside its last line, {lines[-1][-40:].decode()!r}")


def _is_cut(lines: Sequence[bytes]) -> bool:
    """Say whether a last line without an end is shorter than a row like it; titles do not count.

    Numbers with as many decimals as those above are whole, whatever their signs.
    """
    words = lines[-1].split()
    rows = [line for line in lines[:-1] if len(line.split()) == len(words)] or [lines[-2]]
    above = rows[-1].split()
    if not above or not above[-1].strip(b"+-.").replace(b".", b"")[:1].isdigit():
        return False
    decimals = [len(row[-1].partition(b".")[2]) if row else 0 for row in (words, above)]
    whole = len(words) == len(above) and decimals[0] == decimals[1] > 0
    return len(lines[-1]) < len(rows[-1]) and not whole


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing, too large, in another encoding, or no JSON.
    """
    check_size(path, limit=LARGEST_JSON)
    with reading(str(path), "JSON"):
        content = path.read_bytes()
    return parse_json(str(path), _decode(str(path), content, "strict"))


def parse_json(where: str, text: str | bytes) -> Any:
    """Parse JSON whose depth is bounded and whose objects hold every key once.

    Args:
        where: file, for the message.
        text: JSON.

    Raises:
        DataError: it is no such JSON.
    """
    text = _decode(where, text, "strict") if isinstance(text, bytes) else text
    fix = "Write the file again."
    try:
        if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels inside each other")
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(message(where, f"no JSON ({error})", "JSON", fix)) from error


def _decode(where: str, content: bytes, errors: str) -> str:
    if content.startswith(OTHER_ENCODINGS) or content[1:2] == b"\0":
        got, fix = "text in UTF-16 or UTF-32", "Save it as UTF-8."
        raise DataError(message(where, got, "UTF-8", fix))
    if (place := content.find(0)) >= 0:
        got, fix = f"a zero byte at {place}", "Copy it again."
        raise DataError(message(where, f"a damaged file ({got})", "text", fix))
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        got = f"byte {error.start}, which is no UTF-8"
        raise DataError(message(where, got, "text in UTF-8", "Save it as UTF-8.")) from error


def _depth(text: str) -> int:
    """Return how deep brackets outside of strings are nested."""
    depth = deepest = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEEPEST:
                return deepest
        elif letter in "]}":
            depth -= 1
    return deepest


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} twice")
    return found
