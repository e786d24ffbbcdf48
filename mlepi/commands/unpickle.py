"""HamGNN's graphs to files that ``mlepi convert`` reads: ``mlepi unpickle graph_data.npz FOLDER``.

A pickle can run any code when it is opened. It is read in a process of its own, with limits of
memory and time, by a reader that knows nothing but numbers and ends at any other name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Write one file of plain arrays per structure.

    Raises:
        DataError: the file is no graph of HamGNN, or asks for more than numbers.
    """
    from mlepi.structures.hamgnn import unpickle_graphs

    parser = argparse.ArgumentParser(
        prog="mlepi unpickle",
        description="Take the arrays out of HamGNN's graph_data.npz without running any of it.",
    )
    parser.add_argument("file", type=Path, help="graph_data.npz of HamGNN, from OpenMX")
    parser.add_argument("folder", type=Path, help="new folder for one file per structure")
    given = parser.parse_args(arguments)
    files = unpickle_graphs(given.file, given.folder)
    print(f"{given.folder}: {len(files)} structures; mlepi convert {given.folder} --out FILE.h5")
    return 0
