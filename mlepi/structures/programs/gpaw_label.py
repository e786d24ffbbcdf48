"""One calculation of GPAW for ``mlepi label``; a program of its own, in GPAW's own Python.

GPAW is under the GPL: nothing here imports it into mlepi, and this file imports nothing of mlepi.
``python gpaw_label.py INPUT FOLDER`` leaves the files of ``gpaw_export``, energy and forces, and
GPAW's bands at k-points on no mesh.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HELD_OUT = ((0.11, 0.23, 0.17), (0.41, -0.19, 0.31))
"""Fractional k-points at which bands are written; 0 along axes that have one k-point."""


def build_parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``gpaw.GPAW`` for an input of mlepi.

    Args:
        given: the input, lengths in Å, the width of the occupations in eV.
    """
    return {
        "mode": "lcao",
        "basis": given["basis"],
        "xc": given["functional"],
        "gpts": tuple(given["grid"]),
        "kpts": {"size": tuple(given["mesh"]), "gamma": True},
        "symmetry": {"point_group": False},
        "occupations": {"name": "fermi-dirac", "width": given["width"]},
        "convergence": {"density": given["criterion"]},
        "maxiter": given["steps"],
        "mixer": {"backend": "pulay", "beta": given["mixing"], "nmaxold": 5, "weight": 50.0},
        "txt": "gpaw.txt",
    }


def label(source: str, folder: str) -> None:
    """Compute a structure.

    Args:
        source: input, JSON.
        folder: for what is left.
    """
    import ase.io
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.units import Hartree
    from gpaw import GPAW, KohnShamConvergenceError
    from gpaw_export import export  # lies beside this file

    given = json.loads(Path(source).read_text(encoding="utf-8"))
    atoms = Atoms(given["symbols"], given["positions"], cell=given["cell"], pbc=True)
    atoms.calc = GPAW(**build_parameters(given))
    try:
        energy = atoms.get_potential_energy(force_consistent=True)  # forces are its derivatives
        forces = atoms.get_forces()
    except KohnShamConvergenceError:
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        sys.exit(f"REFUSED not converged after {given['steps']} steps|self-consistency|{fix}")
    file = str(Path(folder) / "label.gpw")
    atoms.calc.write(file)
    export(file, folder)
    kpoints = [
        [x if n > 1 else 0.0 for x, n in zip(k, given["mesh"], strict=True)] for k in HELD_OUT
    ]
    beside = atoms.calc.fixed_density(kpts=kpoints, symmetry="off", nbands="nao", txt=None)
    rows = [
        [*kpoint, *(beside.get_eigenvalues(kpt=k) / Hartree)] for k, kpoint in enumerate(kpoints)
    ]
    lines = [" ".join(f"{x:.14e}" for x in row) for row in rows]
    (Path(folder) / "bands.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    frame.calc = SinglePointCalculator(frame, energy=energy, free_energy=energy, forces=forces)
    ase.io.write(Path(folder) / "frames.xyz", frame, format="extxyz")
    print("DONE")


if __name__ == "__main__":
    label(*sys.argv[1:])
