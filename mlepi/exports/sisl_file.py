"""H and S as ``sisl.Hamiltonian``, and through it in the files that TBtrans reads.

sisl and SIESTA count energies from the Fermi energy, so H − E_F S is what they get. Orbitals are in
SIESTA's order with SIESTA's signs. sisl (MPL) is called and never copied.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message
from mlepi.exports.csr import build_csr
from mlepi.exports.output import new_file, require_new
from mlepi.structures.labelled_structure import LabelledStructure, subtract_fermi_energy

SUFFIXES = (".nc", ".TSHS", ".HSX")
"""Files that sisl writes: SIESTA's netCDF and the .TSHS of TranSIESTA, both read by TBtrans, and
.HSX."""


def build_sisl(labels: LabelledStructure) -> Any:
    """Return the ``sisl.Hamiltonian`` of a structure, non-orthogonal, eV and Å.

    Args:
        labels: with H and S; with a Fermi energy, energies are counted from it.

    Raises:
        DataError: sisl is not installed, or there is no H or S.
    """
    sisl = _import_sisl(labels.name)
    if labels.fermi_energy is not None:
        labels = subtract_fermi_energy(labels)
    atoms, basis = labels.atoms, labels.basis
    if basis is None or labels.edge_cell_shift is None:
        fix = "Give labels with both."
        raise DataError(message(labels.name, "no Hamiltonian or no overlap", "both", fix))
    reach = np.abs(np.asarray(labels.edge_cell_shift)).max(axis=0)
    lattice = sisl.Lattice(atoms.cell.array, nsc=(2 * reach + 1).tolist())
    kinds = {}
    for number in {int(z) for z in atoms.numbers}:
        shells, radius = basis.shells[number], basis.radii[number]
        orbitals = [
            sisl.AtomicOrbital(n=l + 1, l=l, m=m, zeta=1 + shells[:k].count(l), R=radius)
            for k, l in enumerate(shells)
            for m in range(-l, l + 1)
        ]
        kinds[number] = sisl.Atom(number, orbitals)
    species = [kinds[int(z)] for z in atoms.numbers]
    geometry = sisl.Geometry(atoms.positions, species, lattice=lattice)
    hamiltonian, overlap = build_csr(labels, np.asarray(geometry.lattice.sc_off), "siesta")
    return sisl.Hamiltonian.fromsp(geometry, hamiltonian, S=overlap)


def write_sisl(path: str | Path, labels: LabelledStructure) -> None:
    """Write a file through sisl.

    Args:
        path: new file, one of ``SUFFIXES``; appears complete or not at all.
        labels: with H and S.

    Raises:
        DataError: another ending, the file exists, sisl is not installed or cannot write it.
    """
    path = require_new(path)
    if path.suffix not in SUFFIXES:
        expected, fix = f"one of {list(SUFFIXES)}", "TBtrans reads .nc and .TSHS."
        raise DataError(message(str(path), f"the ending {path.suffix!r}", expected, fix))
    matrix = build_sisl(labels)
    with new_file(path) as unfinished:
        try:
            matrix.write(unfinished)
        except Exception as error:  # sisl's writers raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            fix = "For .nc install netCDF4 as well, or write .TSHS."
            got = f"sisl could not write it ({reason})"
            raise DataError(message(str(path), got, "a file of sisl", fix)) from error


def _import_sisl(where: str) -> Any:
    try:
        return import_module("sisl")
    except ImportError as error:
        fix = "pip install 'mlepi[siesta]', or pip install sisl netCDF4."
        raise DataError(message(where, "no sisl", "the package sisl", fix)) from error
