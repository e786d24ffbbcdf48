"""Rebuild this data set from folders of OpenMX labels: ``python data/blg_openmx/make.py FOLDER …``.

Each FOLDER holds one ``.npz`` per structure with the keys that the data card (README.md) lists.
Everything in them is used, in the order of the names, and all splits are made anew; those of the
first 45 structures stay what they were. Energies and forces are corrected for the coarseness of
their k-meshes by ``mesh_correction.npz`` (``make_mesh_correction.py``), energies also for the
real-space grid of their cell (``grid_energy.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from grid_energy import GridLaw, fit_law
from numpy.typing import NDArray

from mlepi.errors import DataError, MlepiError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx_labels import list_label_files, read_label_file, write_data_set
from mlepi.structures.splits import NamedSubsets, make_split, write_split
from mlepi.units import BOHR

HERE = Path(__file__).parent
BASIS = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 6.0 * BOHR}, names={6: "C6.0-s2p2"})
CORRECTION = HERE / "mesh_correction.npz"
QUANTUM = 5e-5
"""eV, of which all elements of H are multiples: 0.014 meV RMS, within what two versions differ."""

SEED = 2602
FRACTIONS = {
    "622": {"train": 0.6, "val": 0.2, "test": 0.2},
    "81_09_10": {"train": 0.81, "val": 0.09, "test": 0.10},
}
"""The ratios of the paper, for Hamiltonians and for forces."""

FIRST = ("random3", "slide")
"""Kinds of the first version of this set, whose splits have to stay."""

TRAINED = (*FIRST, "thermal3", "shape")
"""Kinds that are divided; all others are test subsets of their own."""

TOGETHER = {"ideal3": "pair3"}
"""Kind → the test subset that it belongs to, where that has another name."""

PROVENANCE: dict[str, Any] = {
    "title": "bilayer graphene: random, sliding, thermal and twisted configurations in many cells",
    "code": "OpenMX 4.0 (random3, slide) and 3.9 (all others)",
    "functional": "PBE + Grimme D2",
    "pseudopotentials": {"C": "C_PBE19"},
    "basis": {"C": "C6.0-s2p2"},
    "settings": {
        "grid cutoff (Ry)": 200,
        "electronic temperature (K)": 300,
        "SCF criterion (Hartree)": 1e-8,
        "k-mesh": "18·2.46 Å/|A| along each lattice vector A in the plane",
        "correction to three times the k-mesh": "energies and forces, mesh_correction.npz",
        "correction to one real-space grid": "energies, grid_energy.py",
        "spin": "none",
    },
    "orbital order": "e3nn (m = -l…l), permuted from OpenMX",
    "overlaps": "not stored: those of overlap_C6.0-s2p2.h5, to 5e-6",
}


@dataclass(frozen=True)
class Correction:
    """What a denser k-mesh changes in one structure.

    Attributes:
        positions: (n_atoms, 3) of the structure it was computed for, Å.
        energy: E(dense) − E(label), eV.
        forces: (n_atoms, 3) F(dense) − F(label), eV/Å.
    """

    positions: NDArray[np.float64]
    energy: float
    forces: NDArray[np.float64]


def read_corrections() -> dict[str, Correction]:
    """Read the corrections next to this file, by the names of their structures."""
    with np.load(CORRECTION) as archive:
        ends = np.cumsum(archive["n_atoms"])[:-1]
        parts = [np.split(archive[key], ends) for key in ("positions", "forces")]
        return {
            str(name): Correction(positions, float(energy), forces)
            for name, energy, positions, forces in zip(
                archive["names"], archive["energies"], *parts, strict=True
            )
        }


def write_corrections(corrections: Mapping[str, Correction]) -> None:
    """Write corrections next to this file, in the order of their names; forces to 1e-7 eV/Å."""
    ordered = dict(sorted(corrections.items()))
    draft = CORRECTION.with_suffix(".draft.npz")
    np.savez_compressed(
        draft,
        names=np.array(list(ordered)),
        n_atoms=np.array([len(one.forces) for one in ordered.values()]),
        energies=np.array([one.energy for one in ordered.values()]),
        positions=np.concatenate([one.positions for one in ordered.values()]).astype(np.float32),
        forces=np.concatenate([one.forces for one in ordered.values()]).round(7),
    )
    draft.replace(CORRECTION)


def correct_labels(
    structure: LabelledStructure, corrections: Mapping[str, Correction], law: GridLaw
) -> LabelledStructure:
    """Return a structure with the energy and forces of a denser k-mesh and of one grid for all.

    Args:
        structure: labels as the code gave them.
        corrections: of the k-mesh, by name.
        law: of the energies on a grid.

    Raises:
        DataError: the structure has no correction, or that of other positions.
    """
    found = corrections.get(structure.name)
    fits = found is not None and (
        found.positions.shape == structure.atoms.positions.shape
        and np.allclose(found.positions, structure.atoms.positions, rtol=0, atol=1e-5)
    )
    if found is None or not fits or structure.energy is None or structure.forces is None:
        raise DataError(
            message(
                f"structure {structure.name!r}",
                "no correction of its k-mesh" if found is None else "that of other positions",
                f"one in {CORRECTION.name}",
                "Run make_mesh_correction.py on the same folders first.",
            )
        )
    grid = round(-1e-3 * len(found.forces) * law.energy(structure.atoms.cell.array), 6) + 0.0
    return replace(
        structure,
        energy=structure.energy + found.energy + grid,
        forces=structure.forces + found.forces,
        provenance={**structure.provenance, "mesh_energy": found.energy, "grid_energy": grid},
    )


def make_splits(kinds: Mapping[str, str]) -> None:
    """Write every split of the set next to this file.

    Args:
        kinds: name of a structure → how it was made.
    """
    (HERE / "splits").mkdir(exist_ok=True)
    provenance = {"data": "blg_openmx", "seed": SEED}
    first = {name: kind for name, kind in kinds.items() if kind in FIRST}
    trained = {name: kind for name, kind in kinds.items() if kind in TRAINED}
    tested: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if kind not in TRAINED:
            tested.setdefault(TOGETHER.get(kind, kind), []).append(name)
    for task, ratio in (("hamiltonian", "622"), ("forces", "81_09_10")):
        split = make_split(first, FRACTIONS[ratio], SEED, strata=first)
        described = {
            **provenance,
            "fractions": FRACTIONS[ratio],
            "strata": f"kind ({', '.join(FIRST)})",
        }
        unused = NamedSubsets(unused=sorted(set(kinds) - set(first)))
        write_split(HERE / "splits" / f"{task}_{ratio}.json", split, described, unused)
    for ratio, fractions in FRACTIONS.items():
        split = make_split(trained, fractions, SEED, strata=trained)
        # shapes last: data.n_train then gives the learning curve over their number
        split["train"].sort(key=lambda name: (TRAINED.index(kinds[name]), name))
        described = {
            **provenance,
            "fractions": fractions,
            "strata": f"kind ({', '.join(TRAINED)})",
        }
        parts = {
            subset: {
                kind: members
                for kind in ("thermal3", "shape")
                if (members := [name for name in split[subset] if kinds[name] == kind])
            }
            for subset in ("val", "test")
        }
        named = NamedSubsets(test={**parts["test"], **tested}, val=parts["val"])
        write_split(HERE / "splits" / f"shapes_{ratio}.json", split, described, named)
        if ratio == "622":
            square = [name for name in split["train"] if kinds[name] != "shape"]
            left = NamedSubsets(named.test, named.val, sorted(set(split["train"]) - set(square)))
            described["left out"] = "every cell of another shape than 1×1 and 3×3 from train"
            write_split(
                HERE / "splits" / "no_shapes_622.json", {**split, "train": square}, described, left
            )


def describe(corrections: Mapping[str, Correction]) -> str:
    """Tell how large the corrections are, kind by kind."""
    kinds: dict[str, list[Correction]] = {}
    for name, one in corrections.items():
        kinds.setdefault(name.split("_")[0], []).append(one)
    lines = ["| kind | energy, meV/atom | forces, RMS, meV/Å |", "|---|---|---|"]
    for kind, members in kinds.items():
        energies = 1e3 * np.array([one.energy / len(one.forces) for one in members])
        forces = 1e3 * np.sqrt(np.mean([np.mean(one.forces**2) for one in members]))
        lines.append(f"| `{kind}` | {energies.min():+.2f} … {energies.max():+.2f} | {forces:.1f} |")
    return "\n".join(lines)


def main(folders: list[Path]) -> None:
    """Write hamiltonians.h5, forces.extxyz and the splits next to this file."""
    corrections, law = read_corrections(), fit_law()
    structures = [
        correct_labels(read_label_file(path, BASIS), corrections, law)
        for path in list_label_files(folders)
    ]
    kinds = write_data_set(HERE, structures, PROVENANCE, QUANTUM)
    make_splits(kinds)
    print(f"What three times the k-mesh changes:\n\n{describe(corrections)}\n")
    grids = [-1e3 * one.provenance["grid_energy"] / len(one.atoms) for one in structures]
    print(f"Energies on a cell's own grid: {min(grids):+.2f} … {max(grids):+.2f} meV/atom")
    print(f"{len(structures)} structures written to {HERE}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python data/blg_openmx/make.py FOLDER [FOLDER …]")
    try:
        main([Path(text) for text in sys.argv[1:]])
    except MlepiError as error:
        sys.exit(str(error))
