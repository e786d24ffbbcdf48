"""Small genuine files of every format that mlepi reads, each with what reads it.

A reader returns everything that it has read as nested plain data and arrays, so that two readings
can be compared.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from foreign_writers import write_abacus, write_dftio, write_hsx, write_kmesh
from hamiltonian_samples import (
    Sample,
    openmx_out,
    slater_koster_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)
from tiny_networks import build_config, build_network, gaussian_overlap_table

from mlepi.checkpoint import load_checkpoint, save_checkpoint, stamp
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.overlaps import read_overlap_table, write_overlap_table
from mlepi.results import ResultsStore, read_hamiltonian, write_hamiltonian
from mlepi.results.parts import PartFile
from mlepi.structures import (
    LabelledStructure,
    OrbitalBasis,
    read_named_subsets,
    read_split,
    read_structure,
    write_extxyz,
    write_hamiltonian_dataset,
    write_split,
)
from mlepi.structures.openmx_labels import read_label_file
from mlepi.structures.ragged import select_one_direction
from mlepi.structures.sources import find_sources, read_source

OWN = (
    *("data set", "packed data set", "overlap table", "own extxyz", "split", "checkpoint"),
    *("Hamiltonian file", "part file", "records"),
)
"""Formats of mlepi, which carry checksums."""
LOST = " lost"
"""Behind the path of what is not there any more."""


@dataclass(frozen=True)
class Small:
    """One genuine file or folder.

    Attributes:
        files: that may be damaged.
        read: everything that is read of it.
    """

    files: tuple[Path, ...]
    read: Callable[[], Any]


def list_differences(before: Any, after: Any, where: str = "") -> dict[str, float]:
    """Say where two readings of one file differ.

    Args:
        before: what was read of the genuine file.
        after: what was read now.
        where: path of both, inside of what was read.

    Returns:
        Path → largest difference of its numbers; infinite for everything else that differs.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        parts = [(str(key), before[key], after[key]) for key in before]
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        if len(before) != len(after):
            return {where: float("inf")}
        parts = [(str(k), *pair) for k, pair in enumerate(zip(before, after, strict=True))]
    else:
        return _compare(before, after, where)
    found: dict[str, float] = {}
    for name, one, two in parts:
        found |= list_differences(one, two, f"{where}/{name}")
    return found


def _compare(before: Any, after: Any, where: str) -> dict[str, float]:
    """Compare two arrays, numbers or texts."""
    if isinstance(before, (str, bytes, type(None), Mapping, list, tuple)):
        return {} if before == after else {where: float("inf")}
    if after is None:
        return {where + LOST: float("inf")}
    if isinstance(after, (str, bytes, Mapping, list, tuple)):
        return {where: float("inf")}
    one, two = np.asarray(before), np.asarray(after)
    if one.shape != two.shape or one.dtype.kind != two.dtype.kind:
        return {where: float("inf")}
    if np.array_equal(one, two):
        return {}
    if one.dtype.kind not in "fc":
        return {where: float("inf")}
    with np.errstate(all="ignore"):
        return {where: float(np.abs(one - two).max())}


def describe(structure: LabelledStructure) -> dict[str, Any]:
    """List all that a structure holds; layers are marks, not labels."""
    atoms = structure.atoms
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "basis": structure.basis.to_dict() if structure.basis is not None else None,
        **{
            name: getattr(structure, name)
            for name in (
                *("edge_index", "edge_cell_shift", "hamiltonian_blocks", "overlap_blocks"),
                *("fermi_energy", "energy", "forces", "stress"),
            )
        },
    }


def read_any(path: Path) -> list[dict[str, Any]]:
    """Read everything below a path, as ``mlepi inspect`` does."""
    return [describe(s) for source in find_sources([path]) for s in read_source(source)]


def make_all(folder: Path) -> dict[str, Small]:
    """Write one of every format.

    Args:
        folder: empty.

    Returns:
        Name → files and their reader.
    """
    return {**_own(folder), **_foreign(folder), **_forces(folder)}


def _small(path: Path, read: Callable[[Path], Any] = read_any) -> Small:
    files = (path,) if path.is_file() else tuple(sorted(p for p in path.iterdir() if p.is_file()))
    return Small(files, lambda: read(path))


