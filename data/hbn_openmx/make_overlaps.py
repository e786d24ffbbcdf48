"""Make the shipped overlap table of B7.0-s2p2 and N6.0-s2p2 from OpenMX's orbitals.

``python data/hbn_openmx/make_overlaps.py PATH/B7.0.pao PATH/N6.0.pao``.

The table holds two-centre integrals on a grid of distances, not the orbitals, which belong to
OpenMX's DFT_DATA19 and are not shipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlepi.physics.overlaps import tabulate_files

OUTPUT = Path(__file__).parent / "overlap_B7.0-s2p2_N6.0-s2p2.h5"

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    files = [Path(text) for text in sys.argv[1:]]
    tabulate_files(files, ["s2p2"] * 2, OUTPUT, "data/hbn_openmx/make_overlaps.py")
