"""Splits of a data set, made once from names and a seed, written to JSON, checked on use.

A file may hold further named subsets, ``NamedSubsets``.

The order of the structures inside a stratum is that of SHA-256(seed, name): it depends on nothing
but these two, so neither on the order of files nor on a random generator's version.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message
from mlepi.project_files import write_json
from mlepi.untrusted import read_json

FORMAT = "mlepi-split"
FORMAT_VERSION = 1
CHECKSUM = "sha256"
"""Key of a file: of everything else in it. Files of earlier versions have none."""


@dataclass(frozen=True)
class NamedSubsets:
    """Subsets beside those of a split, by name.

    Attributes:
        test: names of structures that are tested by themselves and never trained or validated on;
            they may be in "test" too, in several subsets, and in another file than the data set.
        val: parts of "val" whose errors are also reported by themselves, e.g. one shape of cell.
        unused: structures of the data set that this split leaves alone.
    """

    test: dict[str, list[str]] = field(default_factory=dict)
    val: dict[str, list[str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def make_split(
    names: Iterable[str],
    fractions: Mapping[str, float],
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Distribute structures over subsets, each stratum in the given proportions.

    Structures are taken stratum by stratum; each goes to the subset that lags most behind its
    fraction of those taken so far, so that the counts are within one of the fractions for the whole
    and within two for every stratum.

    Args:
        names: unique names of the structures, in any order.
        fractions: subset → fraction, e.g. {"train": 0.6, "val": 0.2, "test": 0.2}; they sum to 1.
        seed: any integer.
        strata: name → stratum, e.g. how a structure was made; None for one stratum.

    Returns:
        Subset → sorted names.

    Raises:
        DataError: names repeat, fractions do not sum to 1, a stratum is missing, or a subset stays
            empty.
    """
    names = sorted(names)
    _check_wishes(names, fractions, strata)

    def draw(name: str) -> tuple[str, str]:
        stratum = "" if strata is None else strata[name]
        return stratum, hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    split: dict[str, list[str]] = {subset: [] for subset in fractions}
    for taken, name in enumerate(sorted(names, key=draw), start=1):
        lag = {
            subset: fractions[subset] * taken - len(members) for subset, members in split.items()
        }
        split[max(lag, key=lambda subset: lag[subset])].append(name)
    empty = [subset for subset, members in split.items() if not members]
    if empty:
        raise DataError(
            message(
                "split",
                f"no structure in {empty}",
                "at least one in each",
                "Add structures or change fractions.",
            )
        )
    return {subset: sorted(members) for subset, members in split.items()}


def _check_wishes(
    names: Sequence[str], fractions: Mapping[str, float], strata: Mapping[str, str] | None
) -> None:
    """Check that names are unique, fractions sum to 1 and every structure has a stratum."""
    if len(set(names)) != len(names):
        raise DataError(
            message("split", "a name twice", "unique names", "Rename one of the structures.")
        )
    if min(fractions.values(), default=0.0) <= 0.0 or abs(sum(fractions.values()) - 1.0) > 1e-9:
        raise DataError(
            message(
                "split fractions",
                f"{dict(fractions)}",
                "positive numbers with sum 1",
                "Give for example train 0.8, val 0.1, test 0.1.",
            )
        )
    missing = sorted(set(names) - set(strata)) if strata is not None else []
    if missing:
        raise DataError(
            message(
                "split strata",
                f"none for {_some(missing)}",
                "one per structure",
                "Complete the strata.",
            )
        )


def write_split(
    path: str | Path,
    split: Mapping[str, Iterable[str]],
    provenance: Mapping[str, Any],
    named: NamedSubsets | None = None,
) -> None:
    """Write a split as JSON; the file appears complete or not at all.

    Args:
        path: file to write.
        split: subset → names.
        provenance: seed, fractions, strata and data set; plain Python data.
        named: further subsets that are tested or validated by themselves, and what is left out.
    """
    path = Path(path)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "provenance": dict(provenance),
        "split": {subset: list(members) for subset, members in split.items()},
    }
    if named is not None:
        for kind, subsets in (("test_subsets", named.test), ("val_subsets", named.val)):
            if subsets:
                content[kind] = {name: list(members) for name, members in subsets.items()}
        if named.unused:
            content["unused"] = list(named.unused)
    content[CHECKSUM] = _hash(content)
    write_json(path, content)


