"""Files of other programs to a data set: ``mlepi convert SRC … --out FILE.h5``.

Folders are searched to their ends, and every file is recognised by itself. An interrupted
conversion goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.errors import DataError, message

if TYPE_CHECKING:
    from mlepi.structures.conversion import Outcome


def main(arguments: Sequence[str]) -> int:
    """Convert what the command line names; say what was refused and what is unusual.

    Returns:
        0, also where some sources of many were refused.

    Raises:
        DataError: nothing could be converted, or the output exists.
    """
    from mlepi.structures.conversion import convert
    from mlepi.structures.sources import list_formats

    parser = argparse.ArgumentParser(
        prog="mlepi convert",
        description="Write Hamiltonians (.h5) or energies and forces (.extxyz) of other programs.",
    )
    parser.add_argument("sources", nargs="+", metavar="SRC", help="files and folders of them")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".h5 or .extxyz")
    parser.add_argument(
        "--format", choices=list_formats(), help="of all sources; without, each is recognised"
    )
    parser.add_argument(
        "--radius",
        action="append",
        default=[],
        metavar="C=3.175",
        help="orbital radius, Å, for formats that do not hold it",
    )
    parser.add_argument(
        "--electrons",
        action="append",
        default=[],
        metavar="Mo=14",
        help="of the pseudopotential; without, counted below the Fermi energy",
    )
    parser.add_argument("--note", default="", help="functional, basis, code version, licence")
    parser.add_argument(
        "--workers", type=int, default=_count_processors(), help="processes; %(default)s"
    )
    given = parser.parse_args(arguments)
    outcomes = convert(
        given.sources,
        given.out,
        source_format=given.format,
        radii=read_radii(given.radius, given.format),
        electrons=read_values("--electrons", given.electrons, "a number of electrons"),
        note=given.note,
        n_workers=max(1, given.workers),
        progress=_tell_progress if len(given.sources) > 1 else None,
    )
    print("\n".join(_summarise(given.out, outcomes)))
    return 0


def read_radii(words: Sequence[str], source_format: str | None) -> dict[str, float] | None:
    """Read "C=3.175" into a mapping; None when nothing is given.

    Raises:
        DataError: a word is no element with a radius, or the format holds its radii.
    """
    from mlepi.structures.sources import FORMATS

    if words and source_format in FORMATS and not FORMATS[source_format].infers_radii:
        got, expected = f"{list(words)}", f"none with --format {source_format}"
        raise DataError(message("--radius", got, expected, "Its files name their radii."))
    return read_values("--radius", words, "a radius in Å") or None


def read_values(option: str, words: Sequence[str], what: str) -> dict[str, float]:
    """Read "C=3.175" into a mapping.

    Args:
        option: that has the words.
        words: of the command line.
        what: a value is, for the message.

    Raises:
        DataError: a word is no element with a positive number.
    """
    from ase.data import chemical_symbols

    values: dict[str, float] = {}
    for word in words:
        symbol, _, value = word.partition("=")
        try:
            values[symbol] = float(value)
        except ValueError:
            values[symbol] = 0.0
        if symbol not in chemical_symbols[1:] or not 0.0 < values[symbol] < 100.0:
            expected = f"an element and {what} such as {EXAMPLES[option]}"
            fix = "Write it as SYMBOL=VALUE, without spaces."
            raise DataError(message(option, repr(word), expected, fix))
    return values


EXAMPLES = {"--radius": "C=3.175", "--electrons": "Mo=14"}
"""Option → a word that it takes."""


def _count_processors() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def _tell_progress(outcome: Outcome) -> None:
    print(f"{'refused' if outcome.refusal else 'read':<8} {outcome.source.where}", flush=True)


def _summarise(out: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table of what was refused, what is unusual, and what was written."""
    from mlepi.structures.remarks import describe_remark, merge_remarks

    refused = [outcome for outcome in outcomes if outcome.refusal]
    lines: list[str] = []
    if refused:
        table = out.with_name(f"{out.stem}.refused.tsv")
        rows = [f"{outcome.source.where}\t{outcome.refusal}" for outcome in refused]
        table.write_text("\n".join(["source\treason", *rows, ""]), encoding="utf-8")
        lines += [f"refused, {len(refused)} of {len(outcomes)} ({table}):"]
        lines += [f"  {outcome.refusal}" for outcome in refused]
    counts: dict[str, int] = {}
    for outcome in outcomes:
        for kind in outcome.remarks or {}:
            counts[kind] = counts.get(kind, 0) + 1
    for kind, amount in merge_remarks(outcome.remarks or {} for outcome in outcomes).items():
        lines += [f"unusual: {describe_remark(f'{counts[kind]} sources', kind, amount)}"]
    n_structures = sum(outcome.n_structures for outcome in outcomes)
    return [*lines, *_describe_electrons(out), f"{out}: {n_structures} structures"]


def _describe_electrons(out: Path) -> list[str]:
    """Return a line on the valence electrons that a data set of Hamiltonians carries."""
    from mlepi.structures.conversion import HAMILTONIANS
    from mlepi.structures.dataset import HamiltonianDataset
    from mlepi.structures.valence import suggest_electrons

    if out.suffix not in HAMILTONIANS:
        return []
    basis = HamiltonianDataset(out).basis
    missing = [z for z in basis.elements if z not in basis.valence_electrons]
    if not missing:
        found = suggest_electrons(basis.elements, basis.valence_electrons)
        return [f"valence electrons: {found}, given or counted below the Fermi energy"]
    options = suggest_electrons(missing)[1:-1].replace(": ", "=").split(", ")
    return [
        "valence electrons: not known from the files; bands will ask for them. Name those of your "
        f"pseudopotentials here, such as {' '.join(f'--electrons {word}' for word in options)}"
    ]
