"""Labels of a finished calculation of CP2K: H(R), S(R), energy, forces, and a proof of them.

Orbitals are those of the basis set in its order, m = −l…l inside a shell, which is the internal
order. CP2K's bands at k-points on no mesh must be those of H and S as read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.linalg
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import assemble_labels
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.cp2k_input import BANDS, FORCES, Placement
from mlepi.structures.cp2k_output import AGAIN, OUTPUT, read_bands, read_forces, read_matrix
from mlepi.structures.cp2k_output import read_output as read_cp2k_output
from mlepi.structures.definiteness import sum_bloch
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.sparse_blocks import gather_blocks
from mlepi.units import BOHR, HARTREE

HERMITICITY = 1e-9
"""Largest accepted |H_ij(R) − H_ji(−R)ᵀ|, eV; CP2K writes 14 digits."""

BAND_ERROR = 1e-5
"""Largest accepted difference of bands from CP2K's own, eV, which prints eight decimals."""


def read_cp2k(
    folder: Path,
    name: str,
    atoms: Atoms,
    placement: Placement,
    basis: OrbitalBasis,
) -> LabelledStructure:
    """Read a calculation whose input ``build_cp2k_input`` has written.

    Args:
        folder: of the calculation.
        name: of the structure.
        atoms: as given, Å.
        placement: where CP2K had the atoms.
        basis: shells of the elements in the order of the basis set; radii are taken from CP2K.

    Returns:
        Labels in eV, Å and internal order. The provenance names version, grid, steps, and how far
        bands are from CP2K's, ``band_error`` (eV).

    Raises:
        NotConvergedError: self-consistency was not reached.
        DataError: a file is missing or damaged, H is not Hermitian, or bands are not CP2K's.
    """
    output = read_cp2k_output(folder / OUTPUT)
    counts = basis.counts(atoms.numbers)
    radii = {z: output.radii[z] for z in basis.elements}
    basis = OrbitalBasis(basis.shells, radii, basis.names, basis.valence_electrons)
    lists = {}
    for matrix, unit in (("KS", HARTREE), ("S", 1.0)):
        elements = read_matrix(folder, matrix, output.images[matrix], int(counts.sum()))
        lists[matrix] = _gather(counts, placement.moved, elements, unit)
    forces = read_forces(folder / FORCES, len(atoms)) * (HARTREE / BOHR)
    structure = assemble_labels(
        str(folder),
        name,
        atoms,
        basis,
        order="e3nn",
        overlap=lists["S"],
        hamiltonian=lists["KS"],
        fermi_energy=output.fermi_energy * HARTREE,
        energy=output.energy * HARTREE,
        forces=forces,
        provenance={
            "code": output.version,
            "grid": list(output.grid),
            "steps": output.steps,
        },
    )
    asymmetry = float(structure.provenance["hermiticity"]["Hamiltonian"])
    if not asymmetry <= HERMITICITY:
        got = f"H that differs from its transposed reverse by {asymmetry:.2g} eV"
        raise DataError(message(str(folder), got, f"at most {HERMITICITY:g} eV", AGAIN))
    error = compare_bands(structure, folder / BANDS)
    if not error <= BAND_ERROR:
        got = f"bands of H and S that differ from CP2K's own by {error:.2g} eV"
        raise DataError(message(str(folder), got, f"at most {BAND_ERROR:g} eV", AGAIN))
    return replace(structure, provenance={**structure.provenance, "band_error": error})


def _gather(
    counts: NDArray[np.int64],
    moved: NDArray[np.int64],
    elements: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    unit: float,
) -> BlockList:
    """Collect elements into blocks, with R counted between the atoms as they were given."""
    cells, rows, columns, values = elements
    atom = np.repeat(np.arange(len(counts)), counts)
    cells = cells + moved[atom[columns]] - moved[atom[rows]]
    return gather_blocks(counts, cells, rows, columns, values * unit)


def compare_bands(structure: LabelledStructure, path: Path) -> float:
    """Return the largest difference of the bands of H and S from those of a file, eV.

    Args:
        structure: with H and S.
        path: CP2K's bands at k-points.
    """
    return compare_levels(structure, read_bands(path))


def compare_levels(
    structure: LabelledStructure,
    levels: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> float:
    """Return the largest difference of the bands of H and S from those of a code, eV.

    Args:
        structure: with H and S.
        levels: fractional k-points, (3,), and the lowest energies of the code there, (n,) eV.

    Raises:
        DataError: there is no H or S.
    """
    basis, edges, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    matrices = structure.hamiltonian_blocks, structure.overlap_blocks
    if basis is None or edges is None or shift is None or any(m is None for m in matrices):
        raise DataError(message(structure.name, "no H and S", "both", AGAIN))
    mask = basis.mask(structure.atoms.numbers)
    worst = 0.0
    for kpoint, energies in levels:
        h, s = (sum_bloch(edges, shift, m, mask, kpoint) for m in matrices if m is not None)
        own = scipy.linalg.eigvalsh(h, s)[: len(energies)]
        worst = max(worst, float(np.abs(own - energies).max(initial=0.0)))
    return worst
