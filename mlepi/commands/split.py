"""Divide labelled structures into train, val and test: ``mlepi split DATA``.

The split is a file: every training, evaluation and model card names it, and none makes another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mlepi.errors import DataError, message

SUBSETS = ("train", "val", "test")
HDF5 = {".h5", ".hdf5"}


def main(arguments: Sequence[str]) -> int:
    """Write the split that the command line asks for, and say how it is used.

    Raises:
        DataError: the data cannot be read, are too few, or the file exists already.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi split", description="Divide labelled structures into train, val and test."
    )
    parser.add_argument("data", type=Path, help="Hamiltonians (HDF5) or forces (extxyz, VASP)")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=(0.8, 0.1, 0.1),
        metavar=("TRAIN", "VAL", "TEST"),
        help="sum 1; %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument(
        "--by-kind",
        action="store_true",
        help="every kind in these fractions; a kind is what a name has before its first '_'",
    )
    parser.add_argument("--output", type=Path, help="file; DATA with the ending .split.json")
    given = parser.parse_args(arguments)
    output = given.output or given.data.with_suffix(".split.json")
    if output.exists():
        fix = "Remove it, or choose another --output: models trained with it would be tested anew."
        raise DataError(message("mlepi split", f"{output}, which exists", "a new file", fix))
    fractions = dict(zip(SUBSETS, given.fractions, strict=True))
    split = write_new_split(given.data, output, fractions, given.seed, given.by_kind)
    print(", ".join(f"{subset} {len(members)}" for subset, members in split.items()))
    print(f"mlepi train data.path={given.data} data.split={output} model=…")
    return 0


def write_new_split(
    data: Path, output: Path, fractions: dict[str, float], seed: int, by_kind: bool = False
) -> dict[str, list[str]]:
    """Divide the structures of a data set and write the split.

    Args:
        data: Hamiltonians or forces.
        output: file to write.
        fractions: subset → fraction, with sum 1.
        seed: decides with the names who goes where, and nothing else does.
        by_kind: divide every kind by itself: structures whose names begin alike, up to "_".

    Returns:
        Subset → names.
    """
    from mlepi.structures.splits import make_split, write_split

    names = list_names(data)
    strata = {name: name.split("_")[0] for name in names} if by_kind else None
    split = make_split(names, fractions, seed, strata)
    provenance = {
        "data": data.name,
        "seed": seed,
        "fractions": fractions,
        "strata": "first word of the name" if by_kind else None,
    }
    write_split(output, split, provenance)
    return split


def list_names(data: Path) -> list[str]:
    """Return the names of the structures of a data set of either kind."""
    if data.suffix in HDF5:
        from mlepi.structures.dataset import HamiltonianDataset

        return list(HamiltonianDataset(data).names)
    from mlepi.structures.ase_files import read_forces_dataset

    return [structure.name for structure in read_forces_dataset(data)]
