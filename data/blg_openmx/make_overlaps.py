"""Make the shipped overlap table of C6.0-s2p2 from OpenMX's orbitals.

``python data/blg_openmx/make_overlaps.py PATH/C6.0.pao``.

The table holds two-centre integrals on a grid of distances, not the orbitals, which belong to
OpenMX's DFT_DATA19 and are not shipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlepi.physics.overlaps import tabulate_files

OUTPUT = Path(__file__).parent / "overlap_C6.0-s2p2.h5"

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tabulate_files([Path(sys.argv[1])], ["s2p2"], OUTPUT, "data/blg_openmx/make_overlaps.py")
