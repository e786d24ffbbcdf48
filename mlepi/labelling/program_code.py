"""What all codes that run as a program with files of input and output share."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

from mlepi.errors import ConfigError, DataError, message
from mlepi.labelling.code import Calculation, Code
from mlepi.labelling.program import refuse_program, run_to_end
from mlepi.structures import LabelledStructure
from mlepi.structures.k_density import choose_mesh
from mlepi.untrusted import read_text

OUTPUT = "output.txt"
"""File of what a program prints."""

SAFER_MIXING, MORE_STEPS = 1.0 / 3.0, 3
"""Factors of the second attempt."""

TITLE = "#### FILE "
"""Begins a line of an input of several files: what follows is the file of this name."""


class ProgramCode(Code):
    """A program, given by its command.

    Args:
        command: program, with arguments such as those of mpirun before it; no shell reads it.
        hours: that one attempt may take.
        k_spacing: largest distance of two k-points, 1/Å, 2π included.
        vacuum: Å of empty space along an axis from which it has one k-point.
        steps: of self-consistency at most; three times as many at the second attempt.
        mixing: part of the new density, 0 to 1; a third of it at the second attempt.

    Raises:
        ConfigError: a number that is not positive, or no command.
    """

    title: str
    """Of the program."""
    version: str
    """Regular expression of its version in what it writes, one group."""
    arguments: Sequence[str] = ()
    """After the command."""

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
    ) -> None:
        check_positive(hours=hours, k_spacing=k_spacing, vacuum=vacuum, steps=steps, mixing=mixing)
        if not command.split():
            fix = f"Set dft.command to that of {self.title}; with MPI, 'mpirun -np N …'."
            raise ConfigError(message("dft.command", repr(command), "a program", fix))
        self._command, self._hours = shlex.split(command), hours
        self._k_spacing, self._vacuum = k_spacing, vacuum
        self._steps, self._mixing = steps, mixing

    def find_version(self) -> str:
        """Return the name of the program; its outputs tell the version.

        Raises:
            ConfigError: the command is not there.
        """
        if shutil.which(self._command[0]) is None:
            raise refuse_program(self._command, FileNotFoundError(2, "No such file or directory"))
        return self.title

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide labels."""
        density = {"k_spacing": self._k_spacing, "vacuum": self._vacuum}
        return {**self._describe(), **density}

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Run the program and read what it has written."""
        write_files(calculation.folder, calculation.text)
        self._prepare(calculation)
        run_to_end(
            calculation,
            [*self._command, *self.arguments],
            hours=self._hours,
            printed=OUTPUT,
            environment=self._environment(),
        )
        labels = self._read(calculation)
        mesh = self.choose_mesh(calculation.atoms)
        provenance = {
            **labels.provenance,
            "code": self._find_version_in(calculation.folder),
            "k_mesh": list(mesh),
        }
        return replace(labels, name=calculation.name, provenance=provenance)

    def choose_mesh(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the divisions of the k-mesh of a structure."""
        return choose_mesh(atoms, self._k_spacing, self._vacuum)

    def soften(self, attempt: int) -> tuple[int, float]:
        """Return steps and mixing of an attempt."""
        if attempt == 1:
            return self._steps, self._mixing
        return self._steps * MORE_STEPS, round(self._mixing * SAFER_MIXING, 10)

    @abstractmethod
    def _describe(self) -> dict[str, Any]:
        """Return what decides labels, beside the density of k-points."""

    @abstractmethod
    def _read(self, calculation: Calculation) -> LabelledStructure:
        """Read the files of a calculation that has ended.

        Raises:
            NotConvergedError: self-consistency was not reached.
            DataError: a file is missing or damaged.
        """

    def _prepare(self, calculation: Calculation) -> None:
        """Put into the folder what the program needs beside its input."""

    def _environment(self) -> dict[str, str]:
        """Return variables that the program needs."""
        return {}

    def _version_files(self, folder: Path) -> list[Path]:
        """Return the files that may tell the version."""
        return [folder / OUTPUT]

    def _find_version_in(self, folder: Path) -> str:
        """Return name and version of the program that has written a folder."""
        for path in self._version_files(folder):
            found = re.search(self.version, read_text(path)) if path.is_file() else None
            if found:
                return f"{self.title} {found[1]}"
        return self.title


def check_positive(**numbers: float) -> None:
    """Refuse settings that are not positive.

    Raises:
        ConfigError: one is not.
    """
    wrong = [f"{name}={value}" for name, value in numbers.items() if not value > 0]
    if wrong:
        fix = "See the files in conf/dft."
        raise ConfigError(message("dft", ", ".join(wrong), "positive numbers", fix))


def join_files(files: Mapping[str, str]) -> str:
    """Return the texts of several files as one."""
    return "".join(f"{TITLE}{name}\n{text}" for name, text in files.items())


def write_files(folder: Path, text: str) -> None:
    """Write the files of which an input consists; one of a single file is there already."""
    if not text.startswith(TITLE):
        return
    for part in re.split(rf"^{TITLE}", text, flags=re.MULTILINE)[1:]:
        name, _, content = part.partition("\n")
        (folder / name).write_text(content, encoding="utf-8")


def find_element_files(
    key: str, folder: str | None, names: Mapping[str, str], atoms: Atoms
) -> dict[str, Path]:
    """Return the files of the elements of a structure, such as pseudopotentials.

    Args:
        key: of the config that names them, for messages.
        folder: in which they are.
        names: chemical symbol → file.
        atoms: structure.

    Raises:
        ConfigError: an element has none, or a file is not there.
    """
    symbols = sorted(set(atoms.get_chemical_symbols()))
    missing = [symbol for symbol in symbols if symbol not in names]
    if missing or not folder:
        got = f"none for {missing}" if missing else "no folder of them"
        fix = f"Name the folder, and a file per element: '{key}={{{symbols[0]}: …}}'."
        raise ConfigError(message(key, got, f"one for each of {symbols}", fix))
    paths = {symbol: Path(folder) / names[symbol] for symbol in symbols}
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if absent:
        raise ConfigError(message(key, f"no file {absent[0]}", "one", "Correct name or folder."))
    return paths


def describe_files(folder: str | None, names: Mapping[str, str]) -> dict[str, str]:
    """Return names of files with digests of their content, by which a set keeps to one level.

    Args:
        folder: in which they are; what is not there has no digest.
        names: chemical symbol → file.
    """
    described = {}
    for symbol, name in names.items():
        path = Path(folder or "") / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "?"
        described[symbol] = f"{name} (SHA-256 {digest})"
    return described


def require_file(path: Path, program: str) -> Path:
    """Return a file that a program must have written.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        got, fix = f"no {path.name}", f"Look at {path.parent / OUTPUT}: {program} has broken off."
        raise DataError(message(str(path.parent), got, f"the output of {program}", fix))
    return path
