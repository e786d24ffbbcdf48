"""Reader of the folders of dftio and DeePTB: structure as text or .traj, blocks as HDF5.

Blocks are named i_j_Rx_Ry_Rz, atoms from 0, in groups by frame; ⟨i, cell 0| · |j, cell R⟩ in eV,
one direction of every pair (DeePTB) or both (dftio from ABACUS), single precision, e3nn's order
inside a shell. dftio takes the cell of an ABACUS calculation from STRU.cif, which has no axes: it
is turned onto those of the blocks (``orientation``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.ase_files import read_frames
from mlepi.structures.assembly import add_remark, assemble_labels, element_number
from mlepi.structures.basis import SHELL_LETTERS
from mlepi.structures.block_checks import check_atom_indices
from mlepi.structures.deeph_folder import (
    build_basis,
    join_blocks,
    open_matrix,
)
from mlepi.structures.deeph_legacy import load_table
from mlepi.structures.frame_labels import check_periodic
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.orientation import turn_to_overlaps
from mlepi.structures.pair_lists import BlockList
from mlepi.structures.small_datasets import read_small_datasets
from mlepi.untrusted import guard, parse_shells, read_json, read_text

NAMES = {
    "numbers": ("atomic_numbers.dat", "atomic_number.dat"),
    "positions": ("positions.dat", "position.dat"),
    "hamiltonian": ("hamiltonians.h5", "hamiltonian.h5"),
    "overlap": ("overlaps.h5", "overlap.h5"),
    "cell": ("cell.dat",),
}
"""Names of the files in newer and older versions."""

TRAJECTORY = "xdat.traj"
"""The structures of ``dftio parse -f ase``, in place of cell, positions and numbers."""

ENERGIES, UNCONVERGED = "total_energy.dat", "unconverged_frames.dat"
"""Of ``dftio parse -energy``: eV of all converged frames, and the numbers of the others."""

ENTRY = re.compile(r"""['"](\w+)['"]\s*:\s*['"]((?:\d\d?[spdfg])+)['"]""")
BASIS = re.compile(rf"\{{\s*{ENTRY.pattern}(?:\s*,\s*{ENTRY.pattern})*\s*,?\s*\}}")
"""Of basis.dat: {'Si': '2s2p1d', 'C': '2s2p'}."""


def find_dftio_file(folder: Path, what: str) -> Path | None:
    """Return a file of such a folder by what it holds; None without it."""
    return next((folder / name for name in NAMES[what] if (folder / name).is_file()), None)


def count_dftio_frames(folder: Path) -> int:
    """Count the frames of a folder, those of its Hamiltonian; 0 where it is none of dftio."""
    names = ("basis.dat", *((TRAJECTORY,) if not (folder / "cell.dat").is_file() else ()))
    if not all((folder / name).is_file() for name in names):
        return 0
    if find_dftio_file(folder, "hamiltonian") is None:
        return 0
    with open_matrix(_require(folder, "hamiltonian")) as file:
        return len(file)


@guard("a dftio folder")
def read_dftio(folder: str | Path, frame: int = 0, name: str | None = None) -> LabelledStructure:
    """Read one frame of a folder.

    Args:
        folder: holds cell.dat, positions.dat, atomic_numbers.dat or xdat.traj; basis.dat,
            hamiltonians.h5 and overlaps.h5; total_energy.dat where energies were exported.
        frame: from 0.
        name: name of the structure; that of the folder when None.

    Returns:
        Labels in internal units and order; no Fermi energy, which the layout lacks.

    Raises:
        DataError: a file is missing or damaged, the data are spinful, the frame has not converged,
            or an invariant of ``validation`` is broken.
        StructureError: a molecule, without a cell.
    """
    path = Path(folder)
    where = str(path)
    atoms, n_frames = _read_structure(path, frame)
    energy = _read_energy(path, frame, n_frames)
    shells = _read_basis(path)
    missing = sorted({int(z) for z in atoms.numbers} - set(shells))
    if missing:
        got = f"no shells for atomic numbers {missing}"
        raise DataError(
            message(f"{path / 'basis.dat'}", got, "every element", "Add them: {'Si': '2s2p1d'}.")
        )
    counts = np.array([sum(2 * l + 1 for l in shells[int(z)]) for z in atoms.numbers])
    hamiltonian, overlap = (
        _read_blocks(_require(path, what), frame, counts) for what in ("hamiltonian", "overlap")
    )
    atoms, angle = turn_to_overlaps(atoms, shells, overlap)
    labels = assemble_labels(
        where,
        name or path.resolve().name,
        atoms,
        build_basis(where, atoms, shells, None, overlap, hamiltonian),
        order="e3nn",
        overlap=overlap,
        hamiltonian=hamiltonian,
        energy=energy,
        provenance={"format": "dftio", "folder": path.resolve().name, "frame": frame},
        half=True,
    )
    return add_remark(where, labels, "turned", angle) if angle else labels


def _require(folder: Path, what: str) -> Path:
    path = find_dftio_file(folder, what)
    if path is None:
        got, fix = f"no {NAMES[what][0]}", "Export it with dftio parse -ham -ovp."
        raise DataError(message(str(folder), got, "a folder of dftio", fix))
    return path


def _read_structure(path: Path, frame: int) -> tuple[Atoms, int]:
    """Read one frame, and count them; cell and elements may be those of all."""
    if find_dftio_file(path, "cell") is None and (path / TRAJECTORY).is_file():
        frames = read_frames(path / TRAJECTORY)
        if not 0 <= frame < len(frames):
            got, fix = f"{len(frames)} structures", "Export the folder again."
            raise DataError(message(str(path / TRAJECTORY), got, f"one of frame {frame}", fix))
        check_periodic(str(path / TRAJECTORY), frames[frame])
        frames[frame].pbc = True
        return frames[frame], len(frames)
    numbers = load_table(_require(path, "numbers")).ravel().astype(np.int64)
    positions, cells = (load_table(_require(path, what)) for what in ("positions", "cell"))
    n_frames = len(cells) // 3 if len(cells) > 3 else max(1, len(positions) // len(numbers))
    n_atoms = len(positions) // n_frames
    if (
        positions.shape != (n_frames * n_atoms, 3)
        or cells.shape not in ((3, 3), (3 * n_frames, 3))
        or len(numbers) not in (n_atoms, n_atoms * n_frames)
        or not 0 <= frame < n_frames
    ):
        got = f"{len(numbers)} atomic numbers, positions {positions.shape}, cell {cells.shape}"
        expected = f"frame {frame} among {n_frames} frames of {n_atoms} atoms"
        raise DataError(message(str(path), got, expected, "Export the folder again."))
    cell = cells if len(cells) == 3 else cells[3 * frame : 3 * frame + 3]
    part = positions[frame * n_atoms : (frame + 1) * n_atoms]
    numbers = numbers if len(numbers) == n_atoms else numbers[frame * n_atoms :][:n_atoms]
    if _read_info(path).get("pos_type", "cart") == "frac":
        part = part @ cell
    atoms = Atoms(numbers, part, cell=cell, pbc=True)
    check_periodic(str(path), atoms)
    return atoms, n_frames


def _read_energy(path: Path, frame: int, n_frames: int) -> float | None:
    """Read the energy of a frame, eV; None without ``total_energy.dat``."""
    if not (path / ENERGIES).is_file():
        return None
    energies = load_table(path / ENERGIES).ravel()
    left_out: set[int] = set()
    if (path / UNCONVERGED).is_file():
        left_out = set(load_table(path / UNCONVERGED).ravel().astype(np.int64).tolist())
    if frame in left_out:
        fix = "Leave it out, or repeat its calculation."
        got = f"frame {frame}, which has not converged"
        raise DataError(message(str(path / UNCONVERGED), got, "a self-consistent Hamiltonian", fix))
    if len(energies) + len(left_out) != n_frames:
        fix = "Export the folder again, or remove the file."
        got, expected = f"{len(energies)} energies", f"{n_frames - len(left_out)}, one per frame"
        raise DataError(message(str(path / ENERGIES), got, expected, fix))
    return float(energies[frame - sum(other < frame for other in left_out)])


def _read_info(path: Path) -> dict[str, Any]:
    """Read info.json of the folder or the one above; empty without it."""
    for file in (path / "info.json", path.parent / "info.json"):
        if file.is_file():
            info = read_json(file)
            return info if isinstance(info, dict) else {}
    return {}


def _read_basis(path: Path) -> dict[int, tuple[int, ...]]:
    """Read basis.dat, {'Si': '2s2p1d'}."""
    file = path / "basis.dat"
    text = read_text(file, strict=True).strip() if file.is_file() else ""
    if not BASIS.fullmatch(text):
        fix = "Write the shells of every element into it."
        got = f"no basis ({text[:80]!r})"
        raise DataError(message(str(file), got, "{'Si': '2s2p1d'}", fix))
    return {
        element_number(str(file), symbol): parse_shells(
            str(file),
            [
                SHELL_LETTERS.index(letter)
                for count, letter in re.findall(r"(\d\d?)([spdfg])", shells)
                for _ in range(int(count))
            ],
        )
        for symbol, shells in ENTRY.findall(text)
    }


def _read_blocks(path: Path, frame: int, counts: NDArray[np.int64]) -> BlockList:
    """Read the blocks of one frame; groups are counted from 0 or, in older files, from 1."""
    keys: list[list[int]] = []
    blocks: list[NDArray[np.float64]] = []
    with open_matrix(path) as file:
        group = file.get(str(frame if "0" in file else frame + 1))
        if not isinstance(group, h5py.Group) or not len(group):
            got = f"no group of frame {frame}"
            raise DataError(message(str(path), got, "a group per frame", "Export it again."))
        for text, block in read_small_datasets(str(path), group):
            if not re.fullmatch(r"\d+_\d+(_-?\d+){3}", text):
                expected = "i_j_Rx_Ry_Rz"
                raise DataError(message(str(path), f"key {text!r}", expected, "Export it again."))
            i, j, *shift = (int(word) for word in text.split("_"))
            keys.append([*shift, i, j])
            blocks.append(block)
    pairs = np.array(keys, dtype=np.int64)
    check_atom_indices(str(path), pairs[:, 3:], len(counts), base=0)
    return join_blocks(str(path), pairs, blocks, counts)
