"""Writes GPAW's orbitals, projectors and corrections of S for ``mlepi``; a program of its own.

GPAW is under the GPL: nothing here imports it into mlepi, and this file imports nothing of mlepi.
``python gpaw_orbitals.py INPUT FOLDER`` leaves ``orbitals.json``, from which S of any structure
follows. Nothing is converged: it takes a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

POINTS = 401
"""Of every radial function, equal steps from 0 to where all of a set have vanished."""
DIGITS = 9
"""After the point, of R(r) in Bohr^(−3/2)."""


def export(source: str, folder: str) -> None:
    """Write the radial functions of elements, lengths in Bohr.

    Args:
        source: JSON with the chemical ``symbols``, the ``basis`` and the ``functional``.
        folder: must exist.
    """
    import gpaw
    from ase.data import atomic_numbers
    from gpaw.setup import Setups
    from gpaw.xc import XC

    given = json.loads(Path(source).read_text(encoding="utf-8"))
    symbols = given["symbols"]
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    setups = Setups(numbers, {}, given["basis"], XC(given["functional"]))
    elements = {
        symbol: {
            "orbitals": tabulate(setup.basis_functions_J),
            "projectors": tabulate(setup.pt_j),
            "corrections": setup.dO_ii.tolist(),
            "slopes": setup.nabla_iiv.transpose(2, 0, 1).tolist(),
        }
        for symbol, setup in zip(symbols, setups, strict=True)
    }
    content = {"code": f"gpaw {gpaw.__version__}", "elements": elements}
    (Path(folder) / "orbitals.json").write_text(json.dumps(content), encoding="utf-8")
    print("DONE")


def tabulate(functions: Any) -> dict[str, Any]:
    """Return l and R(r) of radial functions, which GPAW has as R(r)/r^l.

    Args:
        functions: splines of GPAW.
    """
    import numpy as np

    radius = max(function.get_cutoff() for function in functions)
    r = np.linspace(0.0, radius, POINTS)
    shells = [int(function.get_angular_momentum_number()) for function in functions]
    values = [
        np.round(function.map(r) * r**l, DIGITS).tolist()
        for l, function in zip(shells, functions, strict=True)
    ]
    return {"shells": shells, "radius": float(radius), "values": values}


if __name__ == "__main__":
    export(*sys.argv[1:])