def read_split(path: str | Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Read a split and check that it distributes exactly the structures of a data set.

    Args:
        path: file written by ``write_split``.
        names: names of the structures in the data set, in any order.

    Returns:
        Subset → names, without those of ``read_named_subsets``.

    Raises:
        DataError: the file is missing or not a split, a structure is in two subsets, is unknown, or
            is in none, named test subsets and unused ones included.
    """
    path = Path(path)
    split, named = _read_content(path)
    aside = {name for members in named.test.values() for name in members} | set(named.unused)
    used = Counter(name for subset in split.values() for name in subset)
    known = set(names)
    problems = {
        "in two subsets": sorted(name for name, times in used.items() if times > 1),
        "not in the data set": sorted(set(used) - known),
        "in no subset": sorted(known - set(used) - aside),
    }
    found = "; ".join(f"{_some(wrong)} {what}" for what, wrong in problems.items() if wrong)
    if found:
        raise DataError(
            message(
                str(path),
                found,
                "every structure of the data set once",
                "Use the split made for this data set, or data.split=null, which makes one.",
            )
        )
    return split


def read_named_subsets(path: str | Path) -> NamedSubsets:
    """Read the further subsets of a split; a file without any has none.

    Raises:
        DataError: the file is missing or not a split; a test subset holds a structure that is
            trained or validated on, or a validation subset one that is not validated on.
    """
    path = Path(path)
    split, named = _read_content(path)
    val = set(split.get("val", ()))
    seen = val | set(split.get("train", ()))
    problems = [
        (f"test subset {subset!r} with {_some(wrong)} of train or val", "none of these")
        for subset, members in named.test.items()
        if (wrong := sorted(seen & set(members)))
    ]
    problems += [
        (f"val subset {subset!r} with {_some(wrong)} outside val", "a part of val")
        for subset, members in named.val.items()
        if (wrong := sorted(set(members) - val))
    ]
    if wrong := sorted(seen & set(named.unused)):
        problems.append((f"{_some(wrong)} of train or val left unused", "one or the other"))
    problems += [
        (f"a further subset named {subset!r}", "another name")
        for subset in (*named.test, *named.val)
        if subset in split
    ]
    if problems:
        found, expected = problems[0]
        raise DataError(message(str(path), found, expected, "Make the split again."))
    return named


def _read_content(path: Path) -> tuple[dict[str, list[str]], NamedSubsets]:
    """Read the subsets of a split and the further ones.

    Raises:
        DataError: the file is missing or not a split of this format.
    """
    try:
        content = read_json(path)
        split, test, val = (
            {str(subset): [str(name) for name in members] for subset, members in found.items()}
            for found in (
                content["split"],
                content.get("test_subsets", {}),
                content.get("val_subsets", {}),
            )
        )
        unused = [str(name) for name in content.get("unused", [])]
        version = (content["format"], content["format_version"])
        if CHECKSUM in content and content[CHECKSUM] != _hash(content):
            raise ValueError(f"changed since it was written; remove its key {CHECKSUM} if by you")
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            message(
                str(path),
                f"no readable split ({error})",
                f"JSON of format {FORMAT}",
                "Make it with mlepi.structures.write_split, or let data.split=null make one.",
            )
        ) from error
    if version != (FORMAT, FORMAT_VERSION):
        raise DataError(
            message(
                str(path),
                f"format {version}",
                f"{(FORMAT, FORMAT_VERSION)}",
                "Make it with mlepi.structures.write_split, or let data.split=null make one.",
            )
        )
    return split, NamedSubsets(test, val, unused)


def _hash(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _some(names: list[str]) -> str:
    """Name up to three structures and count the rest."""
    rest = len(names) - 3
    return ", ".join(repr(name) for name in names[:3]) + (f" and {rest} more" if rest > 0 else "")
