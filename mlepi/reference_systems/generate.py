"""Data sets of the reference systems in the formats that the trainings read.

    python -m mlepi.reference_systems.generate FOLDER --stacking monolayer --orbitals s

The folder gets ``hamiltonians.h5``, ``forces.extxyz``, ``overlap.h5`` (radial functions for
checkpoints) and ``split.json``. Structures are supercells with thermal displacements of the
springs' own harmonic distribution, each at a temperature between 0 and the highest, with
independent noise of every atom and a random strain on top. Structure i depends on the seed and on i
alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlepi.errors import ConfigError, message
from mlepi.physics.overlaps import write_overlap_table
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.reference_systems.tight_binding import TightBinding
from mlepi.structures import (
    LabelledStructure,
    build_graphene,
    make_split,
    perturb_structure,
    write_extxyz,
    write_hamiltonian_dataset,
    write_split,
)

HAMILTONIANS = "hamiltonians.h5"
FORCES = "forces.extxyz"
OVERLAP = "overlap.h5"
SPLIT = "split.json"
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass(frozen=True)
class DataSettings:
    """What decides a data set.

    Attributes:
        stacking: of the layers, as in ``build_graphene``.
        supercell: primitive cells along each lattice vector.
        n_structures: number of structures, at least ten.
        max_temperature: K; temperatures of the structures are uniform between 0 and this.
        noise: Å, standard deviation of the independent displacements of every coordinate.
        strain: largest ε_xx, ε_yy and ε_xy.
        seed: of everything random.
        orbitals: "s" or "sp".
        orthogonal: no overlap between atoms.
    """

    stacking: str = "monolayer"
    supercell: tuple[int, int, int] = (3, 3, 1)
    n_structures: int = 60
    max_temperature: float = 600.0
    noise: float = 0.02
    strain: float = 0.01
    seed: int = 0
    orbitals: str = "s"
    orthogonal: bool = False


def generate(folder: str | Path, settings: DataSettings) -> list[LabelledStructure]:
    """Write a data set and return its structures.

    Args:
        folder: made if need be; files of an earlier data set are replaced.
        settings: of the structures and their labels.

    Raises:
        ConfigError: too few structures for three subsets.
    """
    if settings.n_structures < 10:
        raise ConfigError(
            message(
                "n_structures",
                f"{settings.n_structures}",
                "at least 10, for three subsets",
                "Ask for more.",
            )
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = TightBinding(orbitals=settings.orbitals, orthogonal=settings.orthogonal)
    structures = [
        label_structure(f"toy_{number:05d}", atoms, model, HoneycombSprings())
        for number, atoms in enumerate(displace_structures(settings))
    ]
    provenance = {
        "reference_system": "tight binding and springs of graphene layers",
        **asdict(settings),
    }
    write_hamiltonian_dataset(folder / HAMILTONIANS, structures, provenance)
    write_extxyz(folder / FORCES, structures)
    write_overlap_table(folder / OVERLAP, model.overlap_table(), provenance)
    split = make_split([structure.name for structure in structures], FRACTIONS, settings.seed)
    write_split(folder / SPLIT, split, {"seed": settings.seed, "fractions": FRACTIONS})
    return structures


def displace_structures(settings: DataSettings) -> list[Atoms]:
    """Build the displaced supercells of a data set."""
    primitive = build_graphene(settings.stacking)
    modes = compute_modes(
        compute_force_constants(primitive, HoneycombSprings(), settings.supercell)
    )
    structures = []
    for number in range(settings.n_structures):
        rng = np.random.default_rng([settings.seed, number])
        ensemble = HarmonicEnsemble(modes, (settings.max_temperature * rng.uniform(),))
        normals = rng.standard_normal((1, modes.n_supercell, 3))
        atoms = primitive.repeat(settings.supercell)
        atoms.positions += ensemble.displacements(normals)[0, 0]
        structures.append(
            perturb_structure(atoms, rng, settings.noise, settings.noise, strain=settings.strain)
        )
    return structures


def label_structure(
    name: str, atoms: Atoms, model: TightBinding, springs: HoneycombSprings
) -> LabelledStructure:
    """Compute energy, forces, Hamiltonian and overlap of a structure."""
    hamiltonian, overlap = model.hamiltonian(atoms), model.overlap(atoms)
    energy = springs.get_potential_energy(atoms)
    return LabelledStructure(
        name=name,
        atoms=atoms,
        basis=model.basis,
        edge_index=hamiltonian.edge_index,
        edge_cell_shift=hamiltonian.edge_cell_shift,
        hamiltonian_blocks=hamiltonian.blocks,
        overlap_blocks=overlap.blocks,
        energy=float(energy),
        forces=np.array(springs.get_forces(atoms)),
        provenance={"code": "mlepi.reference_systems"},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a data set from the command line."""
    default = DataSettings()
    parser = argparse.ArgumentParser(
        prog="python -m mlepi.reference_systems.generate", description=__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stacking", default=default.stacking, help="monolayer, AB, …")
    parser.add_argument("--supercell", type=int, nargs=3, default=default.supercell)
    parser.add_argument("--structures", type=int, default=default.n_structures, dest="n_structures")
    parser.add_argument("--max-temperature", type=float, default=default.max_temperature, help="K")
    parser.add_argument("--noise", type=float, default=default.noise, help="Å, of every coordinate")
    parser.add_argument("--strain", type=float, default=default.strain)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--orbitals", choices=("s", "sp"), default=default.orbitals)
    parser.add_argument("--orthogonal", action="store_true", help="without overlaps between atoms")
    given = vars(parser.parse_args(arguments))
    folder = given.pop("folder")
    given["supercell"] = tuple(given["supercell"])
    structures = generate(folder, DataSettings(**given))
    print(f"{len(structures)} structures of {len(structures[0].atoms)} atoms in {folder}")


if __name__ == "__main__":
    main()
