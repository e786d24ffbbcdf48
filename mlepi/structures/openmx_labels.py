"""Labels of OpenMX calculations kept as one ``.npz`` per structure, and the data sets made of them.

A file holds ``cell``, ``positions``, ``numbers``, ``layer``, ``energy``, ``energy_d2``, ``forces``,
``fermi``, ``kgrid``, ``converged``, ``job`` (JSON text), and pairs ⟨i, cell 0 | j, cell R⟩ of one
direction: ``i``, ``j``, ``R``, with ``H`` (eV) and ``S`` in OpenMX's orbital order, as (m, p, p),
or flat, block after block, where elements differ in their numbers of orbitals. Names: KIND_REST.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.ragged import restore_both_directions
from mlepi.structures.validation import check_spectrum, check_two_centre_overlap
from mlepi.untrusted import guard, open_npz, parse_json

QUANTUM = 2.0**-15
"""eV, of which all elements of H are multiples: 0.009 meV RMS, the noise of the labels."""

HAMILTONIANS, FORCES = "hamiltonians.h5", "forces.extxyz"
"""Names of the files of a data set."""


def list_label_files(folders: Iterable[Path]) -> list[Path]:
    """List the label files of several folders in the order of their names.

    Raises:
        DataError: there are none, or two of one name.
    """
    paths = (path for folder in folders for path in folder.glob("*.npz"))
    found = sorted(paths, key=lambda path: path.stem)
    names = [path.stem for path in found]
    if not found or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            message(
                "folders of labels",
                f"{twice[:3]} twice" if twice else "no .npz files",
                "one file per structure",
                "Check the paths.",
            )
        )
    return found


@guard("labels of one structure")
def read_label_file(path: Path, basis: OrbitalBasis) -> LabelledStructure:
    """Read the labels of one structure.

    Args:
        path: ``.npz`` file.
        basis: of the calculation.

    Returns:
        Labels in eV, Å and internal orbital order, both directions of every pair.

    Raises:
        DataError: a calculation that has not converged, an element without basis, or blocks that
            contradict basis or geometry.
    """
    with open_npz(str(path), path) as archive:
        labels = {name: archive[name] for name in archive.files}
    numbers = labels["numbers"].astype(np.int64)
    unknown = sorted({int(z) for z in numbers} - set(basis.elements))
    if not bool(labels["converged"]) or unknown:
        raise DataError(
            message(
                str(path),
                f"atomic numbers {unknown}" if unknown else "a calculation that has not converged",
                f"a converged one of {list(basis.elements)}",
                "Remove the file.",
            )
        )
    rows, columns = numbers[labels["i"]], numbers[labels["j"]]
    given = [_read_blocks(path, labels[key], basis, rows, columns) for key in ("H", "S")]
    edges, shifts, blocks = restore_both_directions(
        np.stack([labels["j"], labels["i"]]), labels["R"], *given
    )
    atoms = Atoms(numbers=numbers, positions=labels["positions"], cell=labels["cell"], pbc=True)
    atoms.set_array("layer", labels["layer"].astype(np.int64))
    structure = LabelledStructure(
        name=path.stem,
        atoms=atoms,
        basis=basis,
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
            "job": parse_json(str(path), str(labels["job"])),
        },
    )
    check_two_centre_overlap(structure)
    check_spectrum(structure)
    return structure


def write_data_set(
    folder: Path,
    structures: Sequence[LabelledStructure],
    provenance: Mapping[str, Any],
    quantum: float = QUANTUM,
) -> dict[str, str]:
    """Write Hamiltonians, packed and without overlaps, and energies and forces; check the former.

    Args:
        folder: gets ``HAMILTONIANS`` and ``FORCES``.
        structures: results of ``read_label_file``.
        provenance: of the data set; the number of structures of every kind is added.
        quantum: eV, of which all elements of H become multiples.

    Returns:
        Name of a structure → its kind.
    """
    kinds = {structure.name: str(structure.provenance["kind"]) for structure in structures}
    counts = {kind: list(kinds.values()).count(kind) for kind in sorted(set(kinds.values()))}
    bare = (replace(structure, overlap_blocks=None) for structure in structures)
    write_hamiltonian_dataset(
        folder / HAMILTONIANS, bare, {**provenance, "counts": counts}, quantum=quantum
    )
    write_extxyz(folder / FORCES, structures)
    HamiltonianDataset(folder / HAMILTONIANS).verify()
    return kinds


def _read_blocks(
    path: Path,
    values: NDArray[np.floating],
    basis: OrbitalBasis,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return padded blocks in internal order, (m, p, p); elements of rows and columns are (m,)."""
    counts, p = {z: len(basis.permutation(z, "openmx")) for z in basis.elements}, basis.max_orbitals
    shapes = [(counts[int(a)], counts[int(b)]) for a, b in zip(rows, columns, strict=True)]
    n_values = sum(a * b for a, b in shapes)
    if values.size != n_values:
        raise DataError(
            message(
                str(path),
                f"{values.size} elements of blocks",
                f"{n_values} of this basis",
                "Give the basis of the calculation.",
            )
        )
    flat, blocks = values.astype(np.float64).ravel(), np.zeros((len(shapes), p, p))
    ends = np.cumsum([a * b for a, b in shapes])
    order = {z: basis.permutation(z, "openmx") for z in basis.elements}
    for n, ((a, b), part) in enumerate(zip(shapes, np.split(flat, ends[:-1]), strict=True)):
        turned = part.reshape(a, b)[order[int(rows[n])]][:, order[int(columns[n])]]
        blocks[n, :a, :b] = turned
    return blocks
