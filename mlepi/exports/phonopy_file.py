"""Force constants as ``phonopy_params.yaml``, written by phonopy."""

from __future__ import annotations

from pathlib import Path

from mlepi.exports.output import new_file
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.phonopy_order import load_phonopy


def write_phonopy(path: str | Path, force_constants: ForceConstants) -> None:
    """Write cell, supercell and force constants, which ``phonopy.load(path)`` takes up.

    The cell is its own primitive cell, and atoms are in phonopy's order; units are phonopy's own,
    Å, amu and eV/Å², those of VASP.

    Args:
        path: new file, ``*.yaml``; appears complete or not at all.
        force_constants: eV/Å².

    Raises:
        DataError: the file exists.
    """
    phonon, _ = load_phonopy(
        force_constants.atoms, force_constants.supercell, force_constants.values
    )
    with new_file(path) as unfinished:
        phonon.save(unfinished, settings={"force_constants": True})
