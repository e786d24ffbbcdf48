"""Write the times that the DFT labels took: ``python benchmarks/label_seconds.py FOLDER``.

FOLDER holds the ``.npz`` files that ``data/blg_openmx/make.py`` reads; their "seconds" are those of
a whole self-consistent calculation with forces on one 2.5 GHz core of a busy machine. The result,
``label_seconds.json``, is part of the benchmarks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from speed_results import write_atomically

from mlepi.errors import DataError, MlepiError, message

OUTPUT = Path(__file__).parent / "label_seconds.json"


def collect_seconds(folder: Path) -> dict[str, Any]:
    """Read what every labelled structure cost.

    Name, number of atoms, k-mesh, self-consistency steps and seconds of each.

    Raises:
        DataError: the folder holds no labels.
    """
    structures = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            structures.append(
                {
                    "name": path.stem,
                    "n_atoms": len(arrays["numbers"]),
                    "kgrid": arrays["kgrid"].tolist(),
                    "scf_steps": int(arrays["scf_steps"]),
                    "seconds": round(float(arrays["seconds"]), 2),
                }
            )
    if not structures:
        raise DataError(
            message(
                str(folder),
                "no .npz files",
                "the labels of the data set",
                "Give the folder of the labels.",
            )
        )
    return {
        "code": "OpenMX 4.0, s2p2",
        "made by": "benchmarks/label_seconds.py",
        "machine": "one 2.5 GHz core of a busy machine",
        "structures": structures,
    }


def format_lines(found: dict[str, Any]) -> str:
    """Return JSON with one structure per line."""
    head = json.dumps(
        {key: value for key, value in found.items() if key != "structures"}, indent=1
    ).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(entry) for entry in found["structures"])
    return f'{head},\n "structures": [\n  {lines}\n ]\n}}\n'


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description="Collect the times of the DFT labels.")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    try:
        found = collect_seconds(chosen.folder)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    write_atomically(OUTPUT, format_lines(found))
    print(f"{len(found['structures'])} structures → {OUTPUT.name}")


if __name__ == "__main__":
    main()
