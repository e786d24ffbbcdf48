"""One structure of a set: its folder, its state, and the attempts at it.

``structure.json`` is the structure as it was given, ``state.json`` how far it is, ``attempt-N`` the
files of an attempt, ``labels.h5`` and ``labels.extxyz`` what came out. Every file appears complete
or not at all, the state last: whatever kills the process, only the attempt that was running is
lost.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlepi.errors import DataError, message
from mlepi.labelling.structure_files import NamedStructure
from mlepi.project_files import write_json
from mlepi.structures import (
    HamiltonianDataset,
    LabelledStructure,
    get_layers,
    read_forces_dataset,
    write_extxyz,
    write_hamiltonian_dataset,
)
from mlepi.structures.ase_files import find_unfit_keys
from mlepi.untrusted import read_json

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STATES = (WAITING, RUNNING, DONE, FAILED)

STRUCTURE, STATE = "structure.json", "state.json"
HAMILTONIAN, FORCES = "labels.h5", "labels.extxyz"
INPUT = "input.txt"
"""The text that decided the labels, in the folder of every attempt."""


@dataclass(frozen=True)
class Attempt:
    """One attempt that has ended.

    Attributes:
        number: 1 or 2.
        started: UTC.
        seconds: wall time.
        input_sha256: of the input.
        version: of the program.
        reason: why it failed; empty where it did not.
    """

    number: int
    started: str
    seconds: float
    input_sha256: str
    version: str
    reason: str = ""


@dataclass(frozen=True)
class State:
    """How far a structure is.

    Attributes:
        status: one of ``STATES``.
        attempts: that have ended, in order.
    """

    status: str = WAITING
    attempts: tuple[Attempt, ...] = field(default_factory=tuple)

    @property
    def reason(self) -> str:
        """Why the last attempt failed; empty where it did not."""
        return self.attempts[-1].reason if self.attempts else ""

    @property
    def seconds(self) -> float:
        """Wall time of all attempts."""
        return sum(attempt.seconds for attempt in self.attempts)


class Job:
    """The folder of one structure.

    Args:
        folder: of the structure; its name is that of the structure.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    def write_structure(self, structure: NamedStructure) -> None:
        """Keep the structure, unless it is there.

        Raises:
            DataError: another structure of this name is there.
        """
        content = to_plain(structure)
        path = self.folder / STRUCTURE
        if path.is_file():
            if read_json(path) != content:
                got, expected = "another structure of this name", "the one that was labelled"
                fix = "Rename the new one, or choose another folder."
                raise DataError(message(f"{path}", got, expected, fix))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)

    def read_structure(self) -> NamedStructure:
        """Return the structure as it was given."""
        content = read_json(self.folder / STRUCTURE)
        cell, positions = np.array(content["cell"]), np.array(content["positions"])
        atoms = Atoms(content["numbers"], positions, cell=cell, pbc=True)
        if "layer" in content:
            atoms.set_array("layer", np.array(content["layer"], dtype=np.int64))
        return NamedStructure(content["name"], atoms, content["notes"])

    def read_state(self) -> State:
        """Return how far it is.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder / STATE
        if not path.is_file():
            return State()
        content = read_json(path)
        try:
            attempts = tuple(Attempt(**attempt) for attempt in content["attempts"])
            if content["status"] in STATES:
                return State(content["status"], attempts)
        except (TypeError, KeyError):
            pass
        fix = "Remove it: the structure is then labelled anew."
        raise DataError(message(str(path), "a damaged file", f"one of {STATES}", fix))

    def write_state(self, state: State) -> None:
        """Keep how far it is."""
        write_json(self.folder / STATE, asdict(state))

    def attempt_folder(self, number: int) -> Path:
        """Return the folder of the files of an attempt."""
        return self.folder / f"attempt-{number}"

    def open_attempt(self, number: int, text: str) -> Path:
        """Return an empty folder for an attempt, with the input in it.

        One that is there goes out of the way first, and is removed last, so that the two are never
        taken for one: a program whose run was killed may still write into it.
        """
        folder = self.attempt_folder(number)
        old = self.folder / f".{folder.name}.{secrets.token_hex(4)}"
        if folder.exists():
            folder.rename(old)
        folder.mkdir(parents=True)
        (folder / INPUT).write_text(text, encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        return folder.resolve()

    def read_labels(self) -> LabelledStructure:
        """Return the labels: with H and S where the code gives them."""
        path = self.folder / HAMILTONIAN
        if not path.is_file():
            return read_forces_dataset(self.folder / FORCES)[0]
        data = HamiltonianDataset(path)
        try:
            return data[0]
        finally:
            data.close()

    def write_labels(self, labels: LabelledStructure, notes: Mapping[str, Any]) -> None:
        """Keep labels of the structure, with where they come from.

        Args:
            labels: of a code.
            notes: of the structure and of the calculation; plain data.

        Raises:
            DataError: they are incomplete, or not of this structure.
        """
        given = self.read_structure().atoms
        same = (
            len(labels.atoms) == len(given)
            and np.array_equal(labels.atoms.numbers, given.numbers)
            and np.allclose(labels.atoms.positions, given.positions, atol=1e-8, rtol=0.0)
            and np.allclose(labels.atoms.cell.array, given.cell.array, atol=1e-8, rtol=0.0)
        )
        if not same:
            fix = "Report it: the reader of this code moves atoms."
            raise DataError(message(self.name, "labels of another structure", "its own", fix))
        provenance = {**notes, **labels.provenance}
        atoms = given if "layer" in given.arrays else labels.atoms.copy()
        atoms.set_array("layer", get_layers(atoms))
        complete = replace(labels, name=self.name, atoms=atoms, provenance=provenance)
        if complete.hamiltonian_blocks is not None:
            write_hamiltonian_dataset(self.folder / HAMILTONIAN, [complete], {})
        for key in find_unfit_keys(dict(provenance)):
            del provenance[key]
        write_extxyz(self.folder / FORCES, [replace(complete, provenance=provenance)])


def to_plain(structure: NamedStructure) -> dict[str, Any]:
    """Return a structure as plain data that keeps every digit."""
    atoms = structure.atoms
    layer = {"layer": atoms.arrays["layer"].tolist()} if "layer" in atoms.arrays else {}
    return {
        "name": structure.name,
        "numbers": atoms.numbers.tolist(),
        "cell": atoms.cell.tolist(),
        "positions": atoms.positions.tolist(),
        **layer,
        "notes": dict(structure.notes),
    }


def hash_text(text: str) -> str:
    """Return the SHA-256 of an input."""
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """Return the present time, UTC."""
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S")
