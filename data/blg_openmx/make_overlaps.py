"""Make the shipped overlap table of C6.0-s2p2 from OpenMX's orbitals.

``python data/blg_openmx/make_overlaps.py PATH/C6.0.pao``.

The table holds two-centre integrals on a grid of distances, not the orbitals, which belong to
OpenMX's DFT_DATA19 and are not shipped.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from mlepi.physics.overlaps import read_pao, tabulate_overlaps, write_overlap_table

SELECTION = "s2p2"
OUTPUT = Path(__file__).parent / "overlap_C6.0-s2p2.h5"


def main(path: Path) -> None:
    """Tabulate the overlaps and write them beside this script."""
    orbitals = read_pao(path, SELECTION)
    provenance = {
        "command": f"python data/blg_openmx/make_overlaps.py {path.name}",
        "orbitals": orbitals.name,
        "orbitals_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "method": "mlepi.physics.overlaps.tabulate_overlaps, default settings",
    }
    write_overlap_table(OUTPUT, tabulate_overlaps([orbitals]), provenance)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
