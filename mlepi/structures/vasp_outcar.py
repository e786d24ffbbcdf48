"""Ionic steps in VASP's ``OUTCAR``, line by line: cell, positions, free energy, forces, stress.

Of a run that trains a force field the steps of DFT are taken, and not those marked as predictions,
``(ML)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.frame_labels import UNCONVERGED
from mlepi.structures.vasp_convergence import FIXED, NOT_REACHED, REACHED
from mlepi.untrusted import check_size, check_text, guard

VERSION = re.compile(r"^\s*vasp\.(\d+)\.")
POTENTIAL = re.compile(r"^\s*POTCAR:\s+\S+\s+([A-Z][a-z]?)(?![a-z])")
KINDS = "ions per type ="
LIMIT = re.compile(r"^\s*NELM\s*=\s*(\d+)")
ITERATION = re.compile(r"-+ Iteration\s+\d+\(\s*(\d+)\)")
LATTICE = "direct lattice vectors"
STRESS = "FORCE on cell =-STRESS"
PRESSURE = "in kB"
FORCES, PREDICTED = "TOTAL-FORCE (eV/Angst)", "(ML)"
ENDED, ENDED_EARLY = REACHED.decode(), NOT_REACHED.decode()
ENERGY = re.compile(r"^\s*free  energy   TOTEN\s*=\s*(\S+)\s+eV")
TOLD_SINCE = 6
"""VASP 5 says that EDIFF is reached where its loop has only come to its end, NELM; from this
version on it says that it was not."""


@dataclass
class _Run:
    """What has been read of a file so far.

    Attributes:
        potentials: elements of the POTCAR, each twice.
        counts: atoms of every kind.
        version: of VASP.
        limit: NELM.
        fixed: orbitals, or the density, are not optimised.
        told: how an electronic loop has ended is said somewhere.
        cell: (3, 3), Å, of this step.
        stress: xx, yy, zz, xy, yz, zx in kB, of this step.
        table: (n_atoms, 6), positions and forces, of this step.
        iterations: number of the last electronic one of this step.
        reached: EDIFF, in this step.
        predicted: steps of a force field.
        frames: that are complete.
        silent: those of them whose end of the electronic loop is not told.
    """

    potentials: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    version: int = 0
    limit: int = 0
    fixed: bool = False
    told: bool = False
    cell: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    table: NDArray[np.float64] | None = None
    iterations: int = 0
    reached: bool = False
    predicted: int = 0
    frames: list[Atoms] = field(default_factory=list)
    silent: list[Atoms] = field(default_factory=list)


@guard("an OUTCAR of VASP")
def read_outcar(path: Path) -> list[Atoms]:
    """Read all ionic steps of an ``OUTCAR``, each with free energy (eV) and forces (eV/Å).

    A step whose electrons have not converged is marked (``frame_labels.UNCONVERGED``): its loop has
    not reached EDIFF or, in VASP 5, has taken NELM iterations. A last step of a run that was killed
    is an empty frame.

    Raises:
        DataError: it cannot be read, or holds only steps that a force field has predicted.
    """
    check_size(path)
    check_text(path)
    run = _Run()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                _read_line(run, line, file)
        if run.table is not None:
            run.frames.append(Atoms())
        if not run.frames and not run.predicted:
            raise ValueError("no step with forces")
    except (ValueError, IndexError) as error:
        fix = "Check that it is complete."
        got = f"an unreadable file ({error})"
        raise DataError(message(str(path), got, "an OUTCAR of VASP", fix)) from error
    if not run.frames and run.predicted:
        got, expected = f"{run.predicted} steps of a force field", "steps of DFT"
        fix = "Give the run that trained it, or its ML_AB."
        raise DataError(message(str(path), got, expected, fix))
    if run.told:
        for frame in run.silent:
            frame.info[UNCONVERGED] = True
    return run.frames


def _read_line(run: _Run, line: str, file: TextIO) -> None:
    """Take what a line says, and the lines after it that belong to it."""
    if found := ITERATION.match(line):
        run.iterations = int(found[1])
        if run.iterations == 1:
            run.reached = False
    elif FORCES in line:
        table = _read_table(file)
        if PREDICTED in line:
            run.predicted += 1
        else:
            run.table = table
    elif run.table is not None and (found := ENERGY.match(line)):
        run.frames.append(_label(run, float(found[1])))
        run.table = run.stress = None
        run.iterations, run.reached = 0, False
    elif LATTICE in line:
        rows = [_split(row)[:3] for row in islice(file, 3)]
        run.cell = np.array(rows, dtype=np.float64)
    elif STRESS in line:
        run.stress = _read_stress(file) if not line.split()[0].startswith("ML") else run.stress
    elif (reached := ENDED in line) or ENDED_EARLY in line:
        run.reached, run.told = reached, True
    elif not run.frames:
        _read_header(run, line, file)


def _read_header(run: _Run, line: str, file: TextIO) -> None:
    """Take what a line before the first step says of the run."""
    if found := POTENTIAL.match(line):
        run.potentials.append(found[1])
    elif KINDS in line and not run.counts:
        words = line.split("=")[1].split()
        while words and all(word.isdigit() for word in words):
            run.counts += [int(word) for word in words]
            words = next(file, "").split()
    elif found := LIMIT.match(line):
        run.limit = int(found[1])
    elif found := VERSION.match(line):
        run.version = int(found[1])
    elif FIXED.search(line.encode(errors="replace")):
        run.fixed = True


def _split(row: str) -> list[str]:
    """Split numbers of nine decimals, which may touch each other."""
    return re.findall(r"-?\d+\.\d{9}", row) if row.count(".") >= 3 else row.split()


def _read_table(file: TextIO) -> NDArray[np.float64]:
    """Read the rows between two lines of dashes; the first six numbers of each."""
    next(file, None)
    rows: list[list[float]] = []
    for line in file:
        if "----" in line:
            return np.array(rows).reshape(len(rows), 6)
        words = line.split()[:6]
        try:
            rows.append([float(words[k]) for k in range(6)])
        except (ValueError, IndexError) as error:
            if line.endswith("\n"):
                got = f"row {len(rows) + 1} of forces, {line.strip()[:40]!r}"
                raise ValueError(got) from error
    return np.zeros((0, 6))  # the file has ended


def _read_stress(file: TextIO) -> NDArray[np.float64] | None:
    """Read xx, yy, zz, xy, yz, zx in kB; None where they do not follow."""
    for line in islice(file, 30):
        if PRESSURE in line:
            words = line.split()[2:]
            return np.array(words, dtype=np.float64) if len(words) == 6 else None
    return None


def _build(run: _Run) -> Atoms:
    """Build the structure of a step."""
    n_kinds = len(run.counts)
    if not n_kinds:
        raise ValueError("no numbers of ions per type")
    elements = run.potentials[:n_kinds]
    if len(elements) != n_kinds or not set(elements) <= set(chemical_symbols[1:]):
        raise ValueError(f"{n_kinds} kinds of ions and the potentials {run.potentials}")
    if run.cell is None or run.cell.shape != (3, 3) or run.table is None:
        raise ValueError("no lattice vectors")
    if len(run.table) != sum(run.counts):
        raise ValueError(f"forces on {len(run.table)} atoms of {sum(run.counts)}")
    symbols = [e for e, n in zip(elements, run.counts, strict=True) for _ in range(n)]
    return Atoms(symbols, positions=run.table[:, :3], cell=run.cell, pbc=True)


def _label(run: _Run, energy: float) -> Atoms:
    """Build a step with its labels."""
    atoms = _build(run)
    forces = np.asarray(run.table)[:, 3:]
    labels = {"energy": energy, "free_energy": energy, "forces": forces}
    if run.stress is not None:
        labels["stress"] = -0.1 * units.GPa * run.stress[[0, 1, 2, 4, 5, 3]]
    atoms.calc = SinglePointCalculator(atoms, **labels)
    ended = run.version < TOLD_SINCE and run.iterations == run.limit > 1
    if run.fixed or ended:
        atoms.info[UNCONVERGED] = True
    elif not run.reached:
        run.silent.append(atoms)
    return atoms