def labelled_chain(name: str) -> LabelledStructure:
    """A chain of two atoms with hand-made blocks, exact in float32."""
    basis = OrbitalBasis({5: (0,), 7: (0, 1)}, {5: 1.2, 7: 1.4}, {5: "B-s1", 7: "N-s1p1"})
    atoms = Atoms("BN", [[0.0, 0.0, 0.0], [1.5, 0.1, 0.0]], cell=[3.1, 6.0, 6.0], pbc=True)
    atoms.arrays["layer"] = np.zeros(2, dtype=np.int64)
    edges = np.array([[0, 1, 1, 0], [0, 1, 0, 1]])
    blocks = np.zeros((4, 4, 4))
    blocks[0, 0, 0], blocks[1] = -8.0, np.diag([-12.0, -5.0, -5.0, -5.25])
    blocks[2, 0], blocks[3, :, 0] = [-3.0, 0.5, 0.25, 1.5], [-3.0, 0.5, 0.25, 1.5]
    overlap = np.where(blocks == 0, 0.0, 0.0)
    overlap[0, 0, 0], overlap[1] = 1.0, np.eye(4)
    return LabelledStructure(
        name=name,
        atoms=atoms,
        basis=basis,
        edge_index=edges,
        edge_cell_shift=np.zeros((4, 3), dtype=np.int64),
        hamiltonian_blocks=blocks,
        overlap_blocks=overlap,
        fermi_energy=-6.0,
        energy=-20.5,
        forces=np.array([[0.1, 0.0, 0.25], [-0.1, 0.0, -0.25]]),
        provenance={"kind": "chain"},
    )


