"""Steps with energies and forces in VASP's ``vaspout.h5`` and in ``ML_AB`` of its force fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.frame_labels import UNCONVERGED
from mlepi.structures.vasp_convergence import FIXED_DENSITY, FIXED_NAMES
from mlepi.untrusted import guard, open_hdf5, read_text

STEPS = "intermediate/ion_dynamics"
NOT_CONVERGED = "electronic_step_converged"
"""Since VASP 6.5: (n_steps, 1), 0 for a converged step."""
ALGORITHM, DENSITY = "input/incar/ALGO", "input/incar/ICHARG"
LEARNS = "input/incar/ML_LMLFF"
"""A force field is trained or used; which steps are its own is not told."""
TRUE = ("1", "t", "true")
FREE_ENERGY = ("free energy", "ion-electron")
"""How the tag of the energy begins whose derivatives the forces are; the second of dynamics."""

TITLE = re.compile(
    r"^[=*]{20,}\n\s*(\S.*?)\s*\n-{20,}\n(.*?)(?=^[=*]{20,}|\Z)", re.DOTALL | re.MULTILINE
)


@guard("a vaspout.h5 of VASP 6")
def read_vaspout(path: Path) -> list[Atoms]:
    """Read all ionic steps of a ``vaspout.h5``, each with free energy (eV) and forces (eV/Å).

    A relaxation may end with a step whose structure VASP does not write: it is an empty frame.

    Raises:
        DataError: an array is missing or of another length.
    """
    try:
        with open_hdf5(path) as file:
            steps = file[STEPS]
            tags = [_text(tag) for tag in steps["energies_tags"]]
            energies, forces = np.asarray(steps["energies"]), np.asarray(steps["forces"])
            scaled = np.asarray(steps["position_ions"])
            cells = np.asarray(steps["lattice_vectors"])
            where = file["results/positions"]
            cells = cells * (float(where["scale"][()]) if "scale" in where else 1.0)
            types = [_text(tag) for tag in where["ion_types"]]
            counts = np.asarray(where["number_ion_types"])
            failed = np.asarray(steps.get(NOT_CONVERGED, [])).ravel()
            learns = LEARNS in file and _text(file[LEARNS][()]).strip(".").lower() in TRUE
            fixed = ALGORITHM in file and _text(file[ALGORITHM][()]).lower() in FIXED_NAMES
            if fixed or (DENSITY in file and int(file[DENSITY][()]) in FIXED_DENSITY):
                failed = np.ones(len(energies))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        fix = "Copy it again; the calculation must have finished a step."
        got = f"a missing array ({error})"
        raise DataError(message(str(path), got, f"{STEPS} of VASP 6", fix)) from error
    if learns:
        fix = "Give ML_AB, or OUTCAR, which says which steps are of DFT."
        got = "a run with a force field (ML_LMLFF)"
        raise DataError(message(str(path), got, "steps of DFT alone", fix))
    free = next((k for k, tag in enumerate(tags) if tag.startswith(FREE_ENERGY)), None)
    n_steps, n_atoms = min(len(energies), len(forces)), int(counts.sum())
    unplaced = n_steps > 1 and len(scaled) == len(cells) == n_steps - 1
    n_steps -= unplaced
    placed = scaled[:n_steps].shape == (n_steps, n_atoms, 3) and bool((counts >= 0).all())
    if free is None or len(types) != len(counts) or not placed:
        fix = "Copy it again."
        got = f"energies {tags}, {n_atoms} atoms, positions {scaled.shape}"
        raise DataError(message(str(path), got, "a free energy and positions of all atoms", fix))
    symbols = [
        re.split(r"[_\d]", name)[0]
        for name, count in zip(types, counts, strict=True)
        for _ in range(count)
    ]
    frames = [
        _frame(symbols, cells[k], scaled[k] @ cells[k], float(energies[k, free]), forces[k])
        for k in range(n_steps)
    ]
    for frame, wrong in zip(frames, failed, strict=False):
        frame.info |= {UNCONVERGED: True} if wrong else {}
    return [*frames, Atoms()] if unplaced else frames


@guard("an ML_AB of VASP")
def read_ml_ab(path: Path) -> list[Atoms]:
    """Read all configurations of an ``ML_AB``, each with energy (eV) and forces (eV/Å).

    Raises:
        DataError: a section is missing or short.
    """
    text = read_text(path)
    parts = re.split(r"^\s*Configuration num\.\s*\d+\s*$", text, flags=re.MULTILINE)[1:]
    if not parts:
        fix = "Give ML_AB or ML_ABN of a training run."
        raise DataError(message(str(path), "no configurations", "an ML_AB of VASP", fix))
    frames = []
    for number, part in enumerate(parts):
        sections = {title.split("(")[0].strip(): body for title, body in TITLE.findall(part)}
        try:
            pairs = [line.split() for line in sections["Atom types and atom numbers"].splitlines()]
            if sum(int(count) for _, count in pairs) > len(part):
                raise ValueError("more atoms than the section has letters")
            symbols = [symbol for symbol, count in pairs for _ in range(int(count))]
            cell = _table(sections["Primitive lattice vectors"], 3)
            positions = _table(sections["Atomic positions"], len(symbols))
            forces = _table(sections["Forces"], len(symbols))
            energy = float(sections["Total energy"])
        except (KeyError, ValueError) as error:
            fix = "Copy the file again."
            got = f"configuration {number + 1} with a missing or short section ({error})"
            raise DataError(message(str(path), got, "all sections of VASP", fix)) from error
        frames.append(_frame(symbols, cell, positions, energy, forces))
    return frames


def _text(value: Any) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _table(text: str, n_rows: int) -> NDArray[np.float64]:
    rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
    table = np.array(rows)
    if table.shape != (n_rows, 3):
        raise ValueError(f"{table.shape} for {n_rows} rows")
    return table


def _frame(symbols: list[str], cell: Any, positions: Any, energy: float, forces: Any) -> Atoms:
    atoms = Atoms(symbols, positions=positions, cell=cell, pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy, free_energy=energy, forces=np.asarray(forces)
    )
    return atoms
