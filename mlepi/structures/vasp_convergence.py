"""Which ionic steps of a VASP run ended before their electronic loop had converged."""

from __future__ import annotations

import re
from pathlib import Path

REACHED, NOT_REACHED = b"EDIFF is reached", b"EDIFF was not reached"
"""Lines of an OUTCAR: how an electronic loop ended."""

NELM = re.compile(rb'name="NELM"[^>]*>\s*(\d+)')
FIXED = re.compile(rb'\b(IALGO"?\s*[>=]\s*2|ICHARG"?\s*[>=]\s*1[0-2])\b')
"""ALGO = None or Nothing (VASP's manual): orbitals stay as they were read, or, where a dry run has
read none, as they were drawn at random. ICHARG from 10 on: the density stays as it was read, as in
runs of band structures, whose k-points are no mesh: energies are off by electronvolts."""
FIXED_DENSITY = range(10, 13)
"""ICHARG of these runs."""
FIXED_NAMES = ("none", "nothing")
"""The same as ALGO, which must be spelled out."""


def find_unconverged(path: Path, file_format: str, n_frames: int) -> list[int]:
    """List the steps, from 0, that have not converged; none where the file does not tell.

    Args:
        path: vasprun.xml.
        file_format: ASE's name of it.
        n_frames: that were read; a file with another number of steps does not tell.
    """
    converged = _read_vasprun(path) if file_format == "vasp-xml" else []
    if len(converged) != n_frames:
        return []
    return [step for step, reached in enumerate(converged) if not reached]


def _read_vasprun(path: Path) -> list[bool]:
    """Say of every step whether it took another number of electronic steps than NELM allows.

    More of them are several loops in one step, of density functional perturbation theory. Steps
    of fixed orbitals or density have not converged.
    """
    limit, fixed, counts = 0, False, [0]
    with path.open("rb") as file:
        for line in file:
            if not limit and (found := NELM.search(line)):
                limit = int(found[1])
            fixed = fixed or FIXED.search(line) is not None
            counts[-1] += line.count(b"<scstep>")
            counts += [0] * line.count(b"</calculation>")
    if fixed:
        return [False] * len(counts[:-1])
    return [count != limit for count in counts[:-1]] if limit > 1 else []
