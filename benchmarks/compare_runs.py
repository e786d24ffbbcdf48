"""Compare the records of runs before and after a change, number by number.

``python benchmarks/compare_runs.py BEFORE AFTER`` looks for ``results.h5`` below BEFORE and for the
same files below AFTER, in whichever formats and under whichever names of stages, and prints one row
per record. The exit status is 1 where a number differs by more than the tolerance, or where a field
or a record is gone. Fields that AFTER has in addition are named and do not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from mlepi.former_names import FORMER_STAGE_NAMES

TIMES = ("cpu_seconds",)
"""Fields that differ from run to run by their nature."""


class Deviation(NamedTuple):
    """How far two records are from each other.

    Attributes:
        run: folder below BEFORE.
        stage: present name.
        n_numbers: compared.
        n_different: not equal to the last digit.
        largest: relative deviation, of the largest magnitude in the same field.
        field: where that is.
        gone: fields that AFTER lacks, or that hold something else.
        new: fields that BEFORE lacks.
    """

    run: str
    stage: str
    n_numbers: int
    n_different: int
    largest: float
    field: str
    gone: tuple[str, ...]
    new: tuple[str, ...]


def read_fields(group: h5py.Group) -> dict[str, Any]:
    """Return path → value of everything in a record."""
    found: dict[str, Any] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] not in TIMES:
            found[name] = item[()]

    group.visititems(add)
    return found


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return stage, by its present name → fields."""
    with h5py.File(path, "r") as file:
        return {
            FORMER_STAGE_NAMES.get(name, name): read_fields(group["record"])
            for name, group in file.items()
        }


def compare_records(
    run: str, stage: str, before: dict[str, Any], after: dict[str, Any]
) -> Deviation:
    """Compare two records field by field."""
    gone = sorted(before.keys() - after.keys())
    n_numbers = n_different = 0
    largest, where = 0.0, ""
    for name in sorted(before.keys() & after.keys()):
        old, new = np.asarray(before[name]), np.asarray(after[name])
        if old.shape != new.shape or old.dtype.kind != new.dtype.kind:
            gone.append(f"{name} (other shape or kind)")
        elif old.dtype.kind not in "biufc":
            if not np.array_equal(old, new):
                gone.append(f"{name} (other text)")
        elif old.size:
            equal = (old == new) | (np.isnan(old) & np.isnan(new))
            n_numbers += old.size
            n_different += int(np.count_nonzero(~equal))
            if not np.all(equal):
                scale = float(np.nanmax(np.abs(old))) or 1.0
                difference = float(np.max(np.abs(np.where(equal, 0.0, old - new)))) / scale
                if not difference <= largest:
                    largest, where = difference, name
    new_fields = tuple(sorted(after.keys() - before.keys()))
    return Deviation(run, stage, n_numbers, n_different, largest, where, tuple(gone), new_fields)


def compare_folders(before: Path, after: Path) -> Iterator[Deviation]:
    """Compare all runs below two folders."""
    for path in sorted(before.rglob("results.h5")):
        run = path.parent.relative_to(before).as_posix()
        records = read_records(path)
        other = after / path.relative_to(before)
        others = read_records(other) if other.exists() else {}
        for stage, fields in sorted(records.items()):
            if stage in others:
                yield compare_records(run, stage, fields, others[stage])
            else:
                yield Deviation(run, stage, 0, 0, 0.0, "", ("the whole record",), ())


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative; 0: every digit")
    arguments = parser.parse_args()
    failed = n_numbers = n_different = 0
    print("| run | record | numbers | different | largest relative | where, and what else |")
    print("|---|---|---|---|---|---|")
    for found in compare_folders(arguments.before, arguments.after):
        failed += bool(found.gone) or not found.largest <= arguments.tolerance
        n_numbers, n_different = n_numbers + found.n_numbers, n_different + found.n_different
        notes = [found.field] if found.field else []
        notes += [f"gone: {', '.join(found.gone)}"] if found.gone else []
        notes += [f"new: {', '.join(found.new)}"] if found.new else []
        print(
            f"| {found.run} | {found.stage} | {found.n_numbers} | {found.n_different} | "
            f"{found.largest:.0e} | {'; '.join(notes)} |"
        )
    print(f"\n{n_numbers} numbers, {n_different} different; {failed} records not as before")
    sys.exit(1 if failed or not n_numbers else 0)


if __name__ == "__main__":
    main()
