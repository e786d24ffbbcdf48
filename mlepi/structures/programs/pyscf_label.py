"""One calculation of PySCF for ``mlepi label``; a program of its own, which needs nothing but it.

``python pyscf_label.py INPUT FOLDER`` leaves H(k) and S(k) for ``kmesh_files``, energy and forces,
and PySCF's bands at k-points on no mesh.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HELD_OUT = ((0.11, 0.23, 0.17), (0.41, -0.19, 0.31))
"""Fractional k-points at which bands are written; 0 along axes that have one k-point."""


def label(source: str, folder: str) -> None:
    """Compute a structure.

    Args:
        source: input, JSON.
        folder: for what is left.
    """
    import numpy as np
    import pyscf
    from pyscf.data.nist import BOHR, HARTREE2EV
    from pyscf.pbc import dft, gto
    from pyscf.pbc.scf.addons import smearing_

    given = json.loads(Path(source).read_text(encoding="utf-8"))
    cell: Any = gto.Cell()
    cell.a, cell.unit, cell.verbose = np.array(given["cell"]), "Angstrom", 4
    cell.atom = list(zip(given["symbols"], given["positions"], strict=True))
    cell.basis, cell.pseudo = given["basis"], given["potential"]
    cell.ke_cutoff, cell.precision = given["cutoff"], 1e-10
    cell.build()
    mesh = given["mesh"]
    # k and −k, not k and 1 − k: plane waves around both are the same ones then, up to their sign
    kmesh = cell.make_kpts(mesh, wrap_around=True)
    field: Any = dft.KRKS(cell, kmesh, xc=given["functional"])
    field = smearing_(field, sigma=given["width"], method="fermi")
    field.conv_tol, field.max_cycle = given["criterion"], given["steps"]
    field.damp = 1.0 - given["mixing"]
    field.kernel()
    if not field.converged:
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        sys.exit(f"REFUSED not converged after {given['steps']} steps|self-consistency|{fix}")
    gradient = field.nuc_grad_method().kernel()
    forces = -gradient * (HARTREE2EV / BOHR)
    out = Path(folder)
    np.save(out / "label_fock_0.npy", np.asarray(field.get_fock(dm=field.make_rdm1())))
    np.save(out / "label_over_0.npy", np.asarray(field.get_ovlp()))
    kpoints = np.array(HELD_OUT) * (np.array(mesh) > 1)
    energies, _ = field.get_bands(cell.get_abs_kpts(kpoints))
    np.savetxt(out / "bands.txt", np.hstack([kpoints, np.asarray(energies)]), fmt="%.14e")
    energy = float(getattr(field, "e_free", None) or field.e_tot) * HARTREE2EV
    write_frame(out / "frames.xyz", given, energy, forces.tolist())
    shells: dict[str, list[int]] = {}
    for symbol in sorted(set(given["symbols"])):
        atom = given["symbols"].index(symbol)
        shells[symbol] = [
            int(cell.bas_angular(i))
            for i in range(cell.nbas)
            if cell.bas_atom(i) == atom
            for _ in range(cell.bas_nctr(i))
        ]
    settings = {
        "mesh": mesh,
        "shells": shells,
        "order": "pyscf",
        "fermi_energy": float(np.asarray(field.get_fermi()).ravel()[0]) * HARTREE2EV,
        "code": f"pyscf {pyscf.__version__}",
    }
    (out / "kmesh.json").write_text(json.dumps(settings), encoding="utf-8")
    print("DONE")


def write_frame(path: Path, given: dict[str, Any], energy: float, forces: list[Any]) -> None:
    """Write structure, energy (eV) and forces (eV/Å) as extended xyz.

    Args:
        path: file.
        given: the input.
        energy: eV.
        forces: (n_atoms, 3), eV/Å.
    """
    lattice = " ".join(f"{x:.14g}" for vector in given["cell"] for x in vector)
    lines = [
        f"{len(given['symbols'])}",
        f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 energy={energy:.14g} '
        'pbc="T T T"',
    ]
    rows = zip(given["symbols"], given["positions"], forces, strict=True)
    lines += [f"{s} " + " ".join(f"{x:.12f}" for x in [*r, *f]) for s, r, f in rows]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    label(*sys.argv[1:])