def _own(folder: Path) -> dict[str, Small]:
    structures = [labelled_chain("a"), labelled_chain("b")]
    write_hamiltonian_dataset(folder / "plain.h5", structures, {"note": "small"})
    write_hamiltonian_dataset(folder / "packed.h5", structures, {"note": "small"}, quantum=2**-15)
    write_overlap_table(folder / "table.h5", gaussian_overlap_table(), {})
    write_extxyz(folder / "own.extxyz", structures)
    write_split(folder / "split.json", {"train": ["a", "b"], "val": ["c"]}, {"seed": 1})
    network = build_network("phonon")
    model = build_config("phonon")
    described = stamp("phonon", model, {"intra": 3.0, "inter": 4.2}, metadata={"epoch": 3})
    save_checkpoint(folder / "network.ckpt", described, network.state_dict())
    edges, shift = np.zeros((2, 1), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
    matrix = BlockMatrix(
        np.array([14]), OrbitalBasis({14: (0,)}, {14: 2.0}, {}), edges, shift, np.ones((1, 1, 1))
    )
    write_hamiltonian(folder / "matrix.h5", bulk("Si")[:1], matrix, matrix, {"seed": 1})
    part = PartFile(folder / "a.0.part", "digest", "code")
    for k in range(3):
        part.append((300.0, k), {"velocity": np.arange(4.0) + k})
    from stored_small_record import Numbers

    store = ResultsStore(folder / "run")
    store.write("phonon", Numbers(np.arange(5.0), "text", 0.5), "inputs", {"seed": 1}, code="code")
    return {
        "data set": _small(folder / "plain.h5"),
        "packed data set": _small(folder / "packed.h5"),
        "overlap table": _small(
            folder / "table.h5", lambda path: read_overlap_table(path).to_dict()
        ),
        "own extxyz": _small(folder / "own.extxyz"),
        "split": _small(
            folder / "split.json",
            lambda path: (read_split(path, "abc"), vars(read_named_subsets(path))),
        ),
        "checkpoint": _small(folder / "network.ckpt", load_checkpoint),
        "Hamiltonian file": _small(folder / "matrix.h5", _read_matrix),
        "part file": _small(folder / "a.0.part", _read_part),
        "records": _small(folder / "run", lambda path: _read_records(ResultsStore(path), Numbers)),
    }


def _read_matrix(path: Path) -> Any:
    atoms, hamiltonian, overlap = read_hamiltonian(path)
    parts = [
        [m.edge_index, m.edge_cell_shift, m.blocks, m.basis.to_dict()]
        for m in (hamiltonian, overlap)
    ]
    return [atoms.numbers, atoms.positions, atoms.cell.array, parts]


def _read_part(path: Path) -> Any:
    """Compare what is there with what was written; a half-written end is done again."""
    part = PartFile(path, "digest", "code")
    for (_, k), place in part.places().items():
        if list_differences({"velocity": np.arange(4.0) + k}, part.load(place)):
            return "changed"
    return "intact"


def _read_records(store: ResultsStore, kind: type) -> Any:
    names = {name: getattr(store, name)("phonon") for name in ("inputs", "content", "code")}
    return [vars(store.read("phonon", kind)), names, store.provenance("phonon")]


def _foreign(folder: Path) -> dict[str, Small]:
    sample = slater_koster_sample()
    (folder / "mx").mkdir()
    scfout = write_scfout(folder / "mx" / "sk.scfout", sample)
    scfout.with_suffix(".out").write_text(openmx_out(sample))
    (folder / "si").mkdir()
    write_hsx(folder / "si" / "sk.HSX", sample)
    found = {
        "OpenMX": folder / "mx",
        "SIESTA": folder / "si",
        "DeepH": write_new_folder(folder / "new", sample),
        "DeepH legacy": write_legacy_folder(folder / "legacy", sample),
        "ABACUS": write_abacus(folder / "run_abacus", _by_element(sample)),
        "dftio": write_dftio(folder / "dftio", sample),
        "k-mesh": write_kmesh(folder / "mesh", sample, (5, 5, 5)),
    }
    made = {name: _small(path) for name, path in found.items()}
    labels = labelled_chain("chain_0")
    keep = select_one_direction(labels.edge_index, labels.edge_cell_shift)
    basis = OrbitalBasis({6: (0,)}, {6: 1.5}, {6: "C-s1"})
    np.savez(
        folder / "chain_0.npz",
        cell=labels.atoms.cell.array,
        positions=labels.atoms.positions,
        numbers=np.array([6, 6]),
        layer=np.zeros(2, dtype=int),
        energy=-20.5,
        energy_d2=0.0,
        forces=labels.forces,
        fermi=-6.0,
        kgrid=np.array([4, 4, 1]),
        converged=True,
        job=json.dumps({"seed": 1}),
        i=labels.edge_index[1][keep],
        j=labels.edge_index[0][keep],
        R=labels.edge_cell_shift[keep],
        H=labels.hamiltonian_blocks[keep][:, :1, :1],
        S=np.where(np.arange(keep.sum())[:, None, None] < 2, 1.0, 0.05),
    )
    made["labels"] = _small(
        folder / "chain_0.npz", lambda path: describe(read_label_file(path, basis))
    )
    return made


def _by_element(sample: Sample) -> Sample:
    """Put the atoms of one element after the other."""
    order = np.argsort(-sample.numbers, kind="stable")
    pairs = sample.pairs.copy()
    pairs[:, 3:] = np.argsort(order)[pairs[:, 3:]]
    return replace(
        sample,
        positions=sample.positions[order],
        numbers=sample.numbers[order],
        pairs=pairs,
        forces=sample.forces[order],
    )


def _forces(folder: Path) -> dict[str, Small]:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.positions[0, 0] += 0.1
    forces = np.zeros((8, 3))
    forces[0, 0] = -0.75
    atoms.calc = SinglePointCalculator(atoms, energy=-27.0, forces=forces)
    write(folder / "plain.extxyz", [atoms, atoms])
    write(folder / "plain.traj", [atoms, atoms])
    write(folder / "POSCAR", atoms, format="vasp")
    write(folder / "rest.cif", atoms, format="cif")
    (folder / "vasp").mkdir()
    with h5py.File(folder / "vasp" / "vaspout.h5", "w") as file:
        steps = file.create_group("intermediate/ion_dynamics")
        steps["energies_tags"] = np.array([b"free energy TOTEN ", b"energy without "])
        steps["energies"], steps["forces"] = np.full((2, 2), -27.0), np.stack([forces] * 2)
        steps["position_ions"] = np.stack([atoms.get_scaled_positions()] * 2)
        steps["lattice_vectors"] = np.stack([atoms.cell.array] * 2)
        where = file.create_group("results/positions")
        where["ion_types"], where["number_ion_types"] = np.array([b"Na", b"Cl"]), np.array([4, 4])
    return {
        "foreign extxyz": _small(folder / "plain.extxyz"),
        "ASE trajectory": _small(folder / "plain.traj"),
        "vaspout.h5": _small(folder / "vasp" / "vaspout.h5"),
        "POSCAR": _small(folder / "POSCAR", _read_atoms),
        "CIF": _small(folder / "rest.cif", _read_atoms),
    }


def _read_atoms(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = read_structure(path)
    return [atoms.numbers, atoms.positions, atoms.cell.array]
