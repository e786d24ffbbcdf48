"""Names of sweeps and of their jobs: the same command leads to the same folders.

A sweep is several runs of one command, ``-m``; a job is one of them. A sweep is named after its
arguments in any order, a job after what is swept, and so is what a comparison says of it.
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


def find_swept(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys by which jobs differ, without those that decide nothing.

    An experiment that comes with a difference in other keys is not named beside them.

    Args:
        settings: key → value of the overrides of every job.
    """
    keys = [
        key
        for key in dict.fromkeys(key for each in settings for key in each)
        if not is_free(key) and len({each.get(key) for each in settings}) > 1
    ]
    others = [key for key in keys if key != "experiment"]
    if len({_select(each, others) for each in settings}) == len(settings):
        return others
    return keys


def _select(settings: Mapping[str, str], keys: Iterable[str]) -> tuple[str | None, ...]:
    return tuple(settings.get(key) for key in keys)


def write_label(own: Mapping[str, str], keys: Sequence[str]) -> str:
    """Write what is special about a job; networks and data need no key.

    Args:
        own: key → value of those that the job has.
        keys: all by which jobs differ.
    """
    last = [key.rsplit(".", 1)[-1] for key in keys]
    parts = []
    for key, value in own.items():
        short = key.rsplit(".", 1)[-1]
        name = short if last.count(short) == 1 else key
        parts.append(value if key in ("model", "data", "experiment") else f"{name}={value}")
    return ", ".join(parts)


def order_naturally(name: str) -> list[tuple[bool, float, str]]:
    """Return a key by which 5 comes before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [
        (True, float(part), "") if i % 2 else (False, 0.0, part) for i, part in enumerate(parts)
    ]


def _shorten(text: str) -> str:
    return re.sub(r"[^\w.,=+-]+", "_", text)[:LONGEST].strip("_,")


def _number(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
