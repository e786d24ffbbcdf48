"""Rebuild this data set from folders of OpenMX labels: ``python data/hbn_openmx/make.py FOLDER …``.

Each FOLDER holds one ``.npz`` per structure with the keys that ``openmx_labels`` lists. Everything
in them is used, in the order of the names, and all splits are made anew.
"""

from __future__ import annotations

from pathlib import Path

from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.openmx_sets import OpenmxSet
from mlepi.units import BOHR

BORON_NITRIDE = OpenmxSet(
    folder=Path(__file__).parent,
    basis=OrbitalBasis(
        shells={5: (0, 0, 1, 1), 7: (0, 0, 1, 1)},
        radii={5: 7.0 * BOHR, 7: 6.0 * BOHR},
        names={5: "B7.0-s2p2", 7: "N6.0-s2p2"},
    ),
    title="bilayer hexagonal boron nitride: displaced and sliding configurations",
    pseudopotentials={"B": "B_PBE19", "N": "N_PBE19"},
    k_mesh={"hbn1": (9, 9, 1), "hbn3": (3, 3, 1)},
    overlap_table="overlap_B7.0-s2p2_N6.0-s2p2.h5",
    # the ratios of the paper, for Hamiltonians and for forces; and for Hamiltonians of a network
    # that is shipped, which learns from as many as the forces do
    splits={
        "hamiltonian_622": {"train": 0.6, "val": 0.2, "test": 0.2},
        "forces_81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
        "hamiltonian_81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
    },
    seed=2602,
    ideal=("hbn1",),
)

if __name__ == "__main__":
    BORON_NITRIDE.run()
