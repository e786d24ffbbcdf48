"""Files of two materials as their owners have them: MoS2 in DeepH folders, copper in extxyz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hamiltonian_samples import Sample, write_new_folder

MOS2 = Path(__file__).resolve().parents[2] / "shared" / "data" / "openmx-mos2"
"""Labels of OpenMX, Mo7.0-s3p2d2 and S7.0-s2p2d1; see the README beside them."""

SHELLS = {42: [0, 0, 0, 1, 1, 2, 2], 16: [0, 0, 1, 1, 2]}
ELECTRONS = {42: 14.0, 16: 6.0}
"""Of Mo_PBE19 and S_PBE19."""


def read_mos2(name: str) -> Sample:
    """Read one label file; skip the test where there is none."""
    if not (MOS2 / f"{name}.npz").is_file():
        pytest.skip(f"{MOS2} is absent")
    with np.load(MOS2 / f"{name}.npz", allow_pickle=False) as data:
        i, j, R = (data[key].astype(int) for key in ("i", "j", "R"))
        counts = np.array([sum(2 * l + 1 for l in SHELLS[z]) for z in data["numbers"].tolist()])
        ends = np.cumsum(counts[i] * counts[j])[:-1]
        H, S = (
            [
                part.reshape(counts[a], counts[b])
                for part, a, b in zip(np.split(data[key].astype(float), ends), i, j, strict=True)
            ]
            for key in ("H", "S")
        )
        there = np.column_stack([R, i, j])
        back = np.column_stack([-R, j, i])
        new = np.any(there != back, axis=1)
        return Sample(
            name=name,
            cell=data["cell"],
            positions=data["positions"],
            numbers=data["numbers"].astype(int),
            pao={42: "Mo7.0-s3p2d2", 16: "S7.0-s2p2d1"},
            shells=SHELLS,
            radii={42: 7.0 * 0.529177210903, 16: 7.0 * 0.529177210903},
            pairs=np.concatenate([there, back[new]]),
            hamiltonian=H + [block.T for block, keep in zip(H, new, strict=True) if keep],
            overlap=S + [block.T for block, keep in zip(S, new, strict=True) if keep],
            fermi_energy=float(data["fermi"]),
            energy=float(data["energy"]),
            forces=data["forces"].astype(float),
        )


def write_mos2(folder: Path, names: Sequence[str]) -> None:
    """Write a DeepH folder and an extxyz file for every structure, as two calculations leave them.

    Args:
        folder: gets deeph/NAME/ and forces/NAME.extxyz.
        names: of label files.
    """
    (folder / "deeph").mkdir(parents=True)
    (folder / "forces").mkdir()
    for name in names:
        sample = read_mos2(name)
        write_new_folder(folder / "deeph" / name, sample)
        atoms = Atoms(sample.numbers, sample.positions, cell=sample.cell, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=sample.energy, forces=sample.forces)
        write(folder / "forces" / f"{name}.extxyz", atoms)


def write_copper(path: Path, n_structures: int) -> None:
    """Write rattled slabs of copper with the forces of effective-medium theory."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(n_structures):
        atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
        atoms.info.clear()  # of sites for adsorbates, which extxyz cannot hold
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(path, frames)


def write_vasp_run(folder: Path, frames: Sequence[Atoms]) -> None:
    """Write the ``vaspout.h5`` of one run of several steps, of atoms with energies and forces."""
    folder.mkdir(parents=True)
    symbols = list(dict.fromkeys(frames[0].get_chemical_symbols()))
    counts = [frames[0].get_chemical_symbols().count(symbol) for symbol in symbols]
    with h5py.File(folder / "vaspout.h5", "w") as file:
        steps, where = file.create_group("intermediate/ion_dynamics"), "results/positions"
        steps["energies_tags"] = np.array(["free energy    TOTEN   "], dtype="S23")
        steps["energies"] = np.array([[atoms.get_potential_energy()] for atoms in frames])
        steps["forces"] = np.array([atoms.get_forces() for atoms in frames])
        steps["position_ions"] = np.array([atoms.get_scaled_positions() for atoms in frames])
        steps["lattice_vectors"] = np.array([atoms.cell.array for atoms in frames])
        file[f"{where}/ion_types"] = np.array(symbols, dtype="S6")
        file[f"{where}/number_ion_types"] = np.array(counts)
