"""Displaced supercells with forces in phonopy's files, read by phonopy itself.

Where they hold no energies these are those of the harmonic crystal, −½ Σ u·F relative to rest,
which is what the forces of small displacements say.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlepi.errors import DataError, message
from mlepi.untrusted import check_size, limit_memory

LARGEST = 2**30
"""Bytes."""

STRUCTURE_FILES = ("phonopy_disp.yaml", "phonopy.yaml", "SPOSCAR")
"""Beside FORCE_SETS: what says which supercell it is of."""


def read_phonopy(path: Path) -> list[Atoms]:
    """Read ``phonopy_params.yaml``, or ``FORCE_SETS`` with one of ``STRUCTURE_FILES`` beside it.

    Returns:
        One displaced supercell per set of forces, with energy (eV) and forces (eV/Å);
        ``info["harmonic_energy"]`` where the energy is that of the harmonic crystal.

    Raises:
        DataError: phonopy refuses the file, or it has no forces or no supercell.
    """
    size = check_size(path, limit=LARGEST)
    try:
        with limit_memory(size):
            cell, dataset, units = _load(path)
        displacements, forces, energies = _collect(path, cell, dataset)
    except DataError:
        raise
    except Exception as error:  # phonopy's parsers raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = "Check that phonopy-load opens it."
        got = f"a file that phonopy refuses ({reason})"
        raise DataError(message(str(path), got, "displacements and forces", fix)) from error
    length, force, energy_unit = units
    frames = []
    for k, (moved, pushed) in enumerate(zip(displacements, forces, strict=True)):
        atoms = cell.copy()
        atoms.positions = (atoms.positions + moved) * length
        atoms.set_cell(cell.cell.array * length, scale_atoms=False)
        pushed = pushed * force
        known = energies is not None
        energy = (
            float(energies[k]) * energy_unit
            if energies is not None
            else -0.5 * float(np.sum(moved * length * pushed))
        )
        if not known:
            atoms.info["harmonic_energy"] = True
        atoms.calc = SinglePointCalculator(atoms, energy=energy, free_energy=energy, forces=pushed)
        frames.append(atoms)
    return frames


def _load(path: Path) -> tuple[Atoms, Any, tuple[float, float, float]]:
    """Return the supercell, the data set of phonopy, and its units in Å, eV/Å and eV."""
    from phonopy.file_IO import parse_FORCE_SETS
    from phonopy.physical_units import get_calculator_physical_units

    if path.suffix in (".yaml", ".yml", ".xz", ".gz"):
        phonon = _load_any_cell(path)
    else:
        beside = next(
            (path.parent / n for n in STRUCTURE_FILES if (path.parent / n).is_file()), None
        )
        if beside is None:
            fix = "Copy it from the folder of the displacements; unpack a compressed FORCE_SETS."
            got = "no supercell beside it"
            raise DataError(message(str(path), got, f"one of {STRUCTURE_FILES}", fix))
        if beside.name == "SPOSCAR":
            atoms = ase.io.read(beside, format="vasp")
            if not isinstance(atoms, Atoms):
                raise ValueError("no structure")
            return atoms, parse_FORCE_SETS(path, natom=len(atoms)), (1.0, 1.0, 1.0)
        phonon = _load_any_cell(beside, force_sets_filename=path)
    cell = phonon.supercell
    atoms = Atoms(cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True)
    units = get_calculator_physical_units(phonon.calculator)
    factors = units.distance_to_A, units.force_to_eVperA, units.energy_to_eV
    return atoms, phonon.dataset, (float(factors[0]), float(factors[1]), float(factors[2]))


def _load_any_cell(path: Path, **files: Path) -> Any:
    """Let phonopy read a file without making anything of its forces.

    The unit cell is the primitive one, unless force constants in the file are of another.
    """
    import phonopy

    settings: dict[str, Any] = {"produce_fc": False, "is_symmetry": False, **files}
    try:
        return phonopy.load(path, primitive_matrix="P", **settings)
    except RuntimeError:
        with warnings.catch_warnings():  # on a primitive cell that nothing here uses
            warnings.simplefilter("ignore")
            return phonopy.load(path, **settings)


def _collect(path: Path, cell: Atoms, dataset: Any) -> tuple[Any, Any, Any]:
    """Return displacements and forces, (n, n_atoms, 3), and energies (n,) or None."""
    if dataset and "displacements" in dataset and "forces" in dataset:
        return dataset["displacements"], dataset["forces"], dataset.get("supercell_energies")
    first = [] if not dataset else dataset.get("first_atoms", [])
    if not first or any("forces" not in entry for entry in first):
        fix = "Give phonopy_params.yaml, or FORCE_SETS with it beside."
        raise DataError(message(str(path), "no forces", "displacements and forces", fix))
    moved = np.zeros((len(first), len(cell), 3))
    for k, entry in enumerate(first):
        moved[k, int(entry["number"])] = entry["displacement"]
    energies = [entry.get("supercell_energy") for entry in first]
    forces = np.array([entry["forces"] for entry in first])
    return moved, forces, None if None in energies else energies
