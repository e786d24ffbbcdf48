"""The folder of a labelled set: what all its structures have in common, its jobs, its data.

``set.json`` says which code with which settings labels it, and the order of the structures;
``jobs/NAME`` is the folder of each. ``hamiltonians.h5``, ``forces.extxyz``, ``overlap.h5``,
``failed.tsv`` and the card ``README.md`` follow from them and are written anew each time.
Several processes, on several machines, may work in one folder: a job is locked by whom it runs, the
set itself only while it is written.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, UnusualDataWarning, message
from mlepi.graphs.overlap_labels import measure_augmented_errors
from mlepi.labelling.code import Code
from mlepi.labelling.job import DONE, FAILED, FORCES, HAMILTONIAN, STRUCTURE, Job
from mlepi.labelling.structure_files import NamedStructure
from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    OverlapErrors,
    OverlapSample,
    measure_overlap_errors,
    write_overlap_table,
)
from mlepi.project_files import write_json, write_whole
from mlepi.run_lock import acquire
from mlepi.structures import HamiltonianDataset
from mlepi.structures.bonds import find_bonds
from mlepi.structures.conversion import join_frames
from mlepi.structures.dataset_merge import merge_hamiltonian_datasets
from mlepi.untrusted import read_json

SETTINGS, JOBS, NOISE = "set.json", "jobs", "noise"
DATA, FRAMES, OVERLAP = "hamiltonians.h5", "forces.extxyz", "overlap.h5"
REFUSED = "failed.tsv"
FORMAT = 1
"""Of ``set.json``."""

PATIENCE, LOOK = 600.0, 0.5
"""s that another process is given to write the set, and between two looks."""
COMPARED = 10
"""Structures whose S is compared with that of the table."""


@dataclass(frozen=True)
class Written:
    """What the data of a set were made of.

    Attributes:
        names: of the labelled structures, in order.
        failed: name → reason.
        overlaps: how well the table of overlaps meets S; None where there is no table.
    """

    names: list[str]
    failed: Mapping[str, str]
    overlaps: OverlapErrors | None


class LabelledSet:
    """The folder of a set.

    Args:
        folder: of the set; made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that writes the set itself, after waiting for others that do.

        Raises:
            DataError: another process holds it for long, or it cannot be written to.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                lock = acquire(self.folder)
                break
            except DataError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK)
        with lock:
            yield

    def prepare(
        self, code: Code, version: str, structures: Sequence[NamedStructure]
    ) -> Mapping[str, Any]:
        """Take structures into the set; those that are in it stay as they are. To be locked.

        Args:
            code: that labels them.
            version: of it.
            structures: with names that are new, or of the same structures.

        Returns:
            What all structures have in common.

        Raises:
            DataError: the set was begun with another code, version or settings, or a name means
                another structure.
        """
        common = {"version": version, **code.describe()}
        path = self.folder / SETTINGS
        stored: dict[str, Any] = {"format": FORMAT, "common": common}
        if path.is_file():
            stored = read_json(path)
        if stored.get("format") != FORMAT:
            got, fix = f"format {stored.get('format')}", "Use the mlepi that wrote it."
            raise DataError(message(str(path), got, f"format {FORMAT}", fix))
        differ = list_differences(stored["common"], common)
        if differ:
            fix = "Labels of different settings are different sets: choose another folder."
            expected = "the settings with which this set was begun"
            raise DataError(message(str(path), "; ".join(differ), expected, fix))
        names = list(stored.get("names", []))
        for structure in structures:
            self.job(structure.name).write_structure(structure)
            if structure.name not in names:
                names.append(structure.name)
        write_json(path, {**stored, "names": names})
        return common

    def job(self, name: str) -> Job:
        """Return the job of a structure."""
        return Job(self.folder / JOBS / name)

    def jobs(self) -> list[Job]:
        """Return the jobs in the order in which structures came."""
        path = self.folder / SETTINGS
        names = read_json(path).get("names", []) if path.is_file() else []
        return [self.job(name) for name in names]

    @property
    def noise(self) -> Job | None:
        """The first structure once more, shifted; None before it was asked for."""
        found = sorted((self.folder / NOISE).glob(f"*/{STRUCTURE}"))
        return Job(found[0].parent) if found else None

    def write_data(self, code: Code, common: Mapping[str, Any]) -> Written:
        """Write the data of all structures that are labelled; to be locked.

        Args:
            code: that has labelled them.
            common: what all of them have in common.

        Returns:
            What was written; nothing is where no structure is labelled.
        """
        jobs = self.jobs()
        states = {job.name: job.read_state() for job in jobs}
        done = [job for job in jobs if states[job.name].status == DONE]
        failed = {n: s.reason.replace("\n", " ") for n, s in states.items() if s.status == FAILED}
        rows = [f"{name}\t{reason}" for name, reason in failed.items()]
        if rows:
            write_whole(self.folder / REFUSED, "\n".join(["name\treason", *rows, ""]))
        else:
            (self.folder / REFUSED).unlink(missing_ok=True)
        if not done:
            return Written([], failed, None)
        provenance = {"code": common["version"], "settings": dict(common)}
        names = [job.name for job in done]
        join_frames([job.folder / FORCES for job in done], self.folder / FRAMES)
        if not code.gives_matrices:
            return Written(names, failed, None)
        parts = [HamiltonianDataset(job.folder / HAMILTONIAN) for job in done]
        merge_hamiltonian_datasets(
            self.folder / DATA, parts, provenance, largest_radii=code.infers_radii
        )
        return Written(names, failed, self._write_overlaps(code, common))

    def _write_overlaps(self, code: Code, common: Mapping[str, Any]) -> OverlapErrors | None:
        """Write the table of overlaps, and compare it with S of some structures."""
        data = HamiltonianDataset(self.folder / DATA)
        try:
            table = code.tabulate_overlaps(data.basis)
            if table is None:
                return None
            structures = [data[k] for k in range(min(COMPARED, len(data)))]
        finally:
            data.close()
        if isinstance(table, AugmentedOverlapTable):
            errors = measure_augmented_errors(table, structures)
        else:
            samples = []
            for structure in structures:
                edges, shift = structure.edge_index, structure.edge_cell_shift
                if structure.overlap_blocks is None or edges is None or shift is None:
                    return None
                vectors = find_bonds(structure.atoms, edges, shift).vectors
                numbers = structure.atoms.numbers
                samples.append(OverlapSample(numbers, edges, vectors, structure.overlap_blocks))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnusualDataWarning)  # the card says it
                errors = measure_overlap_errors(table, samples)
        compared = {"compared": errors.describe(), "code": common["version"]}
        write_overlap_table(self.folder / OVERLAP, table, compared)
        return errors


def list_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings are not what they were, as plain data."""
    return [
        f"{key} {now.get(key)!r} instead of {before.get(key)!r}"
        for key in [*before, *(key for key in now if key not in before)]
        if before.get(key) != now.get(key)
    ]
