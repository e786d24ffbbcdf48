"""Reader of GPAW's ``.gpw`` in mode lcao, through GPAW's own Python.

GPAW is under the GPL and never imported: ``programs/gpaw_export.py`` runs as a program of its own
and leaves H(k) and S(k) as files, which ``kmesh_files`` reads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mlepi.errors import DataError, message
from mlepi.structures import programs
from mlepi.structures.child_process import run_program
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.labelled_structure import LabelledStructure

GPAW_PYTHON = "MLEPI_GPAW_PYTHON"
"""Environment variable with the Python in which GPAW is installed."""

EXPORT = Path(programs.__file__).with_name("gpaw_export.py")


def find_gpaw() -> list[str] | None:
    """Return the command that runs a script in GPAW's Python; None where there is none."""
    python, gpaw = os.environ.get(GPAW_PYTHON), shutil.which("gpaw")
    return [python] if python else [gpaw, "python"] if gpaw else None


def read_gpaw(path: str | Path, name: str | None = None) -> LabelledStructure:
    """Read the labels of a GPAW run with orbitals and without spin.

    Args:
        path: ``.gpw``.
        name: name of the structure; the stem of the file when None.

    Returns:
        Labels in eV, Å and internal order, with Fermi energy, and energy and forces where computed.

    Raises:
        DataError: GPAW is not found or fails, the run is of another mode or symmetric, or an
            invariant of ``validation`` is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "a .gpw of GPAW", "Check the path."))
    command = find_gpaw()
    if command is None:
        fix = (
            f"Set {GPAW_PYTHON} to its Python, or run there: "
            f"gpaw python {EXPORT} {path.name} FOLDER, and convert the folder."
        )
        raise DataError(message(str(path), "no program gpaw", "GPAW, which reads its file", fix))
    with tempfile.TemporaryDirectory() as folder:
        fix = "Try it by hand: the file must be of a complete run in mode lcao."
        run_program(str(path), [*command, EXPORT, path.resolve(), folder], fix)
        try:
            return read_kmesh(folder, 0, name or path.stem)
        except DataError as error:
            raise DataError(str(error).replace(folder, str(path))) from error
