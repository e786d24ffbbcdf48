"""Divide labelled structures into train, val and test: ``mlepi split DATA``.

The split is a file that trainings, evaluations and model cards name. Without options it is the one
that a training with ``data.split=null`` makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.errors import DataError, message

if TYPE_CHECKING:
    from mlepi.structures import LabelledStructure

HDF5 = {".h5", ".hdf5"}


def main(arguments: Sequence[str]) -> int:
    """Write the split that the command line asks for, and say how it is used.

    Raises:
        DataError: the data cannot be read, are too few, or the file exists already.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi split",
        description="Divide labelled structures into train, val and test, every kind, composition "
        "and number of layers in the same fractions.",
    )
    parser.add_argument("data", type=Path, help="Hamiltonians (HDF5) or forces (extxyz, VASP)")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="sum 1; 0.8 0.1 0.1, or of few structures one each for val and test",
    )
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument(
        "--by-name",
        action="store_true",
        help="where labels name no kind, it is what a name has before its first '_'",
    )
    parser.add_argument("--output", type=Path, help="file; DATA with the ending .split.json")
    given = parser.parse_args(arguments)
    output = given.output or given.data.with_suffix(".split.json")
    if output.exists():
        fix = "Remove it, or choose another --output: models trained with it would be tested anew."
        raise DataError(message("mlepi split", f"{output}, which exists", "a new file", fix))
    split, strata = write_new_split(given.data, output, given.fractions, given.seed, given.by_name)
    print(", ".join(f"{subset} {len(members)}" for subset, members in split.items()))
    for stratum, counts in strata.items() if len(strata) > 1 else ():
        print(f"  {stratum}: {', '.join(f'{subset} {n}' for subset, n in counts.items())}")
    print(f"mlepi train data.path={given.data} data.split={output} model=…")
    return 0


def write_new_split(
    data: Path, output: Path, fractions: Sequence[float] | None, seed: int, by_name: bool = False
) -> tuple[dict[str, list[str]], dict[str, dict[str, int]]]:
    """Divide the structures of a data set and write the split.

    Args:
        data: Hamiltonians or forces.
        output: file to write.
        fractions: of train, val and test, with sum 1; None as in ``split_structures``.
        seed: decides with the names who goes where, and nothing else does.
        by_name: see ``find_stratum``.

    Returns:
        Subset → names, and stratum → subset → how many.
    """
    from mlepi.structures.automatic_splits import split_structures
    from mlepi.structures.splits import write_split

    split, provenance = split_structures(read_outlines(data), fractions, seed, by_name)
    write_split(output, split, {"data_set": data.name, **provenance})
    return split, provenance["strata"]


def read_outlines(data: Path) -> Iterable[LabelledStructure]:
    """Read the structures of a data set of either kind, without blocks of the Hamiltonian."""
    if data.suffix in HDF5:
        from mlepi.structures.dataset import HamiltonianDataset

        dataset = HamiltonianDataset(data)
        return [dataset.outline(name) for name in dataset.names]
    from mlepi.structures.ase_files import read_forces_dataset

    return read_forces_dataset(data)
