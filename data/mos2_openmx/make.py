"""Rebuild this data set from OpenMX's labels: ``python data/mos2_openmx/make.py FOLDER …``.

Each FOLDER holds one ``.npz`` per structure with the keys that ``openmx_labels`` lists. Everything
in them is used, in the order of the names, and the split is made anew.
"""

from __future__ import annotations

from pathlib import Path

from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.openmx_sets import OpenmxSet
from mlepi.units import BOHR

MOLYBDENUM_DISULPHIDE = OpenmxSet(
    folder=Path(__file__).parent,
    basis=OrbitalBasis(
        shells={16: (0, 0, 1, 1, 2), 42: (0, 0, 0, 1, 1, 2, 2)},
        radii={16: 7.0 * BOHR, 42: 7.0 * BOHR},
        names={16: "S7.0-s2p2d1", 42: "Mo7.0-s3p2d2"},
        valence_electrons={16: 6.0, 42: 14.0},
    ),
    title="molybdenum disulphide, one and two layers: displaced and sliding configurations",
    pseudopotentials={"S": "S_PBE19", "Mo": "Mo_PBE19"},
    k_mesh={"mos2m1": (9, 9, 1), "mos2b1": (9, 9, 1), "mos2b2": (4, 4, 1), "mos2m3": (3, 3, 1)},
    overlap_table="overlap_Mo7.0-s3p2d2_S7.0-s2p2d1.h5",
    # 9 to train on, 1 to validate, 2 to test: one of either number of layers
    splits={"displaced_9_1_2": {"train": 0.75, "val": 0.08, "test": 0.17}},
    seed=2602,
    ideal=("mos2b1", "mos2m1"),
)

if __name__ == "__main__":
    MOLYBDENUM_DISULPHIDE.run()
