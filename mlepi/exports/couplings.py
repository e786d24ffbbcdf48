"""Electron-phonon matrix elements in one HDF5 file whose axes say what they are.

Layout (format 1): see ``docs/exports.md``. Every dataset has an attribute ``unit`` and a label on
each of its axes (HDF5 dimension labels).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.exports.output import new_file
from mlepi.hdf5_files import create_hdf5
from mlepi.physics.coupling.cell_response import CellResponse
from mlepi.physics.coupling.linear_response import BlockResponses

if TYPE_CHECKING:
    from mlepi.structures.basis import OrbitalBasis

FORMAT = 1
AXES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "positions": ("angstrom", ("atom", "xyz")),
    "cell": ("angstrom", ("vector", "xyz")),
    "numbers": ("1", ("atom",)),
    "masses": ("amu", ("atom",)),
    "kpoints": ("fractional", ("k", "xyz")),
    "qpoints": ("fractional", ("q", "xyz")),
    "initial_energies": ("eV", ("k", "n")),
    "final_energies": ("eV", ("q", "k", "m")),
    "frequencies": ("THz", ("q", "mode")),
    "eigenvectors": ("1", ("q", "coordinate", "mode")),
    "moving": ("1", ("q", "mode")),
    "coupling": ("eV", ("q", "k", "mode", "m", "n")),
    "deformation_potential": ("eV/angstrom", ("q", "k", "coordinate", "m", "n")),
    "adiabatic": ("eV/angstrom", ("q", "k", "coordinate", "m", "n")),
}
"""Dataset → unit and axes."""

RESPONSE_AXES = ("atom", "pair", "cell", "xyz", "row", "column")


@dataclass(frozen=True)
class Couplings:
    """Matrix elements between states n at k and m at k + q.

    Attributes:
        atoms: the primitive cell.
        supercell: cells along each vector in which H and S were differentiated.
        basis: of the orbitals.
        first_band: number of the first of the bands n and m, from 0.
        kpoints: (n_k, 3) fractional.
        qpoints: (n_q, 3) fractional.
        initial_energies: (n_k, n_bands), eV.
        final_energies: (n_q, n_k, n_bands), eV.
        frequencies: (n_q, n_modes), THz, imaginary shown negative, 0 for translations.
        eigenvectors: (n_q, 3 n_atoms, n_modes), mass-scaled, columns, phase e^{2πi q·R}.
        moving: (n_q, n_modes) bool, whether a mode has a positive frequency.
        coupling: (n_q, n_k, n_modes, m, n), g, eV; NaN for modes that do not move.
        deformation_potential: (n_q, n_k, 3 n_atoms, m, n), ⟨m|∂V/∂u|n⟩, eV/Å.
        adiabatic: (n_q, n_k, 3 n_atoms, m, n), ⟨m|∂H/∂u − E_n ∂S/∂u|n⟩, eV/Å.
        provenance: plain data.
        responses: derivatives of the blocks in real space; None leaves them out.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    basis: OrbitalBasis
    first_band: int
    kpoints: NDArray[np.float64]
    qpoints: NDArray[np.float64]
    initial_energies: NDArray[np.float64]
    final_energies: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    eigenvectors: NDArray[np.complex128]
    moving: NDArray[np.bool_]
    coupling: NDArray[np.complex128]
    deformation_potential: NDArray[np.complex128]
    adiabatic: NDArray[np.complex128]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    responses: BlockResponses | None = None


def write_couplings(path: str | Path, couplings: Couplings) -> None:
    """Write matrix elements; the file appears complete or not at all.

    Args:
        path: new file.
        couplings: what is written.

    Raises:
        DataError: the file exists.
    """
    atoms = couplings.atoms
    own = {"positions": atoms.positions, "cell": atoms.cell.array}
    own |= {"numbers": atoms.numbers, "masses": atoms.get_masses()}
    with new_file(path) as unfinished, create_hdf5(unfinished) as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "supercell": couplings.supercell,
                "first_band": couplings.first_band,
                "basis": json.dumps(couplings.basis.to_dict()),
                "provenance": json.dumps(dict(couplings.provenance)),
            }
        )
        for name, (unit, axes) in AXES.items():
            values = own[name] if name in own else getattr(couplings, name)
            _write(file, name, values, unit, axes)
        if couplings.responses is not None:
            for name, unit in (("hamiltonian", "eV/angstrom"), ("overlap", "1/angstrom")):
                _write_response(file, name, getattr(couplings.responses, name), unit)
            ket = couplings.responses.ket_overlap
            _write_response(file, "ket_overlap", ket, "1/angstrom")


def _write_response(file: h5py.File, name: str, response: CellResponse, unit: str) -> None:
    group = file.create_group(f"real_space/{name}")
    _write(group, "derivatives", response.values, unit, RESPONSE_AXES)
    _write(group, "pairs", response.pairs, "1", ("pair", "row and column atom"))
    _write(group, "pair_shifts", response.shifts, "1", ("pair", "vector"))
    _write(group, "cells", response.cells, "1", ("cell", "vector"))


def _write(
    group: h5py.Group, name: str, values: NDArray[Any], unit: str, axes: tuple[str, ...]
) -> None:
    options = {"compression": "gzip", "compression_opts": 1} if values.size > 4096 else {}
    dataset = group.create_dataset(name, data=values, **options)
    dataset.attrs["unit"] = unit
    for dimension, label in zip(dataset.dims, axes, strict=True):
        dimension.label = label
