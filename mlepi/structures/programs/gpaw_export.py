"""Writes H(k) and S(k) of a GPAW calculation for ``kmesh_files``; a program of its own.

GPAW is under the GPL: nothing here imports it into mlepi, and this file imports nothing of mlepi.
GPAW's own Python runs it, ``gpaw python gpaw_export.py RUN.gpw FOLDER``, or ``gpaw_files`` does.

The run must be in mode "lcao" without spin, with ``symmetry={"point_group": False}`` and a mesh of
k-points with Γ. ``get_lcao_hamiltonian`` gives the irreducible half, H(−k) = H(k)* the other; GPAW
orders its real harmonics as e3nn does, m = −l…l.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def export(source: str, folder: str) -> None:
    """Write frames.xyz, NAME_fock_0.npy and NAME_over_0.npy in Hartree, and kmesh.json.

    Args:
        source: ``.gpw`` file, written with or without wave functions.
        folder: must exist.
    """
    import ase.io
    import gpaw
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.units import Hartree
    from gpaw import GPAW
    from gpaw.lcao.tools import get_lcao_hamiltonian

    calculation: Any = GPAW(source, txt=None)
    kd, atoms = calculation.wfs.kd, calculation.get_atoms().copy()
    parameters = calculation.parameters
    mode = parameters.mode if hasattr(parameters, "mode") else parameters["mode"]
    given = mode.get("name") if isinstance(mode, dict) else mode
    mode_name = str(getattr(given, "name", given)).lower()
    if mode_name != "lcao":
        sys.exit(f"REFUSED a calculation in mode {mode_name!r}|lcao|Repeat it with mode='lcao'.")
    if calculation.get_number_of_spins() != 1:
        sys.exit("REFUSED two spins|a calculation without spin|Repeat it with spinpol=False.")
    if len(kd.symmetry.op_scc) != 1:
        fix = "Repeat it with symmetry={'point_group': False}."
        sys.exit(f"REFUSED k-points reduced by {len(kd.symmetry.op_scc)} symmetries|all|{fix}")
    mesh = [int(n) for n in kd.N_c] if kd.N_c is not None else [1, 1, 1]
    steps = np.asarray(kd.bzk_kc) * mesh
    if np.abs(steps - np.rint(steps)).max() > 1e-6 or len(steps) != np.prod(mesh):
        fix = "Repeat it with kpts={'size': …, 'gamma': True}."
        sys.exit(f"REFUSED k-points that are no mesh with Γ|such a mesh|{fix}")
    hamiltonian, overlap = get_lcao_hamiltonian(calculation)
    order = np.ravel_multi_index(
        tuple(np.rint(steps).astype(int).T % np.array(mesh)[:, None]), mesh
    )
    name = Path(source).stem
    for what, irreducible in (("fock", hamiltonian[0] / Hartree), ("over", overlap)):
        matrices = np.empty((len(steps), *irreducible.shape[1:]), dtype=complex)
        for k, place in enumerate(order):
            matrix = irreducible[kd.bz2ibz_k[k]]
            matrices[place] = matrix.conj() if kd.time_reversal_k[k] else matrix
        np.save(Path(folder) / f"{name}_{what}_0.npy", matrices)
    shells = {
        setup.symbol: [int(function.l) for function in setup.basis.bf_j]
        for setup in calculation.wfs.setups
    }
    results = {
        key: calculation.results[key] for key in ("energy", "forces") if key in calculation.results
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(Path(folder) / "frames.xyz", atoms, format="extxyz")
    settings = {
        "mesh": mesh,
        "shells": shells,
        "order": "e3nn",
        "fermi_energy": float(calculation.get_fermi_level()),
        "code": f"gpaw {gpaw.__version__}",
    }
    (Path(folder) / "kmesh.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    export(*sys.argv[1:])
