"""Make the shipped overlap table of Mo7.0-s3p2d2 and S7.0-s2p2d1 from OpenMX's orbitals.

``python data/mos2_openmx/make_overlaps.py PATH/Mo7.0.pao PATH/S7.0.pao``.

The table holds two-centre integrals on a grid of distances, not the orbitals, which belong to
OpenMX's DFT_DATA19 and are not shipped. 129 distances leave overlaps within 1e-7 of those of 1025.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlepi.physics.overlaps import tabulate_files

OUTPUT = Path(__file__).parent / "overlap_Mo7.0-s3p2d2_S7.0-s2p2d1.h5"

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    files = [Path(text) for text in sys.argv[1:]]
    script = "data/mos2_openmx/make_overlaps.py"
    tabulate_files(files, ["s3p2d2", "s2p2d1"], OUTPUT, script, n_grid=129)
