"""Codes that are packages of Python: a small script of ours runs in the Python that has them.

The script gets the input as JSON and leaves H(k) and S(k) on the mesh, which ``kmesh_files`` turns
into H(R) and S(R).
"""

from __future__ import annotations

import json
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlepi.errors import ConfigError, DataError, NotConvergedError, message
from mlepi.labelling.code import Calculation, Code
from mlepi.labelling.job import INPUT
from mlepi.labelling.program import ask_program, run_to_end
from mlepi.labelling.program_code import MORE_STEPS, OUTPUT, SAFER_MIXING, check_positive
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure, programs
from mlepi.structures.child_process import REFUSED
from mlepi.structures.cp2k import compare_levels
from mlepi.structures.k_density import choose_mesh
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.units import HARTREE
from mlepi.untrusted import read_text

BANDS = "bands.txt"
"""Rows of a fractional k-point on no mesh and the package's own energies there, Hartree."""

NOT_CONVERGED = "not converged"
"""Begins what a script says of itself when self-consistency was not reached."""


class PythonCode(Code):
    """A package that computes in a Python of its own.

    Args:
        python: that has it, with arguments such as those of mpirun before it.
        hours: that one attempt may take.
        k_spacing: largest distance of two k-points, 1/Å, 2π included.
        vacuum: Å of empty space along an axis from which it has one k-point.
        steps: of self-consistency at most; three times as many at the second attempt.
        mixing: part of the new density, 0 to 1; a third of it at the second attempt.
        largest_band_error: eV, between bands of H(R), S(R) beside the mesh and the package's own.

    Raises:
        ConfigError: a number that is not positive.
    """

    package: str
    """Name by which it is imported."""
    install: str
    """How it is installed."""
    infers_radii = True

    def __init__(
        self,
        *,
        python: str,
        hours: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        largest_band_error: float,
    ) -> None:
        check_positive(hours=hours, k_spacing=k_spacing, vacuum=vacuum, steps=steps, mixing=mixing)
        check_positive(largest_band_error=largest_band_error)
        self._python, self._hours = shlex.split(python), hours
        self._k_spacing, self._vacuum = k_spacing, vacuum
        self._steps, self._mixing = steps, mixing
        self._largest_error = largest_band_error

    def find_version(self) -> str:
        """Return the version of the package.

        Raises:
            ConfigError: this Python does not have it.
        """
        name = self.package
        said = ask_program(
            self._python, "-c", f"import {name}; print('{name}', {name}.__version__)"
        )
        words = said.split()
        if words[:1] != [name]:
            got = f"{' '.join(self._python)!r}, which cannot import {name}"
            raise ConfigError(message("dft.python", got, f"a Python with {name}", self.install))
        return " ".join(words[:2])

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide labels."""
        density = {"k_spacing": self._k_spacing, "vacuum": self._vacuum}
        return {**self._describe(), **density}

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the structure and what is to be done with it, as JSON."""
        again = attempt > 1
        content = {
            "cell": atoms.cell.tolist(),
            "symbols": atoms.get_chemical_symbols(),
            "positions": atoms.positions.tolist(),
            "mesh": list(choose_mesh(atoms, self._k_spacing, self._vacuum)),
            "steps": self._steps * (MORE_STEPS if again else 1),
            "mixing": round(self._mixing * (SAFER_MIXING if again else 1.0), 10),
            **self._choose(atoms),
        }
        return json.dumps(content, indent=1) + "\n"

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Run the script and read what it has left."""
        folder = calculation.folder
        script = Path(programs.__file__).with_name(f"{self.package}_label.py")
        command = [*self._python, str(script), INPUT, "."]
        run_to_end(calculation, command, hours=self._hours, printed=OUTPUT)
        self._check_end(folder / OUTPUT)
        labels = read_kmesh(folder, 0, calculation.name)
        if labels.energy is None or labels.forces is None:
            fix = f"Look at {folder / OUTPUT}."
            raise DataError(message(str(folder), "no energy or forces", "both", fix))
        labels = self._check(folder, return_labels(labels, calculation.atoms))
        mesh = json.loads(calculation.text)["mesh"]
        return replace(labels, provenance={**labels.provenance, "k_mesh": mesh})

    @abstractmethod
    def _describe(self) -> dict[str, Any]:
        """Return what decides labels, beside the density of k-points."""

    @abstractmethod
    def _choose(self, atoms: Atoms) -> Mapping[str, Any]:
        """Return what the script needs to know of a structure, plain data."""

    def _check(self, folder: Path, labels: LabelledStructure) -> LabelledStructure:
        """Compare bands beside the mesh with those that the script has left."""
        rows = np.loadtxt(folder / BANDS, ndmin=2)
        error = compare_levels(labels, [(row[:3], row[3:] * HARTREE) for row in rows])
        if not error <= self._largest_error:
            got = f"bands of H and S that differ from {self.package}'s own by {error:.2g} eV"
            fix = "Take more k-points (dft.k_spacing), or raise dft.largest_band_error."
            expected = f"at most {self._largest_error:g} eV"
            raise DataError(message(str(folder), got, expected, fix))
        return replace(labels, provenance={**labels.provenance, "band_error": error})

    def _check_end(self, output: Path) -> None:
        """Refuse a run whose script says, or shows, that it has failed."""
        lines = read_text(output).strip().splitlines() or ["no text"]
        fix = "Look at the end of the file."
        if lines[-1].startswith(REFUSED):
            found, expected, remedy = lines[-1].removeprefix(REFUSED).split("|")
            kind = NotConvergedError if found.startswith(NOT_CONVERGED) else DataError
            raise kind(message(str(output), found, expected, remedy))
        if lines[-1] != "DONE":
            raise DataError(message(str(output), lines[-1][:200], "DONE", fix))
