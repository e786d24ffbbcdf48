"""Rebuild this data set from a folder of OpenMX labels: ``python data/blg_openmx/make.py FOLDER``.

FOLDER holds one ``.npz`` per structure with the keys that the data card (README.md) lists.
Everything in it is used, in the order of the names, and both splits are made anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlepi.errors import DataError, MlepiError, message
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.ragged import restore_both_directions
from mlepi.structures.splits import make_split, write_split
from mlepi.structures.validation import check_spectrum, check_two_centre_overlap
from mlepi.units import BOHR

HERE = Path(__file__).parent
BASIS = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 6.0 * BOHR}, names={6: "C6.0-s2p2"})
SEED = 2602
SPLITS = {
    "hamiltonian_622": {"train": 0.6, "val": 0.2, "test": 0.2},
    "forces_81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
}
PROVENANCE: dict[str, Any] = {
    "title": "bilayer graphene, random and sliding configurations",
    "code": "OpenMX 4.0",
    "functional": "PBE + Grimme D2",
    "pseudopotentials": {"C": "C_PBE19"},
    "basis": {"C": "C6.0-s2p2"},
    "settings": {
        "grid cutoff (Ry)": 200,
        "electronic temperature (K)": 300,
        "SCF criterion (Hartree)": 1e-8,
        "k-mesh": {"random3": [6, 6, 1], "slide": [18, 18, 1]},
        "spin": "none",
    },
    "orbital order": "e3nn (m = -l…l), permuted from OpenMX",
}


def read_labels(path: Path) -> LabelledStructure:
    """Read one ``.npz`` of labels; blocks become internal order with both directions."""
    labels = np.load(path, allow_pickle=False)
    if not bool(labels["converged"]):
        raise DataError(
            message(
                str(path),
                "a calculation that has not converged",
                "a converged one",
                "Remove the file.",
            )
        )
    order = BASIS.permutation(6, "openmx")
    blocks = [labels[key][:, order][:, :, order].astype(np.float64) for key in ("H", "S")]
    edges, shifts, blocks = restore_both_directions(
        np.stack([labels["j"], labels["i"]]), labels["R"], *blocks
    )
    atoms = Atoms(
        numbers=labels["numbers"], positions=labels["positions"], cell=labels["cell"], pbc=True
    )
    atoms.set_array("layer", labels["layer"].astype(np.int64))
    structure = LabelledStructure(
        name=path.stem,
        atoms=atoms,
        basis=BASIS,
        edge_index=edges,
        edge_cell_shift=shifts,
        hamiltonian_blocks=blocks[0],
        overlap_blocks=blocks[1],
        fermi_energy=float(labels["fermi"]),
        energy=float(labels["energy"]),
        forces=labels["forces"].astype(np.float64),
        provenance={
            "kind": path.stem.split("_")[0],
            "energy_d2": float(labels["energy_d2"]),
            "kgrid": labels["kgrid"].tolist(),
            "job": json.loads(str(labels["job"])),
        },
    )
    check_two_centre_overlap(structure)
    check_spectrum(structure)
    return structure


def main(folder: Path) -> None:
    """Write hamiltonians.h5, forces.extxyz and the splits next to this file."""
    structures = [read_labels(path) for path in sorted(folder.glob("*.npz"))]
    if not structures:
        raise DataError(
            message(str(folder), "no .npz files", "the folder of labels", "Check the path.")
        )
    kinds = {structure.name: str(structure.provenance["kind"]) for structure in structures}
    counts = {kind: list(kinds.values()).count(kind) for kind in sorted(set(kinds.values()))}
    write_hamiltonian_dataset(
        HERE / "hamiltonians.h5", structures, {**PROVENANCE, "counts": counts}
    )
    write_extxyz(HERE / "forces.extxyz", structures)
    (HERE / "splits").mkdir(exist_ok=True)
    for name, fractions in SPLITS.items():
        split = make_split(kinds, fractions, SEED, strata=kinds)
        provenance = {
            "data": "blg_openmx",
            "seed": SEED,
            "fractions": fractions,
            "strata": "kind (random3, slide)",
        }
        write_split(HERE / "splits" / f"{name}.json", split, provenance)
    HamiltonianDataset(HERE / "hamiltonians.h5").verify()
    print(f"{len(structures)} structures {counts} written to {HERE}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python data/blg_openmx/make.py FOLDER")
    try:
        main(Path(sys.argv[1]))
    except MlepiError as error:
        sys.exit(str(error))
