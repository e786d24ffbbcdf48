"""Names of sweeps and of their jobs: the same command leads to the same folders.

A sweep is several runs of one command, ``-m``; a job is one of them. A sweep is named after its
arguments in any order, a job after what is swept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FREE_KEYS = (
    "name", "logger", "ckpt_path", "trainer.max_time", "threads", "grace", "auto_resume",
)  # fmt: skip
"""Keys that may change while a sweep goes on: they do not decide what a job ends with."""

NAMED_KEYS = ("model", "seed")
"""Keys that name a job wherever they are given, so that further ones may follow in its folder."""

LONGEST = 80
"""Characters of a name before its number."""


def is_free(key: str) -> bool:
    """Return whether a key, or one that it belongs to, is one of ``FREE_KEYS``."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


def name_sweep(arguments: Iterable[str]) -> str:
    """Return the name of a sweep: its arguments and a number made from them.

    Options, keys of Hydra's own and free keys do not count, nor does the order.

    Args:
        arguments: of the command line.
    """
    counted = sorted(
        text
        for text in arguments
        if "=" in text
        and not text.startswith(("-", "hydra."))
        and not is_free(split_override(text)[0])
    )
    return f"{_shorten(' '.join(counted)) or 'sweep'}_{_number(counted)}"


def name_job(
    overrides: Sequence[str], arguments: Iterable[str], swept: Mapping[str, Any] | None
) -> str:
    """Return the name of a job, such as "model=mace,seed=1"; "single" where nothing is swept.

    Args:
        overrides: of the job.
        arguments: of the command line; what stands there as it is in the job is common to all jobs.
        swept: key → values that the config itself sweeps over; these keys are always named.
    """
    common = set(arguments)
    keys = {*NAMED_KEYS, *(() if swept is None else map(str, swept))}
    named = [
        text
        for text in overrides
        if text.split("=", 1)[0] in keys or (text not in common and "=" in text)
    ]
    whole = ",".join(named) or "single"
    name = _shorten(whole)
    return name if name == whole else f"{name}_{_number([whole])}"


def split_override(text: str) -> tuple[str, str]:
    """Return key and value of an override, without what says that a key is new."""
    key, _, value = text.partition("=")
    return key.lstrip("+~").split("@")[0].replace("/", "."), value


def _shorten(text: str) -> str:
    return re.sub(r"[^\w.,=+-]+", "_", text)[:LONGEST].strip("_,")


def _number(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
